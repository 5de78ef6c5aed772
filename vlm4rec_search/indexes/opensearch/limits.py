"""How long a search waits for a server."""

from dataclasses import dataclass

from vlm4rec_search.common.settings import Settings


@dataclass(frozen=True)
class Limits:
    """How long a search waits for a server, in seconds; the defaults are those of the settings.

    Attributes:
        deadline: for the whole search.
        connect: for a connection.
        read: for the next bytes of an answer.
    """

    deadline: float = 10.0
    connect: float = 2.0
    read: float = 5.0

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits of the settings."""
        return cls(settings.search_deadline, settings.search_connect_timeout, settings.search_read_timeout)


LIMITS = Limits()
