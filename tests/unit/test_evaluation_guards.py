"""The guards of the protocol: oracle, chance, leaks, shuffled labels, who takes part."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.interaction_logs import DAY, START, Log, drifting, made, planted
from scipy import sparse

from vlm4rec_search.common.vectors import Ints, Scores
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.evaluation.metrics import ACCURACY, accuracy
from vlm4rec_search.evaluation.results import summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System
from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity, Random
from vlm4rec_search.evaluation.systems.peers import Ease, Factors, ItemKNN, UserKNN
from vlm4rec_search.evaluation.top_k import rank

NOW = START + 70 * DAY


def score(system: System, log: Log, split: Split, metric: str = "R@10") -> float:
    targets = log.targets(split)
    system.fit(split)
    ranking = rank(system.scores, split, targets.users, 50)
    return float(accuracy(ranking, targets.relevant, (metric,)).mean())


class Oracle(System):
    """Knows the answers."""

    name = "oracle"

    def __init__(self, targets: Targets) -> None:
        self._targets = targets

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        pass

    def scores(self, users: Ints) -> Scores:
        found = self._targets.relevant[np.searchsorted(self._targets.users, users)].toarray()
        return np.where(found > 0, found, NOT_FOUND).astype(np.float32)


def test_the_oracle_is_on_top_and_chance_at_the_bottom() -> None:
    log = planted()
    split = log.split(NOW)
    targets = log.targets(split)
    assert score(Oracle(targets), log, split, "nDCG@10") == 1
    honest, chance = score(CoPurchase(), log, split), score(Random(), log, split)
    left = 160 - np.diff(split.seen.indptr)[targets.users].mean()
    assert chance == pytest.approx(10 / left, rel=0.35)
    assert honest > 4 * chance


LEARNERS: dict[str, Callable[[], System]] = {
    "co-purchase": CoPurchase,
    "ease": Ease,
    "item-knn": ItemKNN,
    "user-knn": UserKNN,
    "als": partial(Factors, "als"),
    "bpr": partial(Factors, "bpr"),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_shuffled_labels_fall_to_chance(name: str) -> None:
    log = planted()
    split = log.split(NOW)
    targets = log.targets(split)
    chance = score(Random(), log, split)
    assert score(LEARNERS[name](), log, split) > 4 * chance, "there is something to learn"
    wrong = LEARNERS[name]()
    wrong.fit(replace(split, items=np.random.default_rng(1).permutation(split.items)))
    found = accuracy(rank(wrong.scores, split, targets.users, 50), targets.relevant, ("R@10",)).mean()
    assert found == pytest.approx(chance, abs=0.04)


class Hindsight(System):
    """Counts what was taken in the last ten days of whatever log it gets hold of."""

    name = "hindsight"

    def __init__(self, log: Log | None = None) -> None:
        self.log = log

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        times, items = (self.log.times, self.log.items) if self.log else (split.times, split.items)
        recent = items[times > times.max() - 10 * DAY]
        self.counts = np.bincount(recent, minlength=split.shape[1]).astype(np.float32)

    def scores(self, users: Ints) -> Scores:
        return np.tile(self.counts, (len(users), 1))


def test_the_time_split_catches_a_system_that_leaks_the_future() -> None:
    log = drifting()
    split = log.split(START + 89 * DAY)
    honest = score(Popularity(days=10), log, split)
    assert score(Hindsight(log), log, split) > 2 * honest, "with the whole log at hand it looks brilliant"
    assert score(Hindsight(), log, split) == pytest.approx(honest, abs=0.02), "what the split shows is only the past"
    assert split.times.max() <= split.as_of


def test_the_same_seed_gives_the_same_numbers() -> None:
    log = planted()

    def numbers(seed: int) -> list[float | None]:
        split = log.split(NOW, seed)
        found = evaluate(Parts(None, Part(split, log.targets(split))), [Random(), Popularity()])
        return [row.high for row in summarise(found, {}, seed).rows]

    assert numbers(1) == numbers(1)
    assert numbers(1) != numbers(2)


def test_random_does_not_depend_on_the_block() -> None:
    system = Random()
    system.fit(planted().split(NOW))
    assert (system.scores(np.array([0, 2]))[1] == system.scores(np.array([2]))[0]).all()


def test_users_without_enough_history_or_anything_new_are_left_out() -> None:
    rows = [
        (0, 0, 1),
        (0, 1, 2),
        (1, 0, 1),
        (2, 0, 1),
        (2, 1, 2),
        (3, 0, 1),
        (3, 1, 1),
        (0, 2, 80),
        (1, 2, 80),
        (2, 1, 80),
    ]
    log = made([*rows, (3, 3, 80)], np.eye(4))
    targets = log.targets(log.split(NOW))
    assert targets.users.tolist() == [0, 3], "1 has one item, 2 takes nothing new"
    assert sparse.csr_array(targets.relevant).toarray().tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    assert len(log.targets(log.split(NOW, known_only=True)).users) == 0, "items 2 and 3 were not there before the cut"
    repeats = replace(log.split(NOW), repeat=True)
    assert log.targets(repeats).users.tolist() == [0, 2, 3]
    assert ACCURACY[0] == "R@5"
