"""Learned systems: questions and loss by hand, and what training must and must not find in planted worlds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.interaction_logs import DAY, START, Log, made, planted

from vlm4rec_search.evaluation.data import Split, incidence
from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.results import summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.systems import smore, training
from vlm4rec_search.evaluation.systems.base import System
from vlm4rec_search.evaluation.systems.behaviour import Random
from vlm4rec_search.evaluation.systems.content import Pair
from vlm4rec_search.evaluation.systems.learned import ARCHITECTURES, Learned
from vlm4rec_search.evaluation.top_k import rank

EARLIER, NOW = START + 50 * DAY, START + 70 * DAY


def noisy() -> Log:
    """Return a planted world whose vectors tell an item's group, in a corner of much that means nothing."""
    log = planted(users=120)
    draw = np.random.default_rng(11)
    groups = np.hstack([log.vectors, draw.normal(0, 0.5, (160, 24))])
    return replace(log, vectors=groups, others={"vision": draw.normal(size=(160, 20))})


def parts_of(log: Log) -> Parts:
    before, now = log.split(EARLIER), log.split(NOW)
    return Parts(Part(before, log.until(NOW).targets(before)), Part(now, log.targets(now)))


def shuffled(split: Split) -> Split:
    items = np.random.default_rng(1).permutation(split.items)
    return replace(split, items=items, weights=incidence(split.users, items, split.shape))


def trained(architecture: str, first: Part, last: Part, copy: int = 0) -> Learned:
    system = Learned(architecture, "description", "vision", architecture, copy)
    system.fit(first.split, first.targets)
    system.fit(last.split)
    return system


def found(system: System, part: Part) -> float:
    ranking = rank(system.scores, part.split, part.targets.users, 50)
    return float(accuracy(ranking, part.targets.relevant, ("R@10",)).mean())


def test_questions_show_what_was_taken_no_later_and_never_their_own_item() -> None:
    """User 0 takes item 0, then 1 and 2 at once, then 0 again; user 1 takes item 3 alone."""
    log = made([(0, 0, 1), (0, 1, 2), (0, 2, 2), (0, 0, 3), (1, 3, 1)], np.eye(4))
    asked = training.questions(log.split(NOW), np.ones(4, dtype=np.bool_))
    assert asked.items.tolist() == [0, 1, 2, 3]
    # Nothing is known before item 0, and nothing else of user 1.
    assert asked.asked.tolist() == [1, 2]
    profiles = training._profiles(torch.eye(4), asked, asked.asked)
    assert profiles.tolist() == [[0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0]]
    assert asked.log_share[1:3] == pytest.approx([math.log(0.5)] * 2)


class Fixed:
    """Views that are given, and nothing to train."""

    rate = 1e-3

    def views(self) -> torch.Tensor:
        return torch.tensor([[1.0, 0], [0, 1], [1, 0], [0.6, 0.8]])

    def head(self, views: torch.Tensor) -> torch.Tensor:
        return views

    def parameters(self) -> list[torch.nn.Parameter]:
        return []


def test_the_loss_corrects_for_popularity_and_spares_what_the_user_has() -> None:
    # Users 0 and 1 take item 0, then 1 and 3; user 2 takes 1, then 3.
    rows = [(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 3, 2), (2, 1, 1), (2, 3, 2)]
    split = made(rows, np.eye(4)).split(NOW)
    asked = training.questions(split, np.ones(4, dtype=np.bool_))
    assert asked.items[asked.asked].tolist() == [1, 3, 3]
    loss = float(training._loss(Fixed(), asked, asked.asked, split.seen))
    # Profiles are item 0, item 0 and item 1, hence cosines with items 1, 3: (0, 0.6), (0, 0.6), (1, 0.8). Item 3 stands
    # in the batch twice, with a share of 2/3: its correction is -ln(2/3), that of item 1 is -ln(1/3).
    one, three = 3.0, 1.5
    user_0 = one * 1 / (one * 1 + 2 * three * math.exp(6))
    # User 1 has item 3, so its second place is no negative; user 2 has both items, so nothing else is.
    user_1 = three * math.exp(6) / (three * math.exp(6) + one * 1)
    assert loss == pytest.approx(-(math.log(user_0) + math.log(user_1) + math.log(1.0)) / 3, rel=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_finds_structure_and_nothing_in_shuffled_labels(architecture: str) -> None:
    parts = parts_of(noisy())
    assert parts.validation
    chance = found(_fitted(Random(), parts.test), parts.test)
    honest = found(trained(architecture, parts.validation, parts.test), parts.test)
    assert honest > 2 * chance
    wrong = Learned(architecture, "description", "vision", architecture)
    wrong.fit(shuffled(parts.test.split))
    assert found(wrong, parts.test) == pytest.approx(chance, abs=0.06)


def test_training_beats_the_mean_that_it_starts_from() -> None:
    parts = parts_of(noisy())
    assert parts.validation
    mean = _fitted(Pair("mean", "description", "vision", average=True), parts.test)
    assert found(trained("gating", parts.validation, parts.test), parts.test) > found(mean, parts.test) + 0.05


def test_seeds_repeat_and_their_spread_is_shown() -> None:
    parts = parts_of(noisy())
    system = Learned("description+vision-smore", "description", "vision", "smore")
    evaluation = evaluate(parts, [system, Random()])
    outcome = evaluation.comparisons[0].outcomes[0]
    means = [accuracy(one, parts.test.targets.relevant, ("R@10",)).mean() for one in outcome.rankings]
    row = next(row for row in summarise(evaluation, {}, 7).rows if row.metric == "R@10")
    assert row.seeds == 3
    assert row.value == pytest.approx(np.mean(means))
    assert row.spread == pytest.approx(max(means) - min(means))
    assert len(set(means)) > 1
    assert row.setting.count("epochs") == 3
    assert parts.validation
    again = trained("smore", parts.validation, parts.test)
    ranking = rank(again.scores, parts.test.split, parts.test.targets.users, 50)
    assert (ranking == outcome.rankings[0]).all(), "the first seed again"


def test_item_graphs_are_sparse_and_normalised() -> None:
    """Items 0 and 1 agree fully, item 2 with both by 0.6, item 3 with nobody."""
    vectors = np.array([[1, 0, 0], [1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], dtype=np.float32)
    one, _, both = smore.item_graphs(vectors, np.roll(vectors, 1, axis=0))
    dense = one.to_dense()
    # Degrees are 1.6, 1.6, 1.2 and none.
    assert dense[0].tolist() == pytest.approx([0, 1 / 1.6, 0.6 / math.sqrt(1.6 * 1.2), 0])
    assert one.layout == torch.sparse_coo
    # By the other kind items 1 and 2 agree fully: the larger entry of both stays.
    assert float(both.to_dense()[1, 2]) == pytest.approx(1 / 1.6)
    crowd = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    near, _, _ = smore.item_graphs(crowd / np.linalg.norm(crowd, axis=1, keepdims=True), crowd)
    assert near.coalesce().values().numel() == 200 * smore.NEIGHBOURS


def test_without_anything_to_learn_from_it_says_so() -> None:
    log = replace(made([(0, 0, 1), (1, 1, 1), (0, 2, 80)], np.eye(3)), others={"vision": np.eye(3)})
    split = log.split(NOW)
    evaluation = evaluate(
        Parts(None, Part(split, log.targets(split, history=1))),
        [Random(), Learned("gating", "description", "vision", "gating")],
    )
    assert "nothing to learn from" in evaluation.skipped["gating"]


def _fitted(system: System, part: Part) -> System:
    system.fit(part.split)
    return system
