"""One or several servers of the same model: which one gets the next request, and which ones rest for a while."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Generic, TypeVar

from vlm4rec_search.captioning.captioners.openai.rate_limit import RateLimiter
from vlm4rec_search.captioning.captioners.openai.responses import (
    PATIENCE,
    BusyError,
    TransientError,
    UnreachableError,
)
from vlm4rec_search.common.errors import RunError

T = TypeVar("T")

FAILURES_IN_A_ROW = 3
"""A server that fails so often in a row rests. Fewer failures may be due to the photos."""
FIRST_REST, REST_GROWTH, LONGEST_REST = 0.5, 1.5, 2.0
"""Seconds of the first rest, factor from one rest to the next until a request succeeds, and most seconds.

They are short, since a request that fails costs little, and a server that is up again should not wait.
"""
PATIENT_RESTS = 12
"""The run ends when each server was without a connection after so many rests, about 20 seconds."""


@dataclass(eq=False)
class Server(Generic[T]):
    """A server and what is known of its state.

    Attributes:
        name: scheme, host and port, for messages.
        client: what sends the requests.
        limiter: of the requests to this server.
        outstanding: number of requests that it is answering.
        failures: number of failed requests since the last good one.
        rests: number of rests since the last good request. A server that rested gets one request until one succeeds.
        resting_until: time at which the rest ends.
        is_reachable: whether the last request got a connection.
        pause_reason: what the server said when it last asked for a pause.
    """

    name: str
    client: T
    limiter: RateLimiter
    outstanding: int = 0
    failures: int = 0
    rests: int = 0
    resting_until: float = 0.0
    is_reachable: bool = True
    pause_reason: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether it accepted no connection after `PATIENT_RESTS` rests."""
        return not self.is_reachable and self.rests >= PATIENT_RESTS


class Fleet(Generic[T]):
    """Lends servers to many threads: the one with the fewest outstanding requests, at most `slots` on each.

    A single server does not rest, since there is no other one: its limiter keeps the pauses that it asks for.

    Args:
        servers: at least one.
        slots: most requests at once on a server.
        clock: time in seconds.
    """

    def __init__(self, servers: Collection[Server[T]], slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.servers, self._slots, self._clock = list(servers), slots, clock
        self._changed = Condition()

    @property
    def is_single(self) -> bool:
        """Whether there is one server only."""
        return len(self.servers) == 1

    @property
    def is_unreachable(self) -> bool:
        """Whether no server accepted a connection after `PATIENT_RESTS` rests of each."""
        return all(server.is_gone for server in self.servers)

    @contextmanager
    def lend(self, tried: Collection[Server[T]] = ()) -> Iterator[tuple[Server[T], float]]:
        """Yield a server for one request, and the seconds for which all servers that were awake had enough to do.

        It waits until there is one.

        Args:
            tried: servers that failed this request; another one is preferred unless all others rest.

        Raises:
            UnreachableError: no server can be reached.
            RunError: every server that can be reached asks for a pause of more than `PATIENCE` seconds.
        """
        queued = 0.0
        with self._changed:
            while (server := self._choose(tried)) is None:
                began = self._clock()
                is_awake = any(server.resting_until <= began for server in self.servers)
                self._changed.wait(self._seconds_to_wait())
                queued += self._clock() - began if is_awake else 0.0
            server.outstanding += 1
        try:
            yield server, queued
        finally:
            with self._changed:
                server.outstanding -= 1
                self._changed.notify_all()

    def succeeded(self, server: Server[T]) -> None:
        """Count a request that the server answered, be it with an error that concerns this photo alone."""
        with self._changed:
            server.failures = server.rests = 0
            server.is_reachable = True
            self._changed.notify_all()

    def failed(self, server: Server[T], error: TransientError) -> None:
        """Count a failed request, and let the server rest where that helps.

        Raises:
            RunError: as in `lend`.
        """
        with self._changed:
            server.failures += 1
            server.is_reachable = not isinstance(error, UnreachableError)
            pause = error.seconds if isinstance(error, BusyError) else None
            now = self._clock()
            if pause is not None and (pause > PATIENCE or not self.is_single):
                server.resting_until = max(server.resting_until, now + pause)
                server.pause_reason = str(error)
                self._end_long_rests(now)
            elif self.is_single:
                server.limiter.pause(pause or 0.0)
            elif server.resting_until <= now and (
                server.rests or not server.is_reachable or server.failures >= FAILURES_IN_A_ROW
            ):
                server.resting_until = now + min(FIRST_REST * REST_GROWTH**server.rests, LONGEST_REST)
                server.rests += 1

    def _choose(self, tried: Collection[Server[T]]) -> Server[T] | None:
        if self.is_unreachable:
            raise UnreachableError(f"none of the {len(self.servers)} servers accepts a connection")
        now = self._clock()
        self._end_long_rests(now)
        awake = [server for server in self.servers if server.resting_until <= now]
        preferred = [server for server in awake if server not in tried] or awake
        free = [server for server in preferred if server.outstanding < (1 if server.rests else self._slots)]
        return min(free, key=lambda server: server.outstanding, default=None)

    def _end_long_rests(self, now: float) -> None:
        """Raise RunError where nothing is left but servers that rest for longer than any request waits."""
        resting = [server for server in self.servers if server.resting_until - now > PATIENCE]
        if resting and all(server.is_gone for server in self.servers if server not in resting):
            first = min(resting, key=lambda server: server.resting_until)
            others = "" if self.is_single else ", and no other server answers sooner"
            raise RunError(
                f"{first.name} asks for a pause of {first.resting_until - now:.0f} s ({first.pause_reason}){others}:"
                " earlier captions are kept"
            )

    def _seconds_to_wait(self) -> float | None:
        now = self._clock()
        rests = [server.resting_until - now for server in self.servers if server.resting_until > now]
        return min(rests, default=None)
