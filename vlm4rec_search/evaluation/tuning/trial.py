"""The steps by which a ranking is chosen over one set of tables, each judged on windows that have not made it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np

from vlm4rec_search.common.cores import map_on_cores
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.evaluation.significance import interval, resampled_means
from vlm4rec_search.evaluation.tuning.fitting import (
    NEAR,
    STEPS,
    Evaluator,
    Fit,
    by_length,
    equal_weights,
    only,
    vector_of,
)
from vlm4rec_search.evaluation.tuning.limits import WORTH, Limit, LimitCheck, Missing, Price
from vlm4rec_search.evaluation.tuning.sweep import as_vector, as_weights, judge, judge_diverse
from vlm4rec_search.evaluation.tuning.windows import Window, Windows
from vlm4rec_search.search.query import KINDS
from vlm4rec_search.search.ranking import Ranking, Weights

Change = Callable[[Fit], Ranking]
Origin = Literal["worth", "equal", "search"]

DEPTHS = (100, 200, 400)
DIVERSITIES = (0.1, 0.2, 0.3)
SHORT = (3, 10)  # items of histories that may get weights of their own
_SHARES = (1.0, 0.75, 0.5, 0.25)  # of the change of the weights that meets a limit, or comes nearest to it
FEWEST = 100  # shoppers of all windows; with fewer a choice would be chance


class Trial:
    """A ranking over one set of tables.

    It is fitted on all windows. What it and each change of it is worth is measured by cross-fitting: the same steps on
    the other windows make the ranking that is judged on a window.

    Attributes:
        start: what the ranking says beside its weights.
        windows: on which it is fitted and judged.
        ndcg: nDCG@10 of every shopper of the windows, each judged by a ranking that the other windows made.
        recall: R@10 likewise.
        exposure: what the top tens of the ranking show.
        prices: of limits that were met or came nearer, and of those that could be met.
        origin: of the weights: what each kind finds alone, all alike, or a search.
    """

    def __init__(self, start: Ranking, windows: Windows) -> None:
        """Weight each retriever by what it finds alone."""
        self.start, self.windows = start, windows
        self._exposures: dict[str, LimitCheck] = {}
        folds = windows.folds()
        self._held_out = [held_out for _, held_out in folds]
        self._whole, *self._fits = map_on_cores(partial(Fit, start), [windows, *(others for others, _ in folds)])
        self.ndcg, self.recall = self._judge([fit.ranking for fit in self._fits])
        self.exposure = self.exposure_of(self.ranking)
        self.prices: dict[Limit, Price] = {}
        self.origin: Origin = "worth"

    @property
    def ranking(self) -> Ranking:
        """The configuration, fitted on all windows."""
        return self._whole.ranking

    def is_better(self, other: "Trial") -> bool:
        """Return whether it is better beyond chance than a trial over other tables, and breaks no limit by more."""
        return lowest(self.ndcg - other.ndcg) > 0.0 and self.exposure.is_within(other.exposure.missing)

    @property
    def tried(self) -> int:
        """Number of weightings that were judged."""
        return sum(fit.tried for fit in (self._whole, *self._fits))

    def attempt(
        self, change: Change, *, origin: Origin | None = None, by_mean: bool = False, allowed: Missing | None = None
    ) -> bool:
        """Make a change where it is better on windows that have not made it, and breaks no limit by more.

        It has to be better on all windows as well, fitted on them: that is the ranking that is taken, and under a limit
        its search may have ended at a worse peak than those of the folds. Equal weights need not: nothing fits them,
        and the ranking beside them was fitted on what would judge both.

        Args:
            change: of a fit.
            origin: of the weights, where it makes weights of its own.
            by_mean: whether a larger mean nDCG@10 is enough; else the 95% interval of the difference, paired over
                shoppers, has to lie above 0.
            allowed: what may be missing from each limit; by default what is missing now.

        Returns:
            Whether it was made.
        """
        changed = map_on_cores(change, self._fits)
        ndcg, recall = self._judge(changed)
        worth = np.mean if by_mean else lowest
        if worth(ndcg - self.ndcg) <= 0.0:
            return False
        ranking = change(self._whole)
        if origin != "equal" and worth(self.judge_fixed(ranking)[0] - self.judge_fixed(self.ranking)[0]) <= 0.0:
            return False
        exposure = self.exposure_of(ranking)
        if not exposure.is_within(allowed or self.exposure.missing):
            return False
        self._take(ranking, exposure, changed, ndcg, recall)
        self.origin = origin or self.origin
        return True

    def _take(
        self, ranking: Ranking, exposure: LimitCheck, of_folds: list[Ranking], ndcg: Floats, recall: Floats
    ) -> None:
        self._whole.ranking, self.exposure, self.ndcg, self.recall = ranking, exposure, ndcg, recall
        for fit, each in zip(self._fits, of_folds, strict=True):
            fit.ranking = each

    def try_equal_weights(self) -> None:
        """Take equal weights where they are better beyond chance; the limits are looked after in later steps.

        By the mean alone they would win on small shops where weights by worth turn out better.
        """
        equal = equal_weights(self.start)
        self.attempt(lambda _: equal, origin="equal", allowed=Missing(np.inf, np.inf))

    def search_weights(self) -> None:
        """Search weights that repeat the first hit no more; the coverage is looked after in a later step."""
        allowed = Missing(self.exposure.missing.first, np.inf)
        minmax, zscore, rrf = (
            partial(Fit.searched, fusion=fusion, allowed=allowed) for fusion in ("minmax", "zscore", "rrf")
        )
        is_searched = self.attempt(minmax, origin="search", allowed=allowed)
        self.attempt(zscore, origin="search", by_mean=is_searched, allowed=allowed)  # neither scale is the simpler one
        self.attempt(rrf, origin="search", allowed=allowed)

    def meet(self, limit: Limit, allowed: Missing, steps: tuple[float, ...]) -> None:
        """Come nearer to a limit, see `Evaluator.climb`, as far as that is worth its price.

        It may cost a share of `WORTH` as large as the share of the way, and may not make the ranking worse, beyond
        chance, than the best kind alone. Where all of the way costs too much, a part of it may not.
        """
        before = getattr(self.exposure.missing, limit)
        if not before:
            return
        evaluator, alone = self._whole.evaluator(), self._best_alone()

        def mean(ranking: Ranking) -> float:
            return float(evaluator.ndcg(vector_of(ranking)).mean())

        ndcg = mean(self.ranking)
        nearest, *of_folds = map_on_cores(lambda fit: fit.nearest_to_limits(allowed, steps), [self._whole, *self._fits])
        other: Limit = "coverage" if limit == "first" else "first"
        for share in _SHARES:
            nearer = _mix(self.ranking, nearest, share)
            exposure = self.exposure_of(nearer)
            missing, of_other = getattr(exposure.missing, limit), getattr(exposure.missing, other)
            if missing >= before or of_other > getattr(allowed, other):
                continue
            cost = max(0.0, 1.0 - mean(nearer) / max(ndcg, 1e-12))
            if not missing and limit not in self.prices:
                self.prices[limit] = Price(cost, is_paid=False)
            if cost > WORTH * (1.0 - missing / before):
                continue
            changed = [_mix(fit.ranking, each, share) for fit, each in zip(self._fits, of_folds, strict=True)]
            judged, recall = self._judge(changed)
            if highest(judged - alone) >= min(0.0, highest(self.ndcg - alone)) - 1e-9:
                self._take(nearer, exposure, changed, judged, recall)
                self.prices[limit] = Price(cost, is_paid=True)
                return

    def _best_alone(self) -> Floats:
        """Return nDCG@10 of every shopper under the kind that is best alone."""
        judged = [self.judge_fixed(self.ranking.model_copy(update=only(kind)))[0] for kind in KINDS]
        return max(judged, key=lambda ndcg: float(ndcg.mean()))

    def change_depth(self, depth: int) -> None:
        """Take another number of candidates of each retriever where that helps."""
        if depth != self.ranking.depth:
            self.attempt(partial(Fit.changed, depth=depth))

    def weight_short_histories(self) -> None:
        """Give short histories weights of their own where that helps."""
        lengths = np.concatenate([window.lengths for window in self.windows.past])
        for up_to in SHORT:
            taken = max((each.up_to for each in self.ranking.by_history), default=0)
            if FEWEST <= np.count_nonzero((lengths > taken) & (lengths <= up_to)) <= len(lengths) - FEWEST:
                self.attempt(partial(Fit.with_weights_up_to, length=up_to), origin="search")

    def _judge(self, rankings: Sequence[Ranking]) -> tuple[Floats, Floats]:
        """Return nDCG@10 and R@10 of every shopper, as a search would answer over these tables.

        Args:
            rankings: one for each window that is held out.
        """
        values = np.concatenate([_judge_window(*pair) for pair in zip(self._held_out, rankings, strict=True)])
        return values[:, 0], values[:, 1]

    def judge_fixed(self, ranking: Ranking) -> tuple[Floats, Floats]:
        """Return nDCG@10 and R@10 of every shopper under a ranking that no window made."""
        return self._judge([ranking] * len(self._held_out))

    def without_idle_kinds(self) -> Ranking:
        """Return the ranking with weight 0 for kinds that found nothing in any window: nothing has judged them."""
        with_hits = self._whole.evaluator().kinds_with_hits
        idle_kinds = [kind for column, kind in enumerate(KINDS) if column not in with_hits]

        def without(weights: Weights) -> Weights:
            kept = weights.model_copy(update=dict.fromkeys(idle_kinds, 0.0))
            return kept if any(kept.model_dump().values()) else weights

        ranking = self.ranking
        by_history = [each.model_copy(update={"weights": without(each.weights)}) for each in ranking.by_history]
        return ranking.model_copy(update={"weights": without(ranking.weights), "by_history": tuple(by_history)})

    def exposure_of(self, ranking: Ranking) -> LimitCheck:
        """Return what all shoppers would see as of the end of the last window; each ranking is measured once."""
        key = ranking.model_copy(update={"version": ""}).model_dump_json()
        if key not in self._exposures:
            evaluator = Evaluator(self.windows, ranking.profile, ranking.fusion, ranking.depth)
            self._exposures[key] = evaluator.exposure_by_length(ranking)
        return self._exposures[key]


def choose(start: Ranking, windows: Windows, diverse: bool) -> Trial:
    """Return the best ranking over one set of tables.

    Args:
        start: what it says beside its weights.
        windows: on which it is fitted and judged.
        diverse: also try diversities.
    """
    trial = Trial(start, windows)
    steps: list[Callable[[], object]] = [
        trial.try_equal_weights,
        lambda: trial.meet("first", Missing(0.0, np.inf), NEAR),
        trial.search_weights,
        lambda: trial.attempt(Fit.alone, origin="search"),
        lambda: trial.meet("coverage", Missing(trial.exposure.missing.first, 0.0), STEPS),
        *(partial(trial.change_depth, depth) for depth in DEPTHS),
        trial.weight_short_histories,
        lambda: trial.attempt(Fit.blended, origin="search"),
        *(partial(trial.attempt, partial(Fit.changed, diversity=each)) for each in (DIVERSITIES if diverse else ())),
    ]
    with bar("steps of the choice", len(steps)) as advance:
        for step in steps:
            step()
            advance(1)
    return trial


def _judge_window(window: Window, ranking: Ranking) -> Floats:
    """Return nDCG@10 and R@10 of the shoppers of a window, float64 (u, 2)."""
    pool, lengths = window.pool(ranking.profile, ranking.fusion, ranking.depth), window.lengths
    values = np.zeros((len(lengths), 2))
    for low, high, weights in by_length(ranking):
        rows = np.flatnonzero((lengths > low) & (lengths <= high))
        if ranking.diversity:
            vectors, relevant = window.part.split.catalogue.vectors["document"], window.part.targets.relevant[rows]
            judged = judge_diverse(pool.some(rows), weights, ranking.diversity, vectors, relevant)
        else:
            judged = judge(pool.some(rows), weights)
        values[rows] = np.stack(judged, axis=1)
    return values


def _mix(ranking: Ranking, other: Ranking, share: float) -> Ranking:
    """Return the ranking with the weighted mean of both rankings' weights; `share` is the other's."""
    weights = (1.0 - share) * as_vector(ranking.weights) + share * as_vector(other.weights)
    return ranking.model_copy(update={"weights": as_weights(weights)})


def lowest(gains: Floats) -> float:
    """Return the low end of the 95% interval of the mean gain."""
    return _interval(gains)[0]


def highest(gains: Floats) -> float:
    """Return the high end of the 95% interval of the mean gain."""
    return _interval(gains)[1]


def _interval(gains: Floats) -> tuple[float, float]:
    low, high = interval(resampled_means(gains[:, None], seed=7))
    return float(low[0]), float(high[0])
