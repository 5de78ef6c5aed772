"""Ends a run in which nothing comes back: a server that answers every photo with an error will not change."""

from collections.abc import Sequence
from threading import Lock

from vlm4rec_search.common.cache.cache import Result
from vlm4rec_search.common.cache.policy import EarlierError
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.datasets.photos.locate import PhotoError

IN_A_ROW = 40


class Breaker:
    """Counts calls that failed one after the other; several threads may report to it.

    What is wrong with single photos does not count: files that cannot be read say nothing of the captioner, and a
    refusal or an empty answer shows that it works.
    """

    def __init__(self, maker: str) -> None:
        self._maker, self._count, self._last = maker, 0, ""
        self._lock = Lock()

    def see(self, results: Sequence[Result]) -> None:
        """Look at the results of a batch, which are kept whatever they are."""
        with self._lock:
            for result in results:
                if isinstance(result, PhotoError):
                    continue
                failure = None if isinstance(result, bytes) else EarlierError.of(result)
                failed = failure is not None and failure.status == "failed"
                self._count, self._last = (self._count + 1, str(failure)) if failed else (0, "")

    def check(self) -> None:
        """Refuse to call once more.

        Raises:
            RunError: the last `IN_A_ROW` calls have failed.
        """
        if self._count >= IN_A_ROW:
            raise RunError(
                f"{self._maker}: {self._count} calls in a row failed ({self._last}): what was done is kept; when that"
                " is mended, `vlm4rec captions retry` asks for these again, and `run` for the rest"
            )
