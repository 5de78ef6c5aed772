"""What a search sends to a server, for people who want to send it themselves."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """One HTTP request: path with parameters, and the body, in JSON or several lines of it."""

    method: str
    path: str
    body: str
