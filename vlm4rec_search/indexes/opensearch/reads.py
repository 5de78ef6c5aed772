"""Reads of a search: time-outs, repetitions within a deadline, and a circuit breaker.

A read changes nothing, so that it can be repeated. It is repeated while time is left, after pauses of random length,
when the server did not answer or is busy. A server that fails many times in a row is left alone for a while.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from opensearchpy import exceptions
from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.wait import wait_random_exponential
from urllib3 import Timeout

from vlm4rec_search.indexes.opensearch.connection import TRANSIENT_STATUSES, describe_refusal
from vlm4rec_search.indexes.opensearch.limits import Limits
from vlm4rec_search.search.backend import UnavailableError

BUSY = TRANSIENT_STATUSES - {500}  # after which the same read may succeed; a 500 usually comes again
FAILURES = 10  # in a row, after which the server is left alone
PAUSE = 1.0  # seconds for which it is
PARTLY = 3  # how often a request is sent of which a part fails again and again, before the rest answers
_BACK_OFF = wait_random_exponential(multiplier=0.05, max=1.0)
T = TypeVar("T")


class CircuitOpenError(UnavailableError):
    """The server is not asked, because it failed many times in a row."""


class PartlyAnsweredError(UnavailableError):
    """Some of the searches of a request were answered, and others were not.

    Attributes:
        answer: of the request.
    """

    def __init__(self, message: str, answer: Any) -> None:
        """Say why the others were not, and keep the answer."""
        super().__init__(message)
        self.answer = answer


class CircuitBreaker:
    """Stops asking a server that failed `FAILURES` times in a row; after each `PAUSE` one request tries it again.

    Several threads may use it at once.
    """

    def __init__(self) -> None:
        """Start closed: requests pass."""
        self._lock, self._failures, self._next_try = threading.Lock(), 0, 0.0
        self._reason: str | None = None

    def check(self) -> None:
        """Let a request pass.

        Raises:
            CircuitOpenError: the server failed too often, and another request tries it or has just tried it.
        """
        with self._lock:
            if self._failures < FAILURES:
                return
            now = time.monotonic()
            if now < self._next_try:
                raise CircuitOpenError(
                    f"the server failed {self._failures} times in a row and is left alone for a while; {self._reason}"
                )
            self._next_try = now + PAUSE

    def record(self, reason: str | None) -> None:
        """Count the outcome of a request that passed: None, or why it failed."""
        with self._lock:
            self._failures, self._reason = 0 if reason is None else self._failures + 1, reason
            if self._failures == FAILURES:
                self._next_try = time.monotonic() + PAUSE


@dataclass(frozen=True)
class Reads:
    """Sends reads until one succeeds or the time is over.

    Attributes:
        limits: of each read.
        breaker: shared by all searches of a backend.
        end: when the search has to be over, as `time.monotonic()`.
        repeats: whether a failed read is repeated.
    """

    limits: Limits
    breaker: CircuitBreaker
    end: float
    repeats: bool = True

    @classmethod
    def begin(cls, limits: Limits, breaker: CircuitBreaker) -> "Reads":
        """Return the reads of a search that begins now."""
        return cls(limits, breaker, time.monotonic() + limits.deadline)

    def share(self, part: float, repeats: bool = True) -> "Reads":
        """Return reads that may take a part (0 to 1) of the time that is left."""
        left = max(0.0, self.end - time.monotonic())
        return Reads(self.limits, self.breaker, self.end - (1.0 - part) * left, repeats)

    def timeout(self) -> Timeout:
        """Return the time-outs of a request that is sent now.

        Raises:
            UnavailableError: no time is left.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise UnavailableError(f"the server did not answer within the deadline of {self.limits.deadline:g} s")
        return Timeout(left, min(left, self.limits.connect), min(left, self.limits.read))

    def until_answered(self, read: Callable[[Timeout], T]) -> T:
        """Return what a read with these time-outs returns; it is repeated while the server is away or busy.

        Raises:
            CircuitOpenError: the server failed too often to be asked.
            UnavailableError: no time is left; or as the last read.
        """

        failed: list[str] = []

        def once() -> T:
            timeout = self.timeout()
            try:
                self.breaker.check()
            except CircuitOpenError:
                if failed:  # this read has seen for itself what is wrong
                    raise CircuitOpenError(failed[-1]) from None
                raise
            try:
                answer = read(timeout)
            except Exception as error:
                reason = _reason(error)
                failed.extend([reason] if reason else [])
                self.breaker.record(reason)
                raise
            self.breaker.record(None)
            return answer

        stop = self._is_over if self.repeats else (lambda _: True)
        retry = retry_if_exception(_is_repeated)
        return Retrying(retry=retry, stop=stop, wait=_BACK_OFF, reraise=True)(once)

    def _is_over(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, PartlyAnsweredError) and state.attempt_number >= PARTLY:
            return True
        return time.monotonic() + state.upcoming_sleep >= self.end


def _reason(error: Exception) -> str | None:
    """Return why the server does not work, None for an error of a server that works and refuses a request."""
    if isinstance(error, exceptions.TransportError) and error.status_code in BUSY:
        return f"the server refuses: {describe_refusal(error)}"
    if isinstance(error, PartlyAnsweredError):
        return None
    return str(error) if isinstance(error, UnavailableError) else None


def _is_repeated(error: BaseException) -> bool:
    if isinstance(error, exceptions.TransportError):
        return error.status_code in BUSY
    return isinstance(error, UnavailableError) and not isinstance(error, CircuitOpenError)
