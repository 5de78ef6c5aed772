"""What a fill of the cache may do, and what it gives back."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vlm4rec_search.common.cache.spending import Meter
from vlm4rec_search.common.progress import Show, lines

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
    """The results of a fill, one for each key in the caller's order, and the counts of distinct keys.

    `left` counts those that were not computed because the meter allowed no more.
    """

    values: list[Result]
    computed: int
    cached: int
    failed: int
    left: int = 0


def result_key(*parts: str) -> str:
    """Return the sha256 (hex) of the parts as a JSON list, which no two different lists share."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def batches(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the entries in order, at most `size` at a time."""
    return (entries[start : start + size] for start in range(0, len(entries), size))
