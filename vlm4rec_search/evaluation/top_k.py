"""Top k of many users at once: scores in blocks, a partition at the k-th best, and a sort of the best."""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from vlm4rec_search.common.vectors import Ints, Mask, Scores
from vlm4rec_search.evaluation.data import Split

NOBODY = -1
CELLS = 8_000_000  # scores held at once: 32 MB


def rank(
    scores: Callable[[Ints], Scores], split: Split, users: Ints, k: int, advance: Callable[[int], None] | None = None
) -> Ints:
    """Return the best k candidates of each user, by rank.

    Args:
        scores: users (b,) to scores (b, n); -inf or NaN is never ranked.
        split: its candidates are ranked, without those that it excludes for the user unless `repeat`.
        users: (u,) rows of the split's users.
        k: at most so many; more than there are candidates is no error.
        advance: told the number of users done.

    Returns:
        (u, k) rows of items, best first, equal scores by item; `NOBODY` (-1) where a list is shorter.
    """
    found = np.full((len(users), k), NOBODY, dtype=np.int64)
    step = max(1, CELLS // max(1, split.shape[1]))
    for low in range(0, len(users), step):
        block = users[low : low + step]
        values = np.asarray(scores(block), dtype=np.float32)
        hidden = None if split.repeat else split.excluded[block]
        found[low : low + step] = top_k(values, k, split.candidates, hidden)
        if advance:
            advance(len(block))
    return found


def top_k(values: Scores, k: int, candidates: Mask | None = None, hidden: sparse.csr_array | None = None) -> Ints:
    """Return the columns of the k largest values of each row, best first, equal values by column.

    `values` (b, n) is overwritten where something may not be ranked: columns that are no candidates (n,), and cells
    that are hidden (b, n). The result is exact also with ties: a partition finds the k-th largest value, and all cells
    that reach it are sorted.
    """
    _forbid(values, candidates, hidden)
    rows, columns = values.shape
    found = np.full((rows, k), NOBODY, dtype=np.int64)
    lowest = np.full(rows, -np.inf, dtype=np.float32)
    if k < columns:
        lowest = np.partition(values, columns - k, axis=1)[:, columns - k]
    lowest = np.maximum(lowest, np.finfo(np.float32).min)  # -inf is never ranked
    row, column = np.divmod(np.flatnonzero(values >= lowest[:, None]), columns)
    order = np.lexsort((column, -values[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    kept = place < k
    found[row[kept], place[kept]] = column[kept]
    return found


def _forbid(values: Scores, candidates: Mask | None, hidden: sparse.csr_array | None) -> None:
    if candidates is not None and not candidates.all():
        values[:, ~candidates] = -np.inf
    if hidden is not None:
        values[np.repeat(np.arange(len(values)), np.diff(hidden.indptr)), hidden.indices] = -np.inf
    if np.isnan(values.sum()):  # a sum sees a NaN without a second array; inf - inf is one, too
        values[np.isnan(values)] = -np.inf
