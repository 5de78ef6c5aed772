"""Limits per minute that many threads keep together."""

import time
from collections.abc import Callable
from threading import Lock

MINUTE = 60.0
_NO_TIME = 1e-6


class TokenBucket:
    """Lets `per_minute` units a minute pass, spread evenly, with bursts of one second's worth (or of one unit).

    The bucket holds `burst` = max(1, per_minute / 60) units and gains (per_minute - per_minute / 60) / 60 a second,
    so that any 60 seconds see at most `per_minute` units where each call takes one; a single call that takes more
    than `burst` can exceed it by what it takes. `clock` is in seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._burst = max(1.0, per_minute / MINUTE)
        self._rate = (per_minute - per_minute / MINUTE) / MINUTE
        self._clock = clock
        self._lock = Lock()
        self._level, self._seen = self._burst, clock()

    def lacks(self, units: float) -> float:
        """Return the seconds until so many units are there, or a full bucket if they are more than it holds."""
        with self._lock:
            self._refill()
            return max(0.0, (min(units, self._burst) - self._level) / self._rate)

    def give(self, units: float) -> None:
        """Put back what was reserved and not used; less than 0 takes more without waiting for it."""
        with self._lock:
            self._refill()
            self._level = min(self._burst, self._level + units)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._seen) * self._rate)
        self._seen = now


class Pause:
    """A time before which nobody calls: what a server asks of one caller with Retry-After, it asks of all."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = clock()

    def extend(self, seconds: float) -> None:
        """Let nobody pass for that many seconds from now."""
        self._until = max(self._until, self._clock() + seconds)

    @property
    def left(self) -> float:
        """Seconds until it is over, 0 when there is none."""
        return max(0.0, self._until - self._clock())


class Gate:
    """Lets calls through, one after the other, as limits per minute and pauses allow; None is no limit.

    Nothing is taken before it is there and no pause is on: calls that took their units early and then waited through a
    pause would all go at its end, and the limits would not hold. `clock` and `sleep` are in seconds.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.pause, self._sleep = Pause(clock), sleep
        self._requests = TokenBucket(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = TokenBucket(tokens_per_minute, clock) if tokens_per_minute else None
        self._turn = Lock()

    def enter(self, tokens: int) -> None:
        """Wait until a request of so many tokens may go."""
        pairs = ((self._requests, 1.0), (self._tokens, float(tokens)))
        wanted = [(bucket, units) for bucket, units in pairs if bucket]
        with self._turn:
            # a rest of a rounding error is no wait: a clock may not even move for it
            while (wait := max(self.pause.left, *(bucket.lacks(units) for bucket, units in wanted), 0.0)) > _NO_TIME:
                self._sleep(wait)
            for bucket, units in wanted:
                bucket.give(-units)

    def correct(self, tokens: int) -> None:
        """Give back so many tokens that a request did not take; less than 0 are those that it took besides."""
        if self._tokens:
            self._tokens.give(tokens)
