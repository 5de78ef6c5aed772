"""Chooses the ranking of a shop on rolling windows of its own history: `vlm4rec tune`, and `vlm4rec index`.

The test part of `vlm4rec evaluate` lies behind the last window and plays no role.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from vlm4rec_search.common.concurrency import run_concurrently, usable_cores
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Floats, Ints
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.significance import Difference, compare, interval, resampled_means
from vlm4rec_search.evaluation.snapshots import workbench
from vlm4rec_search.evaluation.top_k import NOBODY
from vlm4rec_search.evaluation.tuning.sweep import (
    Pool,
    as_vector,
    as_weights,
    climb,
    diverse_top_ten,
    fit_blend,
    join,
    judge,
    judge_diverse,
    top_ten,
)
from vlm4rec_search.evaluation.tuning.windows import STARTS, Window, Windows, build_windows
from vlm4rec_search.search.exposure import SAME_FIRST, measure_exposure
from vlm4rec_search.search.query import KINDS, Fusion, Kind
from vlm4rec_search.search.ranking import HistoryWeights, Ranking, Weights, load_ranking, write_ranking

T = TypeVar("T")
R = TypeVar("R")
Say = Callable[[str], None]

DEPTHS = (100, 200, 400)
PROFILES = ("mean", "interests")
DIVERSITIES = (0.1, 0.2, 0.3)
USERS = 3_000  # the most shoppers of all windows: with 1,000 the standard error is as large as what weights are worth
FEWEST = 100  # shoppers of all windows; with fewer a choice would be chance
SHORT = (3, 10)  # items of histories that may get weights of their own

# A little stricter than what is promised, a tenth and four fifths, since the tables that are published are newer.
LARGEST_FIRST = 0.08  # share of the shoppers who may see the same first hit
COVERAGE = 0.85  # of the documents that the first ten hits of all shoppers would cover if they were drawn at random
WORTH = 0.1  # share of nDCG@10 that each of the two may cost

# What the search for weights begins without: a start that has it was fitted on the windows that judge.
_UNFITTED: Mapping[str, object] = {
    "schema_version": 2,
    "rank_weights": Weights(**dict.fromkeys(KINDS, 0.0)),
    "by_history": (),
    "diversity": 0.0,
}
_BY_WORTH = "weighted by what each finds alone, within the limits: no search found better weights beyond chance"
_FIRST, _COVERAGE = 0, 1  # the limits, in the order of `LimitCheck.missing`
_STEPS = (0.2, 0.1, 0.05)  # by which a search changes weights
_NEAR = (0.05,)  # and by which it stays near the weights that it begins with

TABLES: Mapping[str, tuple[float, ...]] = {
    "pace_days": (10, 20, 60, 180, 36_500),
    "half_life_days": (30, 60, 120, 365),
    "behaviour_half_life_days": (10, 20, 60),
    "co_purchase_days": (60, 90, 180, 36_500),
    "popularity_days": (14, 30, 60, 36_500),
    "terms": (32, 64, 128),
    "interests": (2, 3, 4),
}


@dataclass(frozen=True)
class Tuned:
    """What a tuning chose.

    Attributes:
        ranking: the chosen configuration.
        reason: one line that says what was chosen and why.
        users: number of shoppers that judged it.
        rows: mean nDCG@10 and R@10 of the choice (cross-fitted where it is new), of the ranking in force, of equal
            weights, and of each kind of retriever alone; empty where nothing could be judged.
        differences: nDCG@10 of the choice minus that of each other row, with 95% intervals.
        tried: number of rankings that were judged.
        made_by: captioner and encoder of the tables that were built; None where none could be built.
        first: share of shoppers whose first hit is the most frequent one.
        coverage: share of the documents in the first ten hits of any shopper.
    """

    ranking: Ranking
    reason: str
    users: int
    rows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    tried: int = 0
    made_by: tuple[str, str] | None = None
    first: float | None = None
    coverage: float | None = None


def tune(
    settings: Settings,
    protocol: Protocol,
    tables: bool,
    version: str,
    say: Say,
    in_force: Ranking | None = None,
) -> Tuned:
    """Choose a ranking configuration on rolling windows.

    Each retriever is weighted by what it finds alone. Searched weights take the place of these where they are better by
    cross-fitting, see `Trial`. There are two limits, as of the end of the last window: the most frequent first hit
    should reach at most `LARGEST_FIRST` of the shoppers, and top tens should cover `COVERAGE` of the documents that
    random lists would; each is met where that costs at most `WORTH` of nDCG@10. The ranking in force stays unless the
    95% interval of the difference lies above 0, or it shows the most frequent first hit to more shoppers than
    `SAME_FIRST` and than the new one. With fewer than `FEWEST` shoppers the ranking in force is kept, else the packaged
    one.

    Args:
        settings: warehouse, cache and the configuration to start from, whose durations the tables have.
        protocol: which items may be ranked, how many shoppers are asked (by default `USERS`), and the seed.
        tables: also try values that tables depend on, one at a time; each needs a plan.
        version: name of the new configuration.
        say: receives the name of each long step.
        in_force: the ranking that answers now, if it was chosen for this shop.

    Raises:
        UsageError: there are no tables yet.
        RunError: the warehouse is being written, or a plan fails.
    """
    start = load_ranking(settings.ranking)
    with read(settings.warehouse) as connection:
        (shoppers,) = connection.execute("SELECT COUNT(DISTINCT user_id) FROM profiles.likes").fetchone() or (0,)
    if shoppers * len(STARTS) < FEWEST:  # known without a plan
        return _too_little(f"the shop has {shoppers:,} shoppers with a history", start, in_force)
    with workbench(settings) as bench, TemporaryDirectory(dir=settings.cache) as name:
        folder = Path(name)

        def judged(ranking: Ranking) -> Trial | None:
            file = folder / "ranking.yaml"
            write_ranking(ranking, file)
            deep = ranking.model_copy(update={"depth": max(*DEPTHS, ranking.depth)})
            windows = build_windows(bench, protocol, file, deep, protocol.sample or USERS, folder)
            return Trial(ranking, windows, diverse=tables) if windows.shoppers >= FEWEST else None

        say("Building the tables as of earlier moments, to choose the ranking on what shoppers took next")
        try:
            best = judged(start)
        except UsageError as error:
            return _too_little(str(error), start, in_force)
        if best is None:
            why = f"fewer than {FEWEST} shoppers have a history and took something new after it"
            return _too_little(why, start, in_force)
        tried = best.tried
        for key, values in TABLES.items() if tables else ():
            for value in [value for value in values if value != getattr(best.ranking, key)]:
                say(f"Building the tables with {key} {value}")
                other = judged(best.ranking.model_copy(update={key: value}))
                tried += other.tried if other else 0
                if other and other.is_better(best):
                    best = other
        return best.result(version, in_force, tried)


def _too_little(why: str, start: Ranking, in_force: Ranking | None) -> Tuned:
    if in_force is not None:
        return Tuned(in_force, f"{in_force.version} stays, since the history is too short to choose another: {why}", 0)
    equal = _equal_weights(start)
    return Tuned(equal, f"{equal.version}, equal weights, since the history is too short to choose: {why}", 0)


def _equal_weights(start: Ranking) -> Ranking:
    """Return a ranking with the fusion and the weights of the packaged one; what else it says stays."""
    packaged = load_ranking()
    kept = {name: getattr(packaged, name) for name in ("version", "profile", "fusion", "weights")}
    return start.model_copy(update={**_UNFITTED, **kept})


@dataclass(frozen=True)
class LimitCheck:
    """What top tens show, against the limits.

    Attributes:
        first: share of the shoppers whose first hit is the most frequent one.
        coverage: share of the documents in any top ten.
        wanted: coverage that is asked for.
    """

    first: float
    coverage: float
    wanted: float

    @property
    def missing(self) -> tuple[float, float]:
        """By how much each limit is broken, 0 where it holds."""
        return max(0.0, self.first - LARGEST_FIRST), max(0.0, self.wanted - self.coverage)

    def is_no_worse(self, other: "LimitCheck") -> bool:
        """Return whether no limit is broken by more."""
        return all(own <= others for own, others in zip(self.missing, other.missing, strict=True))


class _Option:
    """The shoppers of some windows under one profile, fusion and depth, and what weights are worth for them."""

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
        return self.against_limits(top_ten(self.last, weights))

    def exposure_by_length(self, ranking: Ranking) -> LimitCheck:
        """Return the same for a ranking with weights by the length of the history, and with its diversity."""
        lengths = self._windows.last.lengths
        vectors = self._windows.last.part.split.catalogue.vectors["document"]
        shown = np.full((len(lengths), 10), NOBODY, dtype=np.int64)
        for low, high, weights in _by_length(ranking):
            rows = np.flatnonzero((lengths > low) & (lengths <= high))
            pool = self.last.some(rows)
            if ranking.diversity:
                shown[rows] = diverse_top_ten(pool, weights, ranking.diversity, vectors)
            else:
                shown[rows] = top_ten(pool, weights)
        return self.against_limits(shown)

    def against_limits(self, shown: Ints) -> LimitCheck:
        """Compare what top tens, int64 (u, 10), show together with the limits."""
        split = self._windows.last.part.split
        measured = measure_exposure(shown, split.catalogue.item_ids, split.popularity)
        # Drawn at random, s slots cover 1 - exp(-s / n) of n documents.
        reachable = 1.0 - np.exp(-shown.size / max(measured.documents, 1))
        return LimitCheck(measured.first_share, measured.coverage, float(COVERAGE * reachable))

    def climb(
        self, start: Floats, allowed: tuple[float, float], steps: tuple[float, ...], most: float = np.inf
    ) -> Floats:
        """Return the weights with the largest mean nDCG@10, less what is missing from each limit beyond `allowed`.

        Args:
            start: weights that the search begins with.
            allowed: what may be missing from each limit.
            steps: by which weights change, the largest first.
            most: a larger nDCG@10 counts as this, so that only what is missing can be made good.
        """
        highest = -np.inf

        def value(weights: Floats) -> float:
            nonlocal highest
            found = min(float(self.ndcg(weights).mean()), most)
            if found > highest:  # else it is not the best, whatever is missing
                missing = self.exposure(weights).missing
                found -= sum(max(0.0, own - few) for own, few in zip(missing, allowed, strict=True))
            highest = max(highest, found)
            return found

        return climb(start, value, steps)[0]


class _Fit:
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
        options = [_Option(self._windows, profile, fusion, self._start.depth) for profile in PROFILES]
        squares = [option.worth_alone() ** 2 for option in options]
        starts = [each / each.sum() for each in squares]
        best = int(np.argmax([option.ndcg(start).mean() for option, start in zip(options, starts, strict=True)]))
        self.tried += sum(each.tried for each in options)
        changes = {"profile": options[best].profile, "fusion": fusion, "weights": as_weights(starts[best])}
        return self._start.model_copy(update={**_UNFITTED, **changes})

    def searched(self, fusion: Fusion, allowed: tuple[float, float]) -> Ranking:
        """Return the best weights for a fusion, see `_Option.climb`.

        The search begins with `by_worth`: the nearest peak fits less noise than the highest of many.
        """
        ranking = self.by_worth(fusion)
        option = _Option(self._windows, ranking.profile, fusion, ranking.depth)
        weights = option.climb(as_vector(ranking.weights), allowed, _STEPS)
        self.tried += option.tried
        return ranking.model_copy(update={"weights": as_weights(weights)})

    def alone(self) -> Ranking:
        """Return it with the best kind alone."""
        option = self.option()
        best = KINDS[int(np.argmax(option.worth_alone()))]
        self.tried += option.tried
        return self.ranking.model_copy(update=_only(best))

    def option(self) -> _Option:
        """Return the shoppers under its profile, fusion and depth."""
        return _Option(self._windows, self.ranking.profile, self.ranking.fusion, self.ranking.depth)

    def within(self, allowed: tuple[float, float], steps: tuple[float, ...]) -> Ranking:
        """Return it with weights from which less is missing, see `_Option.climb`, and which are otherwise no better."""
        option, start = self.option(), as_vector(self.ranking.weights)
        weights = option.climb(start, allowed, steps, float(option.ndcg(start).mean()))
        self.tried += option.tried
        return self.ranking.model_copy(update={"weights": as_weights(weights)})

    def with_weights_up_to(self, length: int) -> Ranking:
        """Return it with weights of their own for histories of this length that have none yet."""
        taken = max((each.up_to for each in self.ranking.by_history), default=0)
        lengths = np.concatenate([window.lengths for window in self._windows.past])
        rows = np.flatnonzero((lengths > taken) & (lengths <= length))
        if not len(rows):
            return self.ranking
        pool = self.option().past.some(rows)
        start = as_vector(self.ranking.weights_for(length))
        weights, _, tried = climb(start, lambda weights: float(judge(pool, weights)[0].mean()), (0.1, 0.05))
        self.tried += tried
        of_short = HistoryWeights(up_to=length, weights=as_weights(weights))
        return self.ranking.model_copy(update={"by_history": (*self.ranking.by_history, of_short)})

    def blended(self) -> Ranking:
        """Return it with the blend of scores and ranks that fits best."""
        option = _Option(self._windows, self.ranking.profile, "blend", self.ranking.depth)
        vector = fit_blend([option.past])
        self.tried += 1
        by_rank = {"weights": as_weights(vector), "rank_weights": as_weights(vector[len(KINDS) :])}
        return self.ranking.model_copy(update={"fusion": "blend", "by_history": (), **by_rank})


def _at_once(make: Callable[[T], R], of: Sequence[T]) -> list[R]:
    """Return what is made of each, in threads: numpy computes most of it without Python's lock."""
    with threadpool_limits(1):  # the threads share the cores already
        made = dict(run_concurrently(lambda number: make(of[number]), range(len(of)), usable_cores()))
    return [made[number] for number in range(len(of))]


class Trial:
    """The best ranking over one set of tables.

    It is fitted on all windows. What it and each change of it is worth is measured by cross-fitting: the same steps on
    the other windows make the ranking that is judged on a window. A change is taken where the 95% interval of this
    difference, paired over shoppers, lies above 0.

    Attributes:
        ndcg: nDCG@10 of every shopper of the windows, each judged by a ranking that the other windows made.
    """

    def __init__(self, start: Ranking, windows: Windows, diverse: bool) -> None:
        self._start, self._windows = start, windows
        self._exposures: dict[str, LimitCheck] = {}
        folds = windows.folds()
        self._held = [held for _, held in folds]
        self._whole, *self._fits = _at_once(partial(_Fit, start), [windows, *(others for others, _ in folds)])
        self.ndcg, self._recall = self._judge([fit.ranking for fit in self._fits])
        self._exposure = self.exposure_of(self.ranking)
        self._costs: dict[int, float] = {}
        self._meet(_FIRST, (0.0, np.inf), _NEAR)
        is_searched = self._search_weights()
        is_alone = self._try(_Fit.alone)
        self._meet(_COVERAGE, (self._exposure.missing[_FIRST], 0.0), _STEPS)
        for depth in DEPTHS:
            if depth != self.ranking.depth:
                self._try(lambda fit, depth=depth: fit.ranking.model_copy(update={"depth": depth}))  # type: ignore[misc]
        self._try_lengths()
        is_blended = self._try(_Fit.blended)
        self._how = "" if is_searched or is_alone or is_blended else _BY_WORTH
        for diversity in DIVERSITIES if diverse else ():
            self._try(lambda fit, share=diversity: fit.ranking.model_copy(update={"diversity": share}))  # type: ignore[misc]

    @property
    def ranking(self) -> Ranking:
        """The best configuration, fitted on all windows."""
        return self._whole.ranking

    @property
    def exposure(self) -> LimitCheck:
        """What the top tens of the best configuration show."""
        return self._exposure

    def is_better(self, other: "Trial") -> bool:
        """Return whether it is better beyond chance than a trial over other tables, and breaks no limit by more."""
        return _lowest(self.ndcg - other.ndcg) > 0.0 and self._exposure.is_no_worse(other.exposure)

    @property
    def tried(self) -> int:
        """Number of weightings that were judged."""
        return sum(fit.tried for fit in (self._whole, *self._fits))

    def _search_weights(self) -> bool:
        """Search weights that repeat the first hit no more, and return whether they replaced those by worth."""
        allowed = (self._exposure.missing[_FIRST], np.inf)
        is_searched = self._try(lambda fit: fit.searched("minmax", allowed))
        # Neither scale is the simpler one.
        by_deviation = self._try(lambda fit: fit.searched("zscore", allowed), gain_of=np.mean if is_searched else None)
        by_rank = self._try(lambda fit: fit.searched("rrf", allowed))
        return is_searched or by_deviation or by_rank

    def _try(self, change: Callable[[_Fit], Ranking], gain_of: Callable[[Floats], float] | None = None) -> bool:
        """Make a change where it is better on windows that have not made it, and breaks no limit by more.

        Args:
            change: of a fit.
            gain_of: returns the gain that has to be above 0, from those of all shoppers in nDCG@10; the low end of the
                95% interval if absent.

        Returns:
            Whether it was made.
        """
        changed = _at_once(change, self._fits)
        ndcg, recall = self._judge(changed)
        if (gain_of or _lowest)(ndcg - self.ndcg) <= 0.0:
            return False
        ranking = change(self._whole)
        exposure = self.exposure_of(ranking)
        if not exposure.is_no_worse(self._exposure):
            return False
        self._take(ranking, exposure, changed, ndcg, recall)
        return True

    def _take(
        self, ranking: Ranking, exposure: LimitCheck, of_folds: list[Ranking], ndcg: Floats, recall: Floats
    ) -> None:
        self._whole.ranking, self._exposure, self.ndcg, self._recall = ranking, exposure, ndcg, recall
        for fit, each in zip(self._fits, of_folds, strict=True):
            fit.ranking = each

    def _meet(self, limit: int, allowed: tuple[float, float], steps: tuple[float, ...]) -> None:
        """Come nearer to a limit, for a share of `WORTH` as large as the share of the way; see `_Option.climb`."""
        before = self._exposure.missing[limit]
        if not before:
            return
        nearer = self._whole.within(allowed, steps)
        exposure, option = self.exposure_of(nearer), self._whole.option()
        ndcg, after = (float(option.ndcg(_vector(each)).mean()) for each in (self.ranking, nearer))
        cost, missing = max(0.0, 1.0 - after / max(ndcg, 1e-12)), exposure.missing[limit]
        keeps_other = exposure.missing[1 - limit] <= allowed[1 - limit]
        if not missing and keeps_other:
            self._costs[limit] = cost
        if missing < before and cost <= WORTH * (1.0 - missing / before) and keeps_other:
            of_folds = _at_once(lambda fit: fit.within(allowed, steps), self._fits)
            self._take(nearer, exposure, of_folds, *self._judge(of_folds))

    def _try_lengths(self) -> None:
        """Give short histories weights of their own where that helps."""
        lengths = np.concatenate([window.lengths for window in self._windows.past])
        for up_to in SHORT:
            taken = max((each.up_to for each in self.ranking.by_history), default=0)
            if FEWEST <= np.count_nonzero((lengths > taken) & (lengths <= up_to)) <= len(lengths) - FEWEST:
                self._try(lambda fit, up_to=up_to: fit.with_weights_up_to(up_to))  # type: ignore[misc]

    def _judge(self, rankings: Sequence[Ranking]) -> tuple[Floats, Floats]:
        """Return nDCG@10 and R@10 of every shopper, as a search would answer over these tables.

        Args:
            rankings: one for each window that is held out.
        """
        values = np.concatenate([_judge_window(*pair) for pair in zip(self._held, rankings, strict=True)])
        return values[:, 0], values[:, 1]

    def _judge_fixed(self, ranking: Ranking) -> tuple[Floats, Floats]:
        return self._judge([ranking] * len(self._held))

    def result(self, version: str, in_force: Ranking | None, tried: int) -> Tuned:
        """Compare the best ranking with equal weights, with the ranking in force and with each kind alone."""
        chosen = self._without_silent(self.ranking).model_copy(update={"version": version})
        equal = _equal_weights(self._start)
        rows = {"chosen": (self.ndcg, self._recall), "equal weights": self._judge_fixed(equal)}
        why, costs = self._how, self._costs
        if in_force is not None:
            in_force = in_force.model_copy(update=_durations(self._start))
            rows["in force"] = self._judge_fixed(in_force)
            is_better = _lowest(rows["chosen"][0] - rows["in force"][0]) > 0.0
            # The limit of a new choice is stricter than what is promised: a hair above it is no reason to flip.
            most = max(SAME_FIRST, self.exposure_of(chosen).first)
            if not is_better and self.exposure_of(in_force).first <= most:
                chosen, rows["chosen"] = in_force, rows["in force"]
                why, costs = "it was in force, and the best new weighting is not better beyond chance", {}
        for kind in KINDS:
            rows[kind] = self._judge_fixed(chosen.model_copy(update=_only(kind)))
        names = list(rows)
        values = np.stack([rows[name][0] for name in names], axis=1)
        differences = [each for each in compare(names, values, resampled_means(values, seed=7)) if each.a == "chosen"]
        means = {name: (float(ndcg.mean()), float(recall.mean())) for name, (ndcg, recall) in rows.items()}
        exposure = self.exposure_of(chosen)
        reason = _reason(chosen, means, self._windows, exposure, costs, why)
        made_by = self._windows.last.made_by
        return Tuned(chosen, reason, len(values), means, differences, tried, made_by, exposure.first, exposure.coverage)

    def _without_silent(self, ranking: Ranking) -> Ranking:
        """Return it with weight 0 for kinds that found nothing in any window: nothing has judged their weights."""
        speaks = np.asarray(self._whole.option().past.added.any(axis=(1, 2)))
        silent = [kind for kind, found in zip(KINDS, speaks[: len(KINDS)], strict=True) if not found]

        def without(weights: Weights) -> Weights:
            kept = weights.model_copy(update=dict.fromkeys(silent, 0.0))
            return kept if any(kept.model_dump().values()) else weights

        by_history = [each.model_copy(update={"weights": without(each.weights)}) for each in ranking.by_history]
        return ranking.model_copy(update={"weights": without(ranking.weights), "by_history": tuple(by_history)})

    def exposure_of(self, ranking: Ranking) -> LimitCheck:
        """Return what all shoppers would see as of the end of the last window; each ranking is measured once."""
        key = ranking.model_copy(update={"version": ""}).model_dump_json()
        if key not in self._exposures:
            option = _Option(self._windows, ranking.profile, ranking.fusion, ranking.depth)
            self._exposures[key] = option.exposure_by_length(ranking)
        return self._exposures[key]


def _judge_window(window: Window, ranking: Ranking) -> Floats:
    """Return nDCG@10 and R@10 of the shoppers of a window, float64 (u, 2)."""
    pool, lengths = window.pool(ranking.profile, ranking.fusion, ranking.depth), window.lengths
    values = np.zeros((len(lengths), 2))
    for low, high, weights in _by_length(ranking):
        rows = np.flatnonzero((lengths > low) & (lengths <= high))
        if ranking.diversity:
            vectors, relevant = window.part.split.catalogue.vectors["document"], window.part.targets.relevant[rows]
            judged = judge_diverse(pool.some(rows), weights, ranking.diversity, vectors, relevant)
        else:
            judged = judge(pool.some(rows), weights)
        values[rows] = np.stack(judged, axis=1)
    return values


def _vector(ranking: Ranking) -> Floats:
    """Return the weights in the order of the columns of the ranking's pools."""
    return as_vector(ranking.weights, ranking.rank_weights if ranking.fusion == "blend" else None)


def _only(kind: Kind) -> dict[str, object]:
    """Return the values of a ranking that uses one kind of retriever alone."""
    weights, by_rank = as_weights(np.eye(len(KINDS))[KINDS.index(kind)]), as_weights(np.zeros(len(KINDS)))
    return {"weights": weights, "rank_weights": by_rank, "fusion": "minmax", "by_history": (), "diversity": 0.0}


def _by_length(ranking: Ranking) -> Iterator[tuple[float, float, Floats]]:
    """Yield the lengths of histories, above the first and up to the second, with their weights."""
    low = -1.0
    for each in ranking.by_history:
        yield low, each.up_to, as_vector(each.weights)
        low = each.up_to
    yield low, np.inf, _vector(ranking)


def _durations(ranking: Ranking) -> dict[str, object]:
    """Return the values on which tables depend."""
    return {**ranking.table_variables(), "text": ranking.text}


def _lowest(gains: Floats) -> float:
    """Return the low end of the 95% interval of the mean gain."""
    return float(interval(resampled_means(gains[:, None], seed=7))[0][0])


def _reason(
    ranking: Ranking,
    rows: Mapping[str, tuple[float, float]],
    windows: Windows,
    exposure: LimitCheck,
    costs: Mapping[int, float],
    why: str,
) -> str:
    single = max(KINDS, key=lambda kind: rows[kind][0])
    weights, by_rank = ranking.weights.model_dump(), ranking.rank_weights.model_dump()
    # A kind that finds nothing for anybody, such as learned vectors without a fit, has no share in the answers.
    weights = {kind: weights[kind] + by_rank[kind] for kind in KINDS if rows[kind][0] > 0.0}
    total = sum(weights.values())
    shares = sorted(weights.items(), key=lambda pair: -pair[1])
    told = ", ".join(f"{kind} {weight / total:.0%}" for kind, weight in shares if weight / total >= 0.005)
    line = (
        f"{ranking.version} ({ranking.fusion}: {told}): nDCG@10 {rows['chosen'][0]:.4f} against"
        f" {rows['equal weights'][0]:.4f} of equal weights and {rows[single][0]:.4f} of {single} alone, on"
        f" {windows.shoppers:,} shoppers of {_counted(len(windows.past), 'earlier window')}; the most frequent first"
        f" hit reaches {exposure.first:.1%} of the shoppers, the top tens {exposure.coverage:.0%} of the documents"
    )
    limits = [f"the same first hit for at most {LARGEST_FIRST:.0%}", f"a coverage of {exposure.wanted:.0%}"]
    for limit, (wanted, missing) in enumerate(zip(limits, exposure.missing, strict=True)):
        if limit in costs:
            line += f"; {wanted} costs {costs[limit]:.0%} of nDCG@10 and was {'not ' if missing else ''}taken"
        elif missing:
            line += f"; {wanted} was not reached"
    return f"{line}; {why}" if why else line


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
