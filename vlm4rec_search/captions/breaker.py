"""Ends a run in which nothing comes back: a server that answers every photo alike with an error will not change."""

from collections.abc import Sequence
from threading import Lock

from vlm4rec_search.cache import Result
from vlm4rec_search.errors import RunError
from vlm4rec_search.fills import EarlierError
from vlm4rec_search.photo_files import PhotoError

IN_A_ROW = 40


class Breaker:
    """Counts calls that failed one after the other for the same reason; several threads may report to it.

    What is wrong with single photos is no reason: files that cannot be read say nothing of the captioner, and a refusal
    or an empty answer shows that it works. Reasons are the same up to their first colon: "tried 6 times", "400".
    """

    def __init__(self, maker: str) -> None:
        self._maker, self._reason, self._count = maker, "", 0
        self._lock = Lock()

    def see(self, results: Sequence[Result]) -> None:
        """Look at the results of a batch.

        Raises:
            RunError: `IN_A_ROW` calls have failed alike; the results of this batch are not kept, and are pending.
        """
        with self._lock:
            for result in results:
                if not isinstance(result, PhotoError):
                    self._one(result)

    def _one(self, result: Result) -> None:
        failure = None if isinstance(result, bytes) else EarlierError.of(result)
        reason = str(failure).split(":")[0] if failure and failure.status == "failed" else ""
        self._count = self._count + 1 if reason and reason == self._reason else int(bool(reason))
        self._reason = reason
        if self._count >= IN_A_ROW:
            raise RunError(
                f"{self._maker}: {self._count} calls in a row failed ({failure}): what was done is kept; when that is "
                "mended, `vlm4rec captions retry` asks for these again, and `run` for the rest"
            )
