"""Limits per minute that many threads keep together."""

import time
from collections.abc import Callable
from threading import Lock

MINUTE = 60.0


class TokenBucket:
    """Lets `per_minute` units a minute pass, spread evenly, with bursts of one second's worth (or of one unit).

    The bucket holds `burst` = max(1, per_minute / 60) units and gains (per_minute - per_minute / 60) / 60 a second,
    so that any 60 seconds see at most `per_minute` units where each call takes one; a single call that takes more
    than `burst` can exceed it by what it takes. `clock` and `sleep` are in seconds.
    """

    def __init__(
        self,
        per_minute: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._burst = max(1.0, per_minute / MINUTE)
        self._rate = (per_minute - per_minute / MINUTE) / MINUTE
        self._clock, self._sleep = clock, sleep
        self._lock = Lock()
        self._level, self._seen = self._burst, clock()

    def take(self, units: float = 1.0) -> None:
        """Reserve units and sleep until they are there; calls are served in the order in which they reserve."""
        with self._lock:
            self._refill()
            self._level -= units
            wait = -self._level / self._rate
        if wait > 0:
            self._sleep(wait)

    def give(self, units: float) -> None:
        """Put back what was reserved and not used; less than 0 takes more without waiting for it."""
        with self._lock:
            self._refill()
            self._level += units

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._seen) * self._rate)
        self._seen = now


class Pause:
    """A time before which nobody calls: what a server asks of one caller with Retry-After, it asks of all."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._until = clock()

    def extend(self, seconds: float) -> None:
        """Let nobody pass for that many seconds from now."""
        self._until = max(self._until, self._clock() + seconds)

    def wait(self) -> None:
        """Sleep until the pause is over, also where it is extended meanwhile."""
        while (left := self._until - self._clock()) > 0:
            self._sleep(left)
