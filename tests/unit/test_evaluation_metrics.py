"""Metrics against arithmetic by hand, a plain implementation, and ir-measures on random runs."""

import math

import ir_measures
import numpy as np
import pytest
from helpers.interaction_logs import made
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.metrics import ACCURACY, BEYOND, accuracy, beyond_accuracy, of_all_lists


def relevant(rows: list[list[int]], items: int) -> sparse.csr_array:
    dense = np.zeros((len(rows), items), dtype=np.float32)
    for row, found in enumerate(rows):
        dense[row, found] = 1
    return sparse.csr_array(dense)


def value(values: np.ndarray, row: int, name: str) -> float:
    return float(values[row, ACCURACY.index(name)])


def test_hand_computed_values() -> None:
    ranking = np.array([[4, 0, 2, 1, 3, -1], [0, 1, 2, 3, 4, 5]])
    values = accuracy(ranking, relevant([[0, 1, 5], [6]], 7))
    # Hits at ranks 2 and 4 of three targets.
    assert value(values, 0, "R@5") == pytest.approx(2 / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert value(values, 0, "nDCG@5") == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert value(values, 0, "MRR@5") == 1 / 2
    assert value(values, 0, "MAP@5") == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert value(values, 0, "HR@5") == 1
    assert not values[1].any(), "the second user's target is in no list"


def test_lists_shorter_than_k_and_empty_ones() -> None:
    values = accuracy(np.array([[1, -1, -1], [-1, -1, -1]]), relevant([[1], [0]], 3))
    assert value(values, 0, "R@50") == value(values, 0, "nDCG@50") == 1
    assert not values[1].any()


def test_users_without_a_relevant_item_are_refused() -> None:
    with pytest.raises(UsageError, match="without any relevant item"):
        accuracy(np.array([[0]]), relevant([[]], 2))
    assert accuracy(np.zeros((0, 5), dtype=np.int64), relevant([], 2).reshape((0, 2))).shape == (0, len(ACCURACY))


@given(seed=st.integers(0, 10**6), users=st.integers(1, 6), items=st.integers(2, 70))
def test_agrees_with_ir_measures_and_with_a_plain_implementation(seed: int, users: int, items: int) -> None:
    draw = np.random.default_rng(seed)
    scores = np.stack([draw.permutation(items) for _ in range(users)])  # no ties, so every tool ranks alike
    wanted = [draw.choice(items, draw.integers(1, items + 1), replace=False).tolist() for _ in range(users)]
    ranking = np.argsort(-scores, axis=1)[:, :50]
    values = accuracy(ranking, relevant(wanted, items))
    run = {str(user): {f"d{item}": float(scores[user, item]) for item in range(items)} for user in range(users)}
    qrels = {str(user): {f"d{item}": 1 for item in wanted[user]} for user in range(users)}
    names = {"R@10": "R@10", "nDCG@20": "nDCG@20", "MRR@5": "RR@5", "MAP@50": "AP@50", "HR@5": "Success@5"}
    for ours, theirs in names.items():
        found = ir_measures.iter_calc([ir_measures.parse_measure(theirs)], qrels, run)
        expected = {one.query_id: one.value for one in found}
        assert values[:, ACCURACY.index(ours)] == pytest.approx([expected[str(user)] for user in range(users)])
    for user in range(users):
        hits = [item in wanted[user] for item in ranking[user, :10]]
        gains = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(wanted[user]))))
        assert value(values, user, "nDCG@10") == pytest.approx(gains / ideal)


def test_beyond_accuracy_by_hand() -> None:
    """Three users; item 0 was taken by all of them, item 1 by one, item 2 by nobody; 0 and 1 point the same way."""
    split = made([(0, 0, 0), (1, 0, 0), (2, 0, 0), (2, 1, 0)], np.array([[1.0, 0], [1, 0], [0, 1]])).split(
        np.datetime64("2025-02-01")
    )
    lists = np.array([[0, 1, 2], [1, -1, -1], [-1, -1, -1]])
    values = beyond_accuracy(lists, split, np.array([0, 1, 2]))
    novelty, diversity, bias = (
        values[:, BEYOND.index(name)] for name in ("Novelty@5", "Diversity@5", "PopularityBias@5")
    )
    # -log2 of (3+1)/4, (1+1)/4 and (0+1)/4: 0, 1 and 2 bits.
    assert novelty[:2] == pytest.approx([1.0, 1.0])
    # Pairs 0-1 (cosine 1), 0-2 and 1-2 (cosine 0).
    assert diversity[0] == pytest.approx(1 - 1 / 3)
    # Users 0 and 1 take items with 3 users; the lists' items have (3+1+0)/3 and 1.
    assert bias[:2] == pytest.approx([4 / 9 - 1, 1 / 3 - 1])
    assert np.isnan(values[2]).all()
    assert np.isnan(diversity[1]), "one item has no pair"
    together = of_all_lists(np.pad(lists, ((0, 0), (0, 47)), constant_values=-1), split)
    assert (together["Coverage@5"], together["Coverage@50"]) == (1, 1)
    # Two users have a list, with different first items; item 0 is the popular half of the items with interactions.
    assert (together["TopShare@1"], together["Tail@10"]) == (0.5, 3 / 4)
