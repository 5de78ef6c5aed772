"""The pace of a shop: after how many days what shoppers take has changed by half.

A giftware shop before Christmas changes within weeks, a shop of spare parts hardly ever. The half-lives of vectors,
words and histories follow from the pace (models/profiles/pace.sql), so that it has to fit the shop. It is chosen on the
shop's own history: EASE with half-lives in proportion to each pace predicts what shoppers took next, in several
windows. How far back similar shoppers, co-purchases and popularity look is then tried with each of them, in the same
windows.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from vlm4rec_search.common.cores import map_on_cores
from vlm4rec_search.common.vectors import Floats, Scores
from vlm4rec_search.profiles.ease import solve_normal
from vlm4rec_search.profiles.neighbours import similar_items
from vlm4rec_search.profiles.shoppers import Similarity
from vlm4rec_search.profiles.taken import Events
from vlm4rec_search.profiles.trials import FEWEST_SHOPPERS, USERS, Window, choose_near, windows

EVER = 36_500.0  # days: nothing is forgotten
_DURATIONS = (7.0, 15.0, 30.0, 90.0, 180.0, EVER)
TRIED: Mapping[str, tuple[float, ...]] = {
    "pace_days": (7.0, 20.0, 60.0, 180.0, EVER),
    "regularisation": (3.0, 30.0, 300.0, 1_000.0),
    "shoppers_half_life_days": _DURATIONS,
    "co_purchase_days": _DURATIONS,
    "popularity_days": _DURATIONS,
}
USUAL: Mapping[str, float] = {
    "pace_days": 60.0,
    "regularisation": 300.0,
    "shoppers_half_life_days": 30.0,
    "co_purchase_days": EVER,
    "popularity_days": 30.0,
}
"""What a shop leaves only for something better; with too little history, it stays without trials."""
HISTORY, TAKEN, SHOPPER = 6.0, 1.0, 4.0  # half-lives of EASE in paces: of what predicts, is predicted, and asks

_ITEMS = 1_000  # bounds the time: a few seconds for any shop


def choose_pace(events: Events) -> pd.DataFrame:
    """Return the trials of each parameter in `TRIED`; one value of each is chosen.

    Paces and regularisations are tried in turn and twice, the other durations once at the chosen pace. A trial's `ndcg`
    is the mean nDCG@10 over the shoppers of all windows. The value nearest to the usual one is chosen that is within
    one standard error of the best (`trials.choose_near`). Without `FEWEST_SHOPPERS` shoppers the usual values are
    chosen, with `ndcg` missing.

    To prefer what forgets nothing was tried: small shops then forgot nothing for want of evidence. In ten shops with a
    tenth of the shoppers of Online Retail each, EASE had a mean nDCG@10 of 0.082 on the test part, and 0.093 this way;
    in four simulated shops whose tastes stay the same 0.150 and 0.147. In logs of pure chance about a third of the
    parameters leave the usual value, which costs nothing there.

    Args:
        events: who took what, and how long ago each time.

    Returns:
        parameter (a key of `USUAL`), value, shoppers, ndcg, chosen.
    """
    past = list(windows(events.some_users(USERS), _ITEMS))
    # What EASE sums grows with the shoppers: a strength that suits a sample has to grow likewise.
    scale = max(1.0, len(events.user_ids) / USERS)
    shoppers = sum(len(window.asked) for window in past)
    if shoppers < FEWEST_SHOPPERS:
        return _table([(name, value, shoppers, None, True) for name, value in USUAL.items()])
    ndcg = _Predictions(past)
    paces, strengths = TRIED["pace_days"], TRIED["regularisation"]
    pace = choose_near(USUAL["pace_days"], {each: ndcg(each, USUAL["regularisation"]) for each in paces})
    strength = choose_near(USUAL["regularisation"], {each: ndcg(pace, each) for each in strengths})
    tried = {"pace_days": {each: ndcg(each, strength) for each in paces}}
    pace = choose_near(USUAL["pace_days"], tried["pace_days"])
    tried["regularisation"] = {each: ndcg(pace, each) for each in strengths}
    predictors: Mapping[str, Callable[[Window], Callable[[float], Scores]]] = {
        "shoppers_half_life_days": partial(_by_shoppers, pace),
        "co_purchase_days": partial(_by_co_purchases, pace),
        "popularity_days": _by_popularity,
    }
    for name, predictor in predictors.items():
        of_windows = map_on_cores(partial(_ndcg_by_days, predictor, TRIED[name]), past)
        tried[name] = {days: np.concatenate([each[days] for each in of_windows]) for days in TRIED[name]}
    chosen = {name: choose_near(USUAL[name], values) for name, values in tried.items()}
    return _table(
        [
            (
                name,
                value * (scale if name == "regularisation" else 1.0),
                shoppers,
                float(each.mean()),
                value == chosen[name],
            )
            for name, values in tried.items()
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
                self._products[pace] = map_on_cores(partial(_products, pace), self._windows)
            both = list(zip(self._windows, self._products[pace], strict=True))
            values = map_on_cores(partial(_ndcg_of, pace, regularisation), both)
            self._known[pace, regularisation] = np.concatenate(values)
        return self._known[pace, regularisation]


def _table(rows: list[tuple[str, float, int, float | None, bool]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["parameter", "value", "shoppers", "ndcg", "chosen"])


def _products(pace: float, window: Window) -> tuple[Scores, Scores]:
    history, taken = window.before.matrix(HISTORY * pace), window.before.matrix(TAKEN * pace)
    return (history.T @ history).toarray(), (history.T @ taken).toarray()


def _ndcg_of(pace: float, regularisation: float, asked: tuple[Window, tuple[Scores, Scores]]) -> Floats:
    """Return nDCG@10 of the shoppers of a window by EASE from its products, float64 (a,)."""
    window, (gram, shared) = asked
    weights = solve_normal(gram.copy(), shared, regularisation)
    scores: Scores = np.asarray(window.before.matrix(SHOPPER * pace)[window.asked] @ weights)
    return window.ndcg(scores)


def _ndcg_by_days(
    predictor: Callable[[Window], Callable[[float], Scores]], tried: tuple[float, ...], window: Window
) -> dict[float, Floats]:
    """Return nDCG@10 of the shoppers of a window, float64 (a,), by days."""
    scores = predictor(window)
    return {days: window.ndcg(scores(days)) for days in tried}


def _by_shoppers(pace: float, window: Window) -> Callable[[float], Scores]:
    """Return what similar shoppers took, (asked, n), by the half-life of what they took."""
    similarity = Similarity(window.before, HISTORY * pace)
    nearest = similarity.nearest(window.asked)
    return lambda days: (nearest @ similarity.recent(days)).toarray()


def _by_co_purchases(pace: float, window: Window) -> Callable[[float], Scores]:
    """Return sums of similarities with the items of histories, (asked, n), by the days that count."""
    histories = window.before.matrix(pace)[window.asked]
    return lambda days: (histories @ similar_items(window.before.within(days))).toarray()


def _by_popularity(window: Window) -> Callable[[float], Scores]:
    """Return first purchases in the last days, (asked, n), of equal ones those of all time, by the days."""
    before, size = window.before, len(window.before.item_ids)
    ever = np.bincount(before.items, minlength=size)

    def scores(days: float) -> Scores:
        recent = np.bincount(before.items[before.first < days], minlength=size)
        return np.broadcast_to((recent + ever / (1.0 + ever.max())).astype(np.float32), window.seen.shape)

    return scores
