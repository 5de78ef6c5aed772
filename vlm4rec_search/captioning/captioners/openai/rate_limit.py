"""Limits of requests and tokens per minute, shared by many threads.

pyrate-limiter is no substitute: it has no way to give back reserved tokens that an answer did not need, it never admits
a request with more tokens than its limit, and it knows no pause during which nothing is taken.
"""

import time
from collections.abc import Callable
from threading import Lock

MINUTE = 60.0
_ROUNDING_ERROR = 1e-6
"""Seconds; a shorter wait is no wait, since the clock may not even advance during it."""


class TokenBucket:
    """Admits `per_minute` units a minute, spread evenly, with bursts of one second's worth (or of one unit).

    The bucket holds `burst` = max(1, per_minute / 60) units and gains (per_minute - per_minute / 60) / 60 a second.
    So any 60 seconds see at most `per_minute` units if each call takes one. A single call that takes more than `burst`
    exceeds the limit by the difference at most. `clock` returns seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._burst = max(1.0, per_minute / MINUTE)
        self._rate = (per_minute - per_minute / MINUTE) / MINUTE
        self._clock = clock
        self._lock = Lock()
        self._level, self._updated = self._burst, clock()

    def wait_for(self, units: float) -> float:
        """Return the seconds until the bucket has these units, or until it is full if they are more than it holds."""
        with self._lock:
            self._refill()
            return max(0.0, (min(units, self._burst) - self._level) / self._rate)

    def take(self, units: float) -> None:
        """Take units, below zero if necessary; a negative number puts units back."""
        with self._lock:
            self._refill()
            self._level = min(self._burst, self._level - units)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._updated) * self._rate)
        self._updated = now


class RateLimiter:
    """Admits calls one after the other, within the limits per minute and outside of pauses.

    Units are taken only when they are available and no pause is on. If calls took their units first and then waited for
    the end of a pause, all of them would start together and break the limits.

    Args:
        requests_per_minute, tokens_per_minute: the limits; None for no limit.
        clock, sleep: time in seconds.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._paused_until = clock()
        self._requests = TokenBucket(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = TokenBucket(tokens_per_minute, clock) if tokens_per_minute else None
        self._turn = Lock()

    def acquire(self, tokens: int) -> None:
        """Wait until a request with this number of tokens may start, and take its units."""
        demands = ((self._requests, 1.0), (self._tokens, float(tokens)))
        wanted = [(bucket, units) for bucket, units in demands if bucket]
        with self._turn:
            while (wait := self._longest_wait(wanted)) > _ROUNDING_ERROR:
                self._sleep(wait)
            for bucket, units in wanted:
                bucket.take(units)

    def give_back(self, tokens: int) -> None:
        """Return reserved tokens that a request did not use; a negative number takes those that it used in addition."""
        if self._tokens:
            self._tokens.take(-tokens)

    def pause(self, seconds: float) -> None:
        """Admit no call for this time: a Retry-After that one caller receives applies to all of them."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _longest_wait(self, wanted: list[tuple[TokenBucket, float]]) -> float:
        waits = [bucket.wait_for(units) for bucket, units in wanted]
        return max(self._paused_until - self._clock(), *waits, 0.0)
