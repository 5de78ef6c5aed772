"""What a fill of the cache may do, and what it gives back."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vlm4rec_search.errors import RunError
from vlm4rec_search.ledger import LedgerRow
from vlm4rec_search.progress import Show, lines
from vlm4rec_search.spending import Meter

T = TypeVar("T")

Result = bytes | Exception
Compute = Callable[[Sequence[int]], Sequence[Result]]


class EarlierError(Exception):
    """What failed in an earlier run: a word for it (`status`), the reason, and what was answered ("" for nothing)."""

    def __init__(self, status: str, message: str, text: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.text = text

    @classmethod
    def of(cls, error: Exception) -> "EarlierError":
        """Describe an exception; one with a `status` speaks for itself, any other is `failed`."""
        status, text = getattr(error, "status", None), getattr(error, "text", "")
        return cls(status, str(error), text) if status else cls("failed", f"{type(error).__name__}: {error}")


class PendingError(Exception):
    """Not computed yet: it lay outside of what a run was allowed to compute."""


@dataclass(frozen=True)
class Effort:
    """What a fill may do.

    Attributes:
        limit: most results to compute, in the order of the keys; None for no limit.
        failed: whether what failed before is tried again.
        again: keys to compute though there is a result, which stays where the new call fails.
        workers: batches computed at once, in threads.
        origin: who fills, for the ledger: plan, or the command that fills ahead of it.
        meter: counts tokens and says when the money is spent; `compute` adds to it.
        show: how progress is shown.
    """

    limit: int | None = None
    failed: bool = True
    again: Collection[str] = ()
    workers: int = 1
    origin: str = "plan"
    meter: Meter = field(default_factory=Meter)
    show: Show = lines


@dataclass(frozen=True)
class Filled:
    """The results of a fill, one for each key in the caller's order, and the counts of distinct keys."""

    values: list[Result]
    computed: int
    cached: int
    failed: int


def result_key(*parts: str) -> str:
    """Return the sha256 (hex) of the parts as a JSON list, which no two different lists share."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def affordable(tasks: Iterator[Sequence[int]], row: LedgerRow, meter: Meter) -> Iterator[Sequence[int]]:
    """Yield batches for as long as the meter has room for them and for those that are not answered yet."""
    given = 0
    for batch in tasks:
        given += len(batch)
        if not meter.allows(given - row.computed - row.failed):
            return
        yield batch


def batches(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the entries in order, at most `size` at a time."""
    return (entries[start : start + size] for start in range(0, len(entries), size))


def checked(results: Sequence[Result], expected: int, maker: str) -> Sequence[Result]:
    """Return the results of a batch.

    Raises:
        RunError: there are not as many as were asked for.
    """
    if len(results) != expected:
        raise RunError(f"{maker} returned {len(results)} results for a batch of {expected}: this is a defect in it")
    return results
