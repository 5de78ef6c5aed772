"""Top k of many users at once: scores in blocks, a bound of the k-th best, and a sort of what reaches it."""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from vlm4rec_search.common.vectors import Ints, Mask, Scores
from vlm4rec_search.evaluation.data import Split

NOBODY = -1
CELLS = 8_000_000  # scores held at once: 32 MB
_MANY = 4  # times k values above a bound, from which on the k-th largest itself is found
_GROUPS = 4  # times k groups, so that an eighth more than k values reach the bound


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
    that are hidden (b, n). The result is exact also with ties: all cells that reach a bound of the k-th largest value
    are sorted.
    """
    _forbid(values, candidates, hidden)
    rows, columns = values.shape
    found = np.full((rows, k), NOBODY, dtype=np.int64)
    lowest = np.maximum(bound_of_top(values, k), np.finfo(np.float32).min)  # -inf is never ranked
    reached = values >= lowest[:, None]
    many = np.flatnonzero(np.count_nonzero(reached, axis=1) > _MANY * k)  # a few scores among equal ones, such as zeros
    if len(many) and k < columns:
        kth = np.partition(values[many], columns - k, axis=1)[:, columns - k]
        reached[many] = values[many] >= np.maximum(kth, lowest[many])[:, None]
    row, column = np.divmod(np.flatnonzero(reached), columns)
    order = np.lexsort((column, -values[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    kept = place < k
    found[row[kept], place[kept]] = column[kept]
    return found


def bound_of_top(values: Scores, k: int) -> Scores:
    """Return for each row a number that k or more of its values reach, (b,): often a little below the k-th largest.

    It is the k-th largest of the maxima of groups of columns, since a partition of whole rows takes ten times as long.
    Rows of at most k values get -inf.

    Args:
        values: (b, n), without NaN.
        k: 1 or more.
    """
    rows, columns = values.shape
    groups = _GROUPS * k
    if columns <= k:
        return np.full(rows, -np.inf, dtype=np.float32)
    if columns < 2 * groups:
        return np.partition(values, columns - k, axis=1)[:, columns - k]
    maxima = values[:, :groups].copy()
    for low in range(groups, columns - groups + 1, groups):  # the last columns may stay out: a bound needs no more
        np.maximum(maxima, values[:, low : low + groups], out=maxima)
    return np.partition(maxima, groups - k, axis=1)[:, groups - k]


def _forbid(values: Scores, candidates: Mask | None, hidden: sparse.csr_array | None) -> None:
    if candidates is not None and not candidates.all():
        values[:, ~candidates] = -np.inf
    if hidden is not None:
        values[np.repeat(np.arange(len(values)), np.diff(hidden.indptr)), hidden.indices] = -np.inf
    if np.isnan(values.sum()):  # a sum sees a NaN without a second array; inf - inf is one, too
        values[np.isnan(values)] = -np.inf
