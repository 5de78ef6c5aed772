"""What a search sends to a server, for people who want to send it themselves."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """One HTTP request: path with parameters, and the body, in JSON or several lines of it.

    Attributes:
        together: it is sent at the same time as the next one.
    """

    method: str
    path: str
    body: str
    together: bool = False
