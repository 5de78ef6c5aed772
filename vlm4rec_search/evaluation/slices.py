"""Parts of the users and of what they had to find: where does a system win, and where does it lose?"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from vlm4rec_search.evaluation.data import Mask, Split, Targets

LENGTHS = ((2, 4), (5, 19), (20, None))
AGES = ((0, 29), (30, 179), (180, None))
HEAD, TORSO = 0.1, 0.5  # shares of the items that anybody has taken, most taken first


class Slice(NamedTuple):
    """A part: what it is cut by, its name, and its targets."""

    by: str
    name: str
    targets: Targets


def cut(split: Split, targets: Targets) -> Iterator[Slice]:
    """Yield the parts that have a user: by length of the history, and by age and popularity of what was to be found."""
    lengths = np.diff(split.seen.indptr)[targets.users]
    for low, high in LENGTHS:
        kept = np.flatnonzero((lengths >= low) & (lengths <= (high or np.inf)))
        yield from _some("history", f"{_span(low, high)} items", _take(targets, kept))
    for by, name, items in (*_ages(split), *_popularity(split)):
        yield from _some(by, name, targets.within(items))


def _some(by: str, name: str, targets: Targets) -> Iterator[Slice]:
    if len(targets.users):
        yield Slice(by, name, targets)


def _take(targets: Targets, rows: "np.typing.NDArray[np.int64]") -> Targets:
    return Targets(targets.users[rows], sparse.csr_array(targets.relevant[rows]))


def _ages(split: Split) -> Iterator[tuple[str, str, Mask]]:
    """Yield items by the days from their first interaction to the cut."""
    new = split.popularity == 0
    first = np.where(new, split.as_of, split.first_seen)
    days = (split.as_of - first).astype("timedelta64[us]").astype(np.int64) / 86_400_000_000
    yield "item age", "never taken before", new
    for low, high in AGES:
        until = np.inf if high is None else high + 1
        yield "item age", f"{_span(low, high)} days", ~new & (days >= low) & (days < until)


def _popularity(split: Split) -> Iterator[tuple[str, str, Mask]]:
    taken = int((split.popularity > 0).sum())
    rank = np.empty(split.shape[1])
    rank[np.argsort(-split.popularity, kind="stable")] = np.arange(split.shape[1])
    known = split.popularity > 0
    yield "popularity", "head: top 10%", known & (rank < HEAD * taken)
    yield "popularity", "torso: next 40%", known & (rank >= HEAD * taken) & (rank < TORSO * taken)
    yield "popularity", "tail: the rest", known & (rank >= TORSO * taken)


def _span(low: int, high: int | None) -> str:
    return f"{low} or more" if high is None else f"{low} to {high}"
