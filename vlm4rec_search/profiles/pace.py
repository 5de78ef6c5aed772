"""The pace of a shop: after how many days what shoppers take has changed by half.

A giftware shop before Christmas changes within weeks, a shop of spare parts hardly ever. Every half-life and window of
the tables follows from the pace (models/profiles/pace.sql), so that it has to fit the shop. It is chosen on the shop's
own history: EASE with half-lives in proportion to each pace predicts what shoppers took next, in several windows.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.vectors import Floats, Ints, Mask, Scores, largest_columns
from vlm4rec_search.profiles.ease import solve_normal
from vlm4rec_search.profiles.taken import Taken

EVER = 36_500.0  # days: nothing is forgotten
PACES = (7.0, 20.0, 60.0, 180.0, EVER)
USUAL = 60.0  # where a shop has too little history to choose
REGULARISATIONS = (3.0, 30.0, 300.0)
USUAL_REGULARISATION = 30.0
HISTORY, TAKEN, SHOPPER = 6.0, 1.0, 4.0  # half-lives of EASE in paces: of what predicts, is predicted, and asks
FEWEST_SHOPPERS = 50  # with something to predict; with fewer the choice would be chance

_WINDOWS = (0.7, 0.8, 0.9)  # shares of the first purchases before each window
_LAST = 1.0
_USERS, _ITEMS, _ASKED = 10_000, 1_000, 500  # bound the time: a few seconds for any shop
_K = 10


class Window(NamedTuple):
    """A moment of the past: what was taken before, who is asked (a,), what they had (a, n) and took next (a, n)."""

    before: Taken
    asked: Ints
    seen: Mask
    next_items: sparse.csr_array


def choose_pace(likes: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of paces, and of regularisations at the chosen pace; one of each is chosen, in turn and twice.

    A trial's `ndcg` is the mean nDCG@10 over the shoppers of all windows. The longest pace, and then the largest
    regularisation, is chosen whose mean is within one standard error of the best (Breiman et al. 1984), so that a shop
    only forgets where that helps. Without `FEWEST_SHOPPERS` shoppers the usual values are chosen, with `ndcg` missing.

    Args:
        likes: user_id, item_id, days (age of the event).

    Returns:
        parameter (pace_days or regularisation), value, shoppers, ndcg, chosen.
    """
    taken = Taken.from_likes(likes)
    windows = list(_windows(taken.some_users(_USERS)))
    # What EASE sums grows with the shoppers: a strength that suits a sample has to grow likewise.
    scale = max(1.0, len(taken.user_ids) / _USERS)
    shoppers = sum(len(window.asked) for window in windows)
    if shoppers < FEWEST_SHOPPERS:
        usual = [("pace_days", USUAL), ("regularisation", USUAL_REGULARISATION)]
        return _table([(name, value, shoppers, None, True) for name, value in usual])
    ndcg = _Predictions(windows)
    pace = _choose({each: ndcg(each, USUAL_REGULARISATION) for each in PACES})
    strength = _choose({each: ndcg(pace, each) for each in REGULARISATIONS})
    paces = {each: ndcg(each, strength) for each in PACES}
    pace = _choose(paces)
    strengths = {each: ndcg(pace, each) for each in REGULARISATIONS}
    strength = _choose(strengths)
    tried = (("pace_days", paces, pace), ("regularisation", strengths, strength))
    return _table(
        [
            (name, value * (scale if name == "regularisation" else 1.0), shoppers, float(each.mean()), value == chosen)
            for name, values, chosen in tried
            for value, each in values.items()
        ]
    )


class _Predictions:
    """The nDCG@10 of every asked shopper for a pace and a regularisation; each pair is computed once."""

    def __init__(self, windows: list[Window]) -> None:
        self._windows = windows
        self._known: dict[tuple[float, float], Floats] = {}
        self._products: dict[float, list[tuple[Scores, Scores]]] = {}

    def __call__(self, pace: float, regularisation: float) -> Floats:
        if (pace, regularisation) not in self._known:
            if pace not in self._products:
                self._products = {pace: [_products(window.before, pace) for window in self._windows]}
            both = zip(self._windows, self._products[pace], strict=True)
            values = [
                _ndcg_of(window, pace, solve_normal(gram.copy(), shared, regularisation))
                for window, (gram, shared) in both
            ]
            self._known[pace, regularisation] = np.concatenate(values)
        return self._known[pace, regularisation]


def _table(rows: Sequence[tuple[str, float, int, float | None, bool]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["parameter", "value", "shoppers", "ndcg", "chosen"])


def _choose(values: dict[float, Floats]) -> float:
    """Return the largest value that is within one standard error of the best, paired over shoppers."""
    best = max(values, key=lambda value: float(values[value].mean()))
    for value in sorted(values, reverse=True):
        loss = values[best] - values[value]
        if value == best or loss.mean() <= loss.std() / np.sqrt(len(loss)):
            return value
    return best


def _windows(taken: Taken) -> Iterator[Window]:
    """Yield the windows, each with the shoppers who took a new item in it and two items before."""
    if not len(taken.first):
        return
    cuts = np.quantile(taken.first, [1.0 - share for share in (*_WINDOWS, _LAST)])
    for start, end in pairwise(cuts):
        before = taken.before(float(start)).popular_items(_ITEMS)
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
            seen = before.matrix(EVER)[asked].toarray() > 0
            yield Window(before, asked, seen, later[asked])


def _products(before: Taken, pace: float) -> tuple[Scores, Scores]:
    history, taken = before.matrix(HISTORY * pace), before.matrix(TAKEN * pace)
    return (history.T @ history).toarray(), (history.T @ taken).toarray()


def _ndcg_of(window: Window, pace: float, weights: Scores) -> Floats:
    before, asked, seen, later = window
    scores: Scores = np.asarray(before.matrix(SHOPPER * pace)[asked] @ weights)
    scores[seen] = -np.inf
    top = largest_columns(scores, _K)
    kept = top.shape[1]
    relevant = later.toarray()
    gains = np.take_along_axis(relevant, top, 1) / np.log2(np.arange(2.0, kept + 2.0))
    ideal = np.cumsum(1.0 / np.log2(np.arange(2.0, kept + 2.0)))
    counts = np.minimum(relevant.sum(axis=1).astype(np.int64), kept)
    return np.asarray(gains.sum(axis=1) / ideal[counts - 1], dtype=np.float64)
