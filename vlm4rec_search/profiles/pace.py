"""The pace of a shop: after how many days what shoppers take has changed by half.

A giftware shop before Christmas changes within weeks, a shop of spare parts hardly ever. Every half-life and window of
the tables follows from the pace (models/profiles/pace.sql), so that it has to fit the shop. It is chosen on the shop's
own history: EASE with half-lives in proportion to each pace predicts what shoppers took next, in several windows.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vlm4rec_search.common.vectors import Floats, Scores
from vlm4rec_search.profiles.ease import solve_normal
from vlm4rec_search.profiles.taken import Taken
from vlm4rec_search.profiles.trials import FEWEST_SHOPPERS, USERS, Window, choose, windows

EVER = 36_500.0  # days: nothing is forgotten
PACES = (EVER, 180.0, 60.0, 20.0, 7.0)  # the preferred one first, here and below
USUAL = 60.0  # where a shop has too little history to choose
REGULARISATIONS = (300.0, 30.0, 3.0)
USUAL_REGULARISATION = 30.0
HISTORY, TAKEN, SHOPPER = 6.0, 1.0, 4.0  # half-lives of EASE in paces: of what predicts, is predicted, and asks

_ITEMS = 1_000  # bounds the time: a few seconds for any shop


def choose_pace(taken: Taken) -> pd.DataFrame:
    """Return the trials of paces, and of regularisations at the chosen pace; one of each is chosen, in turn and twice.

    A trial's `ndcg` is the mean nDCG@10 over the shoppers of all windows. The longest pace, and then the largest
    regularisation, is chosen that is within one standard error of the best (`trials.choose`), so that a shop only
    forgets where that helps. Without `FEWEST_SHOPPERS` shoppers the usual values are chosen, with `ndcg` missing.

    Args:
        taken: who took what, and how long ago.

    Returns:
        parameter (pace_days or regularisation), value, shoppers, ndcg, chosen.
    """
    past = list(windows(taken.some_users(USERS), _ITEMS))
    # What EASE sums grows with the shoppers: a strength that suits a sample has to grow likewise.
    scale = max(1.0, len(taken.user_ids) / USERS)
    shoppers = sum(len(window.asked) for window in past)
    if shoppers < FEWEST_SHOPPERS:
        usual = [("pace_days", USUAL), ("regularisation", USUAL_REGULARISATION)]
        return _table([(name, value, shoppers, None, True) for name, value in usual])
    ndcg = _Predictions(past)
    pace = choose({each: ndcg(each, USUAL_REGULARISATION) for each in PACES})
    strength = choose({each: ndcg(pace, each) for each in REGULARISATIONS})
    paces = {each: ndcg(each, strength) for each in PACES}
    pace = choose(paces)
    strengths = {each: ndcg(pace, each) for each in REGULARISATIONS}
    strength = choose(strengths)
    tried = (("pace_days", paces, pace), ("regularisation", strengths, strength))
    return _table(
        [
            (name, value * (scale if name == "regularisation" else 1.0), shoppers, float(each.mean()), value == chosen)
            for name, values, chosen in tried
            for value, each in values.items()
        ]
    )


class _Predictions:
    """The nDCG@10 of every asked shopper for a pace and a regularisation; each pair is computed once.

    The products of all paces are kept, since each pace is asked for twice: 120 MB at most.
    """

    def __init__(self, windows: list[Window]) -> None:
        self._windows = windows
        self._known: dict[tuple[float, float], Floats] = {}
        self._products: dict[float, list[tuple[Scores, Scores]]] = {}

    def __call__(self, pace: float, regularisation: float) -> Floats:
        if (pace, regularisation) not in self._known:
            if pace not in self._products:
                self._products[pace] = [_products(window.before, pace) for window in self._windows]
            both = zip(self._windows, self._products[pace], strict=True)
            values = [
                _ndcg_of(window, pace, solve_normal(gram.copy(), shared, regularisation))
                for window, (gram, shared) in both
            ]
            self._known[pace, regularisation] = np.concatenate(values)
        return self._known[pace, regularisation]


def _table(rows: Sequence[tuple[str, float, int, float | None, bool]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["parameter", "value", "shoppers", "ndcg", "chosen"])


def _products(before: Taken, pace: float) -> tuple[Scores, Scores]:
    history, taken = before.matrix(HISTORY * pace), before.matrix(TAKEN * pace)
    return (history.T @ history).toarray(), (history.T @ taken).toarray()


def _ndcg_of(window: Window, pace: float, weights: Scores) -> Floats:
    scores: Scores = np.asarray(window.before.matrix(SHOPPER * pace)[window.asked] @ weights)
    return window.ndcg(scores)
