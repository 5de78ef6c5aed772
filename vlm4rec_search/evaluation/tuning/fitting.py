"""Rankings that are fitted on some windows: weights by worth, searched weights, blends, weights of short histories."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.evaluation.top_k import NOBODY
from vlm4rec_search.evaluation.tuning.limits import LimitCheck, Missing, check_limits
from vlm4rec_search.evaluation.tuning.sweep import (
    K,
    Pool,
    as_vector,
    as_weights,
    climb,
    diverse_top_ten,
    fit_blend,
    join,
    judge,
    top_ten,
)
from vlm4rec_search.evaluation.tuning.windows import Window, Windows
from vlm4rec_search.search.query import KINDS, Fusion, Kind
from vlm4rec_search.search.ranking import HistoryWeights, Ranking, Weights, load_ranking

PROFILES = ("mean", "interests")
STEPS = (0.2, 0.1, 0.05)  # by which a search changes weights
NEAR = (0.05,)  # and by which it stays near the weights that it begins with

# What the search for weights begins without: a start that has it was fitted on the windows that judge.
UNFITTED: Mapping[str, object] = {
    "schema_version": 2,
    "rank_weights": Weights(**dict.fromkeys(KINDS, 0.0)),
    "by_history": (),
    "diversity": 0.0,
}


class Evaluator:
    """Judges weights on the shoppers of some windows, whose candidates have one profile, fusion and depth."""

    def __init__(self, windows: Windows, profile: str, fusion: Fusion, depth: int) -> None:
        self.profile, self.fusion, self.depth = profile, fusion, depth
        self._windows, self.tried = windows, 0

    @cached_property
    def past(self) -> Pool:
        """The shoppers of all windows."""
        return join([self._pool(window) for window in self._windows.past])

    @cached_property
    def last(self) -> Pool:
        """The shoppers of the end of the last window."""
        return self._pool(self._windows.last)

    @cached_property
    def kinds_with_hits(self) -> list[int]:
        """The columns of the kinds that find anything in any window; others would only take a part of the weights."""
        found: list[int] = np.flatnonzero(self.past.added.any(axis=(1, 2))).tolist()
        return found

    def _pool(self, window: Window) -> Pool:
        return window.pool(self.profile, self.fusion, self.depth)

    def ndcg(self, weights: Floats) -> Floats:
        """Return nDCG@10 of every shopper of the windows."""
        self.tried += 1
        return judge(self.past, weights)[0]

    def worth_alone(self) -> Floats:
        """Return the mean nDCG@10 of each kind alone, (kinds,); ones where none finds anything."""
        worth = np.array([self.ndcg(alone).mean() for alone in np.eye(len(KINDS))])
        return worth if worth.any() else np.ones(len(KINDS))

    def exposure(self, weights: Floats) -> LimitCheck:
        """Return what all shoppers would see as of the end of the last window."""
        return check_limits(top_ten(self.last, weights), self._windows.last.part.split)

    def exposure_by_length(self, ranking: Ranking) -> LimitCheck:
        """Return the same for a ranking with weights by the length of the history, and with its diversity."""
        lengths = self._windows.last.lengths
        vectors = self._windows.last.part.split.catalogue.vectors["document"]
        shown = np.full((len(lengths), K), NOBODY, dtype=np.int64)
        for low, high, weights in by_length(ranking):
            rows = np.flatnonzero((lengths > low) & (lengths <= high))
            pool = self.last.some(rows)
            if ranking.diversity:
                shown[rows] = diverse_top_ten(pool, weights, ranking.diversity, vectors)
            else:
                shown[rows] = top_ten(pool, weights)
        return check_limits(shown, self._windows.last.part.split)

    def climb(self, start: Floats, allowed: Missing, steps: tuple[float, ...], most: float = np.inf) -> Floats:
        """Return the weights with the largest mean nDCG@10, less what is missing from each limit beyond `allowed`.

        Args:
            start: weights that the search begins with.
            allowed: what may be missing from each limit.
            steps: by which weights change, the largest first.
            most: a larger nDCG@10 counts as this, so that only what is missing can be made good.
        """

        def value(weights: Floats) -> float:
            return min(float(self.ndcg(weights).mean()), most)

        def too_much(weights: Floats) -> float:
            missing = self.exposure(weights).missing
            return sum(max(0.0, own - few) for own, few in zip(missing, allowed, strict=True))

        return climb(start, value, steps, too_much, self.kinds_with_hits)[0]


class Fit:
    """A ranking that is fitted on some windows, and what it could become.

    Attributes:
        ranking: as it was fitted, until another one takes its place.
        tried: number of weightings that were judged.
    """

    def __init__(self, start: Ranking, windows: Windows) -> None:
        self._start, self._windows, self.tried = start, windows, 0
        self.ranking = self.by_worth("minmax")

    def by_worth(self, fusion: Fusion) -> Ranking:
        """Return the better profile for a fusion, each kind weighted by the square of what it is worth alone.

        No search is behind such weights, so that a few shoppers are enough for them.
        """
        evaluators = [Evaluator(self._windows, profile, fusion, self._start.depth) for profile in PROFILES]
        squares = [each.worth_alone() ** 2 for each in evaluators]
        starts = [each / each.sum() for each in squares]
        worth = [each.ndcg(start).mean() for each, start in zip(evaluators, starts, strict=True)]
        best = int(np.argmax(worth))
        self.tried += sum(each.tried for each in evaluators)
        changes = {"profile": evaluators[best].profile, "fusion": fusion, "weights": as_weights(starts[best])}
        return self._start.model_copy(update={**UNFITTED, **changes})

    def searched(self, fusion: Fusion, allowed: Missing) -> Ranking:
        """Return the best weights for a fusion, see `Evaluator.climb`.

        The search begins with `by_worth`: the nearest peak fits less noise than the highest of many.
        """
        ranking = self.by_worth(fusion)
        evaluator = Evaluator(self._windows, ranking.profile, fusion, ranking.depth)
        weights = evaluator.climb(as_vector(ranking.weights), allowed, STEPS)
        self.tried += evaluator.tried
        return ranking.model_copy(update={"weights": as_weights(weights)})

    def changed(self, **values: object) -> Ranking:
        """Return it with other values."""
        return self.ranking.model_copy(update=values)

    def alone(self) -> Ranking:
        """Return it with the best kind alone."""
        evaluator = self.evaluator()
        best = KINDS[int(np.argmax(evaluator.worth_alone()))]
        self.tried += evaluator.tried
        return self.ranking.model_copy(update=only(best))

    def evaluator(self) -> Evaluator:
        """Return the evaluator of weights under its profile, fusion and depth."""
        return Evaluator(self._windows, self.ranking.profile, self.ranking.fusion, self.ranking.depth)

    def nearest_to_limits(self, allowed: Missing, steps: tuple[float, ...]) -> Ranking:
        """Return it with weights that miss the limits by less and are otherwise no better, see `Evaluator.climb`."""
        evaluator, start = self.evaluator(), as_vector(self.ranking.weights)
        weights = evaluator.climb(start, allowed, steps, float(evaluator.ndcg(start).mean()))
        self.tried += evaluator.tried
        return self.ranking.model_copy(update={"weights": as_weights(weights)})

    def with_weights_up_to(self, length: int) -> Ranking:
        """Return it with weights of their own for histories of this length that have none yet."""
        taken = max((each.up_to for each in self.ranking.by_history), default=0)
        lengths = np.concatenate([window.lengths for window in self._windows.past])
        rows = np.flatnonzero((lengths > taken) & (lengths <= length))
        if not len(rows):
            return self.ranking
        pool = self.evaluator().past.some(rows)
        start = as_vector(self.ranking.weights_for(length))
        weights, tried = climb(start, lambda weights: float(judge(pool, weights)[0].mean()), (0.1, 0.05))
        self.tried += tried
        of_short = HistoryWeights(up_to=length, weights=as_weights(weights))
        return self.ranking.model_copy(update={"by_history": (*self.ranking.by_history, of_short)})

    def blended(self) -> Ranking:
        """Return it with the blend of scores and ranks that fits best."""
        evaluator = Evaluator(self._windows, self.ranking.profile, "blend", self.ranking.depth)
        vector = fit_blend(evaluator.past)
        self.tried += 1
        by_rank = {"weights": as_weights(vector), "rank_weights": as_weights(vector[len(KINDS) :])}
        return self.ranking.model_copy(update={"fusion": "blend", "by_history": (), **by_rank})


def equal_weights(start: Ranking) -> Ranking:
    """Return a ranking with the fusion and the weights of the packaged one; what else `start` says stays."""
    packaged = load_ranking()
    kept = {name: getattr(packaged, name) for name in ("version", "profile", "fusion", "weights")}
    return start.model_copy(update={**UNFITTED, **kept})


def vector_of(ranking: Ranking) -> Floats:
    """Return the weights in the order of the columns of the ranking's pools."""
    return as_vector(ranking.weights, ranking.rank_weights if ranking.fusion == "blend" else None)


def only(kind: Kind) -> dict[str, object]:
    """Return the values of a ranking that uses one kind of retriever alone."""
    weights, by_rank = as_weights(np.eye(len(KINDS))[KINDS.index(kind)]), as_weights(np.zeros(len(KINDS)))
    return {"weights": weights, "rank_weights": by_rank, "fusion": "minmax", "by_history": (), "diversity": 0.0}


def by_length(ranking: Ranking) -> Iterator[tuple[float, float, Floats]]:
    """Yield the lengths of histories, above the first and up to the second, with their weights."""
    low = -1.0
    for each in ranking.by_history:
        yield low, each.up_to, as_vector(each.weights)
        low = each.up_to
    yield low, np.inf, vector_of(ranking)
