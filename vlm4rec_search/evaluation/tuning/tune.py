"""Chooses the ranking of a shop on rolling windows of its own history: `vlm4rec tune`, and `vlm4rec index`.

The test part of `vlm4rec evaluate` lies behind the last window and plays no role.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

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
    build_pool,
    climb,
    fit_blend,
    join,
    judge,
    judge_diverse,
    top_ten,
)
from vlm4rec_search.evaluation.tuning.windows import STARTS, Window, Windows, build_windows, retrieve_windows
from vlm4rec_search.search.exposure import measure_exposure
from vlm4rec_search.search.query import KINDS, Fusion, Kind
from vlm4rec_search.search.ranking import HistoryWeights, Ranking, load_ranking, write_ranking

Say = Callable[[str], None]

DEPTHS = (100, 200, 400)
PROFILES = ("mean", "interests")
FUSIONS: tuple[Fusion, ...] = ("rrf", "minmax")
DIVERSITIES = (0.1, 0.2, 0.3)
FEW = 3  # the rough search looks at every third shopper
REFINED = 3  # of its results, the best are refined with all shoppers
USERS = 1_000  # the most shoppers: more would hardly narrow an interval
FEWEST = 100  # shoppers of all windows; with fewer a choice would be chance
SHORT = (3, 10)  # items of histories that may get weights of their own

# A little stricter than what is promised, a tenth and four fifths, since the tables that are published are newer.
LARGEST_FIRST = 0.08  # share of the shoppers who may see the same first hit
COVERAGE = 0.85  # of the documents that the first ten hits of all shoppers would cover if they were drawn at random
WORTH = 0.1  # share of nDCG@10 that the coverage may cost

_FIRST, _BOTH = (1.0, 0.0), (1.0, 1.0)  # what a broken limit costs: of the first hit, and of the coverage

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
        rows: mean nDCG@10 and R@10 of the choice, of the ranking in force, of equal weights, and of each kind of
            retriever alone; empty where nothing could be judged.
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

    The weighting with the largest mean nDCG@10 is searched, under two limits as of the end of the last window. What the
    most frequent first hit reaches beyond `LARGEST_FIRST` of the shoppers counts against nDCG@10. Top tens should cover
    `COVERAGE` of the documents that random lists would, where that costs at most `WORTH` of nDCG@10. Equal weights stay
    where the gain is within one standard error, and the ranking in force stays unless the 95% interval of the
    difference lies above 0. With fewer than `FEWEST` shoppers the packaged configuration is chosen.

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
        return _too_little(f"the shop has {shoppers:,} shoppers with a history")
    with workbench(settings) as bench, TemporaryDirectory(dir=settings.cache) as name:
        folder = Path(name)

        def judged(ranking: Ranking) -> _Trial | None:
            file = folder / "ranking.yaml"
            write_ranking(ranking, file)
            parts = build_windows(bench, protocol, file, protocol.sample or USERS)
            if sum(len(part.targets.users) for part in parts[:-1]) < FEWEST:
                return None
            deep = ranking.model_copy(update={"depth": max(*DEPTHS, ranking.depth)})
            return _Trial(ranking, retrieve_windows(parts, deep, folder), diverse=tables)

        say("Building the tables as of earlier moments, to choose the ranking on what shoppers took next")
        try:
            best = judged(start)
        except UsageError as error:
            return _too_little(str(error))
        if best is None:
            return _too_little(f"fewer than {FEWEST} shoppers have a history and took something new after it")
        tried = best.tried
        for key, values in TABLES.items() if tables else ():
            for value in [value for value in values if value != getattr(best.ranking, key)]:
                say(f"Building the tables with {key} {value}")
                other = judged(best.ranking.model_copy(update={key: value}))
                tried += other.tried if other else 0
                if other and _is_above(other.ndcg, best.ndcg):
                    best = other
        return best.result(version, in_force, tried)


def _too_little(why: str) -> Tuned:
    ranking = load_ranking()
    return Tuned(ranking, f"{ranking.version}, equal weights, since the history is too short to choose: {why}", 0)


def _is_above(values: Floats, others: Floats) -> bool:
    """Return whether the mean difference is more than one standard error above 0, paired over shoppers."""
    gain = values - others
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


@dataclass(frozen=True)
class _Exposure:
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

    def is_no_worse(self, other: "_Exposure") -> bool:
        """Return whether no limit is broken by more."""
        return all(own <= others for own, others in zip(self.missing, other.missing, strict=True))


class _Option:
    """Pools of one profile, fusion and depth, and the best weights over them."""

    def __init__(self, windows: Windows, profile: str, fusion: Fusion, depth: int, every: int = 1) -> None:
        """Take each `every`-th shopper; a pool is built when it is needed."""
        self.profile, self.fusion, self.depth = profile, fusion, depth
        self._windows, self._every, self.tried = windows, every, 0

    @cached_property
    def past(self) -> Pool:
        """The shoppers of all windows."""
        return join([self._pool(window) for window in self._windows.past])

    @cached_property
    def last(self) -> Pool:
        """The shoppers of the end of the last window."""
        return self._pool(self._windows.last)

    def _pool(self, window: Window) -> Pool:
        candidates, relevant = window.candidates[self.profile], window.part.targets.relevant
        return build_pool(candidates[:: self._every], relevant[:: self._every], self.fusion, self.depth)

    def ndcg(self, weights: Floats) -> Floats:
        """Return nDCG@10 of every shopper of the windows."""
        self.tried += 1
        return judge(self.past, weights)[0]

    def exposure(self, weights: Floats) -> _Exposure:
        """Return what all shoppers would see as of the end of the last window."""
        return self.against_limits(top_ten(self.last, weights))

    def exposure_by_length(self, ranking: Ranking) -> _Exposure:
        """Return the same for a ranking with weights by the length of the history."""
        lengths = _lengths(self._windows.last)[:: self._every]
        shown = np.full((len(lengths), 10), NOBODY, dtype=np.int64)
        for low, high, weights in _by_length(ranking):
            rows = np.flatnonzero((lengths > low) & (lengths <= high))
            shown[rows] = top_ten(self.last.some(rows), weights)
        return self.against_limits(shown)

    def against_limits(self, shown: Ints) -> _Exposure:
        """Compare what top tens, int64 (u, 10), show together with the limits."""
        split = self._windows.last.part.split
        measured = measure_exposure(shown, split.catalogue.item_ids, split.popularity)
        # Drawn at random, s slots cover 1 - exp(-s / n) of n documents.
        reachable = 1.0 - np.exp(-shown.size / max(measured.documents, 1))
        return _Exposure(measured.first_share, measured.coverage, float(COVERAGE * reachable))

    def value(self, weights: Floats, limits: tuple[float, float]) -> float:
        """Return the mean nDCG@10, less what is missing from each limit times its weight."""
        missing = self.exposure(weights).missing
        return float(self.ndcg(weights).mean()) - limits[0] * missing[0] - limits[1] * missing[1]

    def climb(self, start: Floats, limits: tuple[float, float], steps: tuple[float, ...]) -> Floats:
        """Return the weights with the best value."""
        return climb(start, lambda weights: self.value(weights, limits), steps)[0]


class _Trial:
    """The best ranking over one set of tables.

    Attributes:
        ranking: the best configuration.
        ndcg: its nDCG@10 of every shopper of the windows.
        tried: number of rankings that were judged.
    """

    def __init__(self, start: Ranking, windows: Windows, diverse: bool) -> None:
        self._start, self._windows, self.tried = start, windows, 0
        self._equal = load_ranking()
        self._best, weights = self._search_weights()
        self.ranking = self._named(self._best, weights)
        self.ndcg = self._best.ndcg(weights)
        self._exposure = self._best.exposure(weights)
        self._cost: float | None = None
        self._cover(weights)
        self._try_depths()
        self._try_lengths()
        self._try_blend()
        if diverse:
            self._try_diversity()

    def _option(self, profile: str, fusion: Fusion, depth: int) -> _Option:
        return _Option(self._windows, profile, fusion, depth)

    def _named(self, option: _Option, weights: Floats) -> Ranking:
        changes = {"profile": option.profile, "fusion": option.fusion, "depth": option.depth}
        return self._start.model_copy(update={**changes, "weights": as_weights(weights), "schema_version": 2})

    def _search_weights(self) -> tuple[_Option, Floats]:
        """Return the best profile and fusion, and the best weights under the limit of the first hit.

        A part of the shoppers finds rough weights, from several starts, since the value has many peaks. All shoppers
        refine the best of them.
        """
        equal = as_vector(self._equal.weights)
        equal /= equal.sum()
        popular = np.eye(len(KINDS))[KINDS.index("popularity")]
        rough = []
        for profile, fusion in product(PROFILES, FUSIONS):
            option = _Option(self._windows, profile, fusion, min(DEPTHS), every=FEW)
            single = max(np.eye(len(KINDS)), key=lambda weights: float(option.ndcg(weights).mean()))
            for start in (equal, 0.6 * single + 0.4 * equal, 0.5 * single + 0.3 * equal + 0.2 * popular):
                weights = option.climb(start, _FIRST, (0.2, 0.1))
                rough.append((option.value(weights, _FIRST), profile, fusion, weights))
            self.tried += option.tried
        rough.sort(key=lambda each: -each[0])
        found = []
        for _, profile, fusion, start in rough[:REFINED]:
            option = self._option(profile, fusion, self._start.depth)
            weights = option.climb(start, _FIRST, (0.2, 0.1, 0.05))
            found.append((option.value(weights, _FIRST), option, weights))
            self.tried += option.tried
        _, option, weights = max(found, key=lambda each: each[0])
        return option, weights

    def _cover(self, weights: Floats) -> None:
        """Ask for coverage, and take it where it costs little."""
        if not self._exposure.missing[1]:
            return
        wide = self._best.climb(weights, _BOTH, (0.2, 0.1, 0.05))
        exposure, ndcg = self._best.exposure(wide), self._best.ndcg(wide)
        self._cost = 1.0 - float(ndcg.mean()) / max(float(self.ndcg.mean()), 1e-12)
        if self._cost <= WORTH and not exposure.missing[1]:
            self.ranking, self.ndcg, self._exposure = self._named(self._best, wide), ndcg, exposure

    def _try_depths(self) -> None:
        weights = _vector(self.ranking)
        for depth in DEPTHS:
            if depth != self._best.depth:
                option = self._option(self._best.profile, self._best.fusion, depth)
                self._keep_if_above(option, weights, self._named(option, weights))
                self.tried += option.tried

    def _try_lengths(self) -> None:
        """Give short histories weights of their own where that helps."""
        lengths = np.concatenate([_lengths(window) for window in self._windows.past])
        taken = 0  # lengths up to this have weights of their own
        for up_to in SHORT:
            rows = np.flatnonzero((lengths > taken) & (lengths <= up_to))
            if not FEWEST <= len(rows) <= len(lengths) - FEWEST:
                continue
            pool = self._best.past.some(rows)
            weights, _, tried = climb(
                as_vector(self.ranking.weights_for(up_to)),
                lambda weights, pool=pool: float(judge(pool, weights)[0].mean()),  # type: ignore[misc]
                (0.1, 0.05),
            )
            self.tried += tried
            changed = self.ndcg.copy()
            changed[rows] = judge(pool, weights)[0]
            of_short = HistoryWeights(up_to=up_to, weights=as_weights(weights))
            ranking = self.ranking.model_copy(update={"by_history": (*self.ranking.by_history, of_short)})
            exposure = self._best.exposure_by_length(ranking)
            if _lowest(changed[rows] - self.ndcg[rows]) > 0.0 and exposure.is_no_worse(self._exposure):
                self.ranking, self.ndcg, self._exposure, taken = ranking, changed, exposure, up_to

    def _try_blend(self) -> None:
        """Fit a blend of scores and ranks, judge each window by a fit on the others, and take it where it is better."""
        pools = [
            build_pool(window.candidates[self._best.profile], window.part.targets.relevant, "blend", self._best.depth)
            for window in self._windows.past
        ]
        if len(pools) < 2:
            return
        others = [[pool for pool in pools if pool is not judged] for judged in pools]
        ndcg = np.concatenate([judge(pool, fit_blend(rest))[0] for pool, rest in zip(pools, others, strict=True)])
        self.tried += len(pools)
        if _lowest(ndcg - self.ndcg) <= 0.0:
            return
        option, vector = self._option(self._best.profile, "blend", self._best.depth), fit_blend(pools)
        exposure = option.exposure(vector)
        if exposure.is_no_worse(self._exposure):
            by_rank = as_weights(vector[len(KINDS) :])
            changes = {"rank_weights": by_rank, "by_history": ()}
            self._best, self._exposure, self.ndcg = option, exposure, option.ndcg(vector)
            self.ranking = self._named(option, vector).model_copy(update=changes)

    def _try_diversity(self) -> None:
        for diversity in DIVERSITIES:
            ranking = self.ranking.model_copy(update={"diversity": diversity})
            ndcg = self._judge(ranking)[0]
            self.tried += 1
            if _is_above(ndcg, self.ndcg):
                self.ranking, self.ndcg = ranking, ndcg

    def _keep_if_above(self, option: _Option, weights: Floats, ranking: Ranking) -> None:
        exposure, ndcg = option.exposure(weights), option.ndcg(weights)
        if _is_above(ndcg, self.ndcg) and exposure.is_no_worse(self._exposure):
            self._best, self.ranking, self.ndcg, self._exposure = option, ranking, ndcg, exposure

    def _judge(self, ranking: Ranking) -> tuple[Floats, Floats]:
        """Return nDCG@10 and R@10 of every shopper for a configuration over these tables, as a search would answer."""
        found = []
        for window in self._windows.past:
            candidates, relevant = window.candidates[ranking.profile], window.part.targets.relevant
            pool = build_pool(candidates, relevant, ranking.fusion, ranking.depth)
            lengths = _lengths(window)
            values = np.zeros((len(lengths), 2))
            for low, high, weights in _by_length(ranking):
                rows = np.flatnonzero((lengths > low) & (lengths <= high))
                if ranking.diversity:
                    vectors = window.part.split.catalogue.vectors["document"]
                    judged = judge_diverse(pool.some(rows), weights, ranking.diversity, vectors, relevant[rows])
                else:
                    judged = judge(pool.some(rows), weights)
                values[rows] = np.stack(judged, axis=1)
            found.append(values)
        values = np.concatenate(found)
        return values[:, 0], values[:, 1]

    def result(self, version: str, in_force: Ranking | None, tried: int) -> Tuned:
        """Compare the best ranking with equal weights, with the ranking in force and with each kind alone."""
        chosen = self.ranking.model_copy(update={"version": version})
        equal = self._equal.model_copy(update=_durations(self._start))
        rows = {"chosen": self._judge(chosen), "equal weights": self._judge(equal)}
        why = ""
        if not _is_above(rows["chosen"][0], rows["equal weights"][0]) and self._allowed(equal):
            chosen = equal.model_copy(update={"version": version})
            rows["chosen"] = rows["equal weights"]
            why = "no weighting is better than equal weights beyond chance"
        if in_force is not None:
            in_force = in_force.model_copy(update=_durations(self._start))
            rows["in force"] = self._judge(in_force)
            if _lowest(rows["chosen"][0] - rows["in force"][0]) <= 0.0 and self._allowed(in_force):
                chosen, rows["chosen"] = in_force, rows["in force"]
                why = "it was in force, and the best new weighting is not better beyond chance"
        for kind in KINDS:
            rows[kind] = self._judge(chosen.model_copy(update=_only(kind)))
        names = list(rows)
        values = np.stack([rows[name][0] for name in names], axis=1)
        differences = [each for each in compare(names, values, resampled_means(values, seed=7)) if each.a == "chosen"]
        means = {name: (float(ndcg.mean()), float(recall.mean())) for name, (ndcg, recall) in rows.items()}
        exposure = self._exposure_of(chosen)
        reason = _reason(chosen, means, self._windows, exposure, None if why else self._cost, why)
        tables = self._windows.last.part.split.tables
        made_by = (tables.captioner, tables.encoder) if tables else None
        return Tuned(chosen, reason, len(values), means, differences, tried, made_by, exposure.first, exposure.coverage)

    def _allowed(self, ranking: Ranking) -> bool:
        return not self._exposure_of(ranking).missing[0]

    def _exposure_of(self, ranking: Ranking) -> _Exposure:
        return self._option(ranking.profile, ranking.fusion, ranking.depth).exposure_by_length(ranking)


def _vector(ranking: Ranking) -> Floats:
    """Return the weights in the order of the columns of the ranking's pools."""
    return as_vector(ranking.weights, ranking.rank_weights if ranking.fusion == "blend" else None)


def _only(kind: Kind) -> dict[str, object]:
    """Return the values of a ranking that uses one kind of retriever alone."""
    weights, by_rank = as_weights(np.eye(len(KINDS))[KINDS.index(kind)]), as_weights(np.zeros(len(KINDS)))
    return {"weights": weights, "rank_weights": by_rank, "fusion": "minmax", "by_history": (), "diversity": 0.0}


def _lengths(window: Window) -> Ints:
    """Return the number of items that each shopper has seen, by which a search chooses weights."""
    return np.array([each.seen for each in window.candidates["mean"]], dtype=np.int64)


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
    exposure: _Exposure,
    cost: float | None,
    why: str,
) -> str:
    single = max(KINDS, key=lambda kind: rows[kind][0])
    weights, by_rank = ranking.weights.model_dump(), ranking.rank_weights.model_dump()
    weights = {kind: weights[kind] + by_rank[kind] for kind in KINDS}
    total = sum(weights.values())
    shares = sorted(weights.items(), key=lambda pair: -pair[1])
    told = ", ".join(f"{kind} {weight / total:.0%}" for kind, weight in shares if weight / total >= 0.005)
    line = (
        f"{ranking.version} ({ranking.fusion}: {told}): nDCG@10 {rows['chosen'][0]:.4f} against"
        f" {rows['equal weights'][0]:.4f} of equal weights and {rows[single][0]:.4f} of {single} alone, on"
        f" {windows.shoppers:,} shoppers of {_counted(len(windows.past), 'earlier window')}; the most frequent first"
        f" hit reaches {exposure.first:.0%} of the shoppers, the top tens {exposure.coverage:.0%} of the documents"
    )
    if cost is not None:
        fate = "was taken" if not exposure.missing[1] else "was not taken"
        line += f" (a coverage of {exposure.wanted:.0%} costs {max(cost, 0.0):.0%} of nDCG@10 and {fate})"
    return f"{line}; {why}" if why else line


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
