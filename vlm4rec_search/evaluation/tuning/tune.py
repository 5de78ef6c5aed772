"""The job of `vlm4rec tune`: chooses tables, fusion and weights on a validation split."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import Floats
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.evaluation.protocol import Protocol, cuts_of, find_targets, taken_between
from vlm4rec_search.evaluation.significance import Difference, compare, resampled_means
from vlm4rec_search.evaluation.snapshots import Workbench, workbench
from vlm4rec_search.evaluation.splits import VALIDATION, Part, load_split
from vlm4rec_search.evaluation.systems.product import publish_split
from vlm4rec_search.evaluation.tuning.sweep import (
    Pool,
    UserCandidates,
    best_weights,
    build_pool,
    judge,
    judge_diverse,
    retrieve_candidates,
)
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.pointer import current_release
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.query import KINDS, Fusion
from vlm4rec_search.search.ranking import Ranking, Weights, load_ranking, write_ranking
from vlm4rec_search.search.searcher import Searcher

Say = Callable[[str], None]

DEPTHS = (100, 200, 400)
PROFILES = ("mean", "interests")
USERS = 2_000  # the most users: more would hardly narrow an interval
DIVERSITIES = (0.0, 0.1, 0.2, 0.3)
FUSIONS: tuple[Fusion, ...] = ("rrf", "minmax")
TABLES: Mapping[str, tuple[float, ...]] = {
    "half_life_days": (30, 60, 120, 365),
    "behaviour_half_life_days": (10, 20, 60),
    "co_purchase_days": (60, 90, 180),
    "popularity_days": (14, 30, 60),
    "terms": (32, 64, 128),
    "interests": (2, 3, 4),
}


@dataclass(frozen=True)
class Tuned:
    """What a tuning chose.

    Attributes:
        ranking: the chosen configuration.
        users: number of users that judged it.
        rows: mean nDCG@10 and R@10 of the choice, of the configuration before it, and of each kind of retriever alone.
        differences: nDCG@10 of the choice minus that of each other row, with 95% intervals.
        tried: number of rankings that were judged.
    """

    ranking: Ranking
    users: int
    rows: Mapping[str, tuple[float, float]]
    differences: list[Difference]
    tried: int


def tune(settings: Settings, protocol: Protocol, tables: bool, version: str, say: Say) -> Tuned:
    """Choose a ranking configuration on the validation part of a protocol; its test part plays no role.

    One value of the tables is changed at a time, and kept where it helps. For each, every fusion, depth, kind of
    profile and weighting of the retrievers is judged over the same candidates.

    Args:
        settings: warehouse, cache and the configuration to start from.
        protocol: its validation cut splits the history.
        tables: also try values that tables depend on; each needs a plan.
        version: name of the new configuration.
        say: receives the name of each long step.

    Raises:
        UsageError: there are no tables yet, or no user has held-out items.
        RunError: the warehouse is being written, or a plan fails.
    """
    with workbench(settings) as bench, TemporaryDirectory(dir=settings.cache) as folder:
        trials = _Trials(bench, protocol, Path(folder), say)
        first = best = trials.judge(load_ranking(settings.ranking))
        for name, values in TABLES.items() if tables else ():
            for value in [value for value in values if value != getattr(best.ranking, name)]:
                other = trials.judge(best.ranking.model_copy(update={name: value}))
                best = other if other.value > best.value else best
    return _result(best, first.users["before"], version, trials.tried)


@dataclass(frozen=True)
class _Trial:
    """The best ranking over one set of tables, its mean nDCG@10, and values of each user.

    Attributes:
        users: nDCG@10 and R@10 of each user for the choice, each kind of retriever alone, and the first configuration.
    """

    ranking: Ranking
    value: float
    users: dict[str, tuple[Floats, Floats]]


class _Trials:
    def __init__(self, bench: Workbench, protocol: Protocol, folder: Path, say: Say) -> None:
        self._bench, self._protocol, self._folder, self._say = bench, protocol, folder, say
        self.tried = 0

    def judge(self, ranking: Ranking) -> _Trial:
        """Build the tables of a configuration and return the best ranking over them."""
        with self._retrieved(ranking) as (answers, part):
            options = [self._option(ranking, part, users, {"profile": name, "fusion": rule})
                       for name, users in answers.items() for rule in FUSIONS]  # fmt: skip
            value, chosen = max(options, key=lambda option: option[0])
            users = answers[chosen.profile]
            deeper = [self._option(chosen, part, users, {"depth": depth}) for depth in DEPTHS if depth != chosen.depth]
            value, chosen = max([(value, chosen), *deeper], key=lambda option: option[0])
            value, chosen = max((self._diverse(chosen, part, users, share) for share in DIVERSITIES),
                                key=lambda option: option[0])  # fmt: skip
            self._say(f"nDCG@10 {value:.4f} with {_describe(chosen)}")
            values = _values(chosen, users, part)
            values["before"] = _values(ranking, answers[ranking.profile], part)["chosen"]
            return _Trial(chosen, value, values)

    def _option(
        self, ranking: Ranking, part: Part, users: list[UserCandidates], update: dict[str, object]
    ) -> tuple[float, Ranking]:
        """Return the best weighting of the retrievers for a configuration with some values changed."""
        changed = ranking.model_copy(update=update)
        candidates = build_pool(users, part.targets.relevant, changed.fusion, changed.depth)
        weights, value, tried = best_weights(candidates)
        self.tried += tried
        return value, changed.model_copy(update={"weights": Weights(**weights)})

    def _diverse(
        self, ranking: Ranking, part: Part, users: list[UserCandidates], diversity: float
    ) -> tuple[float, Ranking]:
        self.tried += 1
        changed = ranking.model_copy(update={"diversity": diversity})
        candidates = build_pool(users, part.targets.relevant, changed.fusion, changed.depth)
        return float(_as_searched(changed, candidates, part)[0].mean()), changed

    @contextmanager
    def _retrieved(self, ranking: Ranking) -> Iterator[tuple[dict[str, list[UserCandidates]], Part]]:
        part = self._part(ranking)
        with TemporaryDirectory(dir=self._folder) as folder:
            publish_split(part.split, Path(folder))
            path = current_release(Path(folder))
            if path is None:
                raise UsageError("the tables have no documents")
            store = Store(path)
            with Searcher(EmbeddedBackend(store)) as searcher:
                deep = ranking.model_copy(update={"depth": max(*DEPTHS, ranking.depth)})
                yield (
                    {
                        name: retrieve_candidates(searcher, store, part, deep.model_copy(update={"profile": name}))
                        for name in PROFILES
                    },
                    part,
                )

    def _part(self, ranking: Ranking) -> Part:
        """Build the tables of a configuration as of the validation cut, and read them."""
        file = self._folder / "ranking.yaml"
        write_ranking(ranking, file)
        with read(self._bench.settings.warehouse) as connection:
            cuts = cuts_of(connection, self._bench.settings.data_dir, self._protocol)
            later = taken_between(connection, cuts.validation, cuts.test)
        self._say("Building the tables with " + ", ".join(f"{name} {getattr(ranking, name):g}" for name in TABLES))
        self._bench.plan_as_of(VALIDATION, cuts.validation, file)
        split = load_split(self._bench.settings, VALIDATION, self._protocol, frozenset())
        targets = find_targets(split, later, self._protocol.history)
        if not len(targets.users):
            raise UsageError("no user has both a history before the validation cut and an item after it")
        return Part(split, targets.some(self._protocol.sample or USERS, self._protocol.seed))


def _values(ranking: Ranking, users: list[UserCandidates], part: Part) -> dict[str, tuple[Floats, Floats]]:
    candidates = build_pool(users, part.targets.relevant, ranking.fusion, ranking.depth)
    alone: dict[str, dict[str, float]] = {kind: {other: float(other == kind) for other in KINDS} for kind in KINDS}
    chosen = _as_searched(ranking, candidates, part)
    return {"chosen": chosen, **{kind: judge(candidates, only) for kind, only in alone.items()}}


def _as_searched(ranking: Ranking, candidates: Pool, part: Part) -> tuple[Floats, Floats]:
    weights: dict[str, float] = ranking.weights.model_dump()
    vectors = part.split.catalogue.vectors["document"]
    return judge_diverse(candidates, weights, ranking.diversity, vectors, part.targets.relevant)


def _result(best: _Trial, before: tuple[Floats, Floats], version: str, tried: int) -> Tuned:
    users = {**best.users, "before": before}
    names = list(users)
    values = np.stack([users[name][0] for name in names], axis=1)
    samples = resampled_means(values, seed=7)
    differences = [found for found in compare(names, values, samples) if found.a == "chosen"]
    rows = {name: (float(ndcg.mean()), float(recall.mean())) for name, (ndcg, recall) in users.items()}
    return Tuned(best.ranking.model_copy(update={"version": version}), len(values), rows, differences, tried)


def _describe(ranking: Ranking) -> str:
    weights = ", ".join(f"{kind} {weight:g}" for kind, weight in ranking.weights.model_dump().items() if weight)
    return f"{ranking.fusion}, depth {ranking.depth}, {ranking.profile}: {weights}"
