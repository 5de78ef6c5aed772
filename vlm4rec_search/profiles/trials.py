"""Trials on a shop's own history: what would a setting have predicted, in several windows of the past?"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import sparse

from vlm4rec_search.common.vectors import Floats, Ints, Mask, Scores, largest_columns
from vlm4rec_search.profiles.taken import Events, Taken

Setting = TypeVar("Setting")

FEWEST_SHOPPERS = 50  # of all windows; with fewer a choice would be chance
USERS = 10_000  # the most shoppers that are looked at
_WINDOWS = (0.7, 0.8, 0.9)  # shares of the first purchases before each window
_LAST = 1.0
_ASKED = 500  # shoppers of a window
_K = 10


class Window(NamedTuple):
    """A moment of the past: what was taken before, who is asked (a,), what they had (a, n) and took next (a, n)."""

    before: Taken
    asked: Ints
    seen: Mask
    next_items: sparse.csr_array

    def ndcg(self, scores: Scores) -> Floats:
        """Return nDCG@10 of scores (a, n) for every asked shopper, float64 (a,); seen items are left out.

        The gains are 0 and 1, the discount is 1 / log2(rank + 1) (Järvelin and Kekäläinen 2002).
        """
        top = largest_columns(np.where(self.seen, -np.inf, scores), _K)
        kept = top.shape[1]
        relevant = self.next_items.toarray()
        gains = np.take_along_axis(relevant, top, 1) / np.log2(np.arange(2.0, kept + 2.0))
        ideal = np.cumsum(1.0 / np.log2(np.arange(2.0, kept + 2.0)))
        counts = np.minimum(relevant.sum(axis=1).astype(np.int64), kept)
        return np.asarray(gains.sum(axis=1) / ideal[counts - 1], dtype=np.float64)


def windows(events: Events, items: int) -> Iterator[Window]:
    """Yield the windows, each with the shoppers who took a new item in it and two items before.

    Args:
        events: what was taken, and how long ago each time.
        items: the most items of a window; those that most shoppers took before are kept.
    """
    taken = events.before(0.0)
    if not len(taken.first):
        return
    cuts = np.quantile(taken.first, [1.0 - share for share in (*_WINDOWS, _LAST)])
    for start, end in pairwise(cuts):
        before = events.before(float(start)).popular_items(items)
        columns = np.searchsorted(before.item_ids, taken.item_ids)
        known = columns < len(before.item_ids)
        known[known] = before.item_ids[columns[known]] == taken.item_ids[known]
        new = (taken.first < start) & (taken.first >= end) & known[taken.items]
        cells = (np.ones(new.sum(), np.float32), (taken.users[new], columns[taken.items[new]]))
        later = sparse.coo_array(cells, shape=(len(taken.user_ids), len(before.item_ids))).tocsr()
        lengths = np.bincount(before.users, minlength=len(taken.user_ids))
        asked = np.flatnonzero((np.diff(later.indptr) > 0) & (lengths >= 2))
        if len(asked) > _ASKED:
            asked = asked[np.unique(np.linspace(0, len(asked) - 1, _ASKED).astype(np.int64))]
        if len(asked):
            seen = before.matrix(np.inf)[asked].toarray() > 0  # an infinite half-life: all weights are 1
            yield Window(before, asked, seen, later[asked])


def choose(values: Mapping[Setting, Floats]) -> Setting:
    """Return the first setting that is within one standard error of the best (Breiman et al. 1984).

    Args:
        values: of every setting, in the order in which settings are preferred, a value of each shopper; the shoppers
            are the same, so that the standard error is that of the paired difference.
    """
    best = max(values, key=lambda setting: float(values[setting].mean()))
    return next(setting for setting in values if setting == best or is_within_error(values[best] - values[setting]))


def choose_near(usual: float, values: Mapping[float, Floats]) -> float:
    """Return the value nearest to the usual one that is within one standard error of the best.

    Of several that are best, the one nearest to the usual one counts. Values beyond the best or on the other side of
    the usual one are left out, and those that are worse than it.

    Args:
        usual: one of the values.
        values: as in `choose`, in any order.
    """
    best = max(values, key=lambda value: (float(values[value].mean()), -abs(value - usual)))
    low, high = sorted((usual, best))
    least = float(values[usual].mean())
    towards_best = sorted((value for value in values if low <= value <= high), key=lambda value: abs(value - usual))
    return next(
        value
        for value in towards_best
        if value == best or (values[value].mean() >= least and is_within_error(values[best] - values[value]))
    )


def is_better(gain: Floats) -> bool:
    """Return whether the 95% interval of the mean of a paired difference lies above 0."""
    return bool(gain.mean() > 1.96 * gain.std() / np.sqrt(len(gain)))


def is_within_error(loss: Floats) -> bool:
    """Return whether the mean of a paired difference is at most one standard error."""
    return bool(loss.mean() <= loss.std() / np.sqrt(len(loss)))
