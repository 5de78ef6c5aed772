"""Interests: Ward clusters against scipy's, medoids and shares against hand-computed numbers."""

from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.profiles import all_interests
from scipy.cluster.hierarchy import fcluster, linkage

from vlm4rec_search.common.cache import Cache
from vlm4rec_search.profiles.interests import NEAR, cluster_ward

EAST, NORTH, WEST = np.float32([1, 0, 0]), np.float32([0, 1, 0]), np.float32([-1, 0, 0])
BY_EAST = np.float32([0.96, 0.28, 0])  # cosine with EAST 0.96, squared distance 0.08
NEAR_EAST = np.float32([0.8, 0.6, 0])  # with EAST 0.8 and 0.4, with BY_EAST 0.936 and 0.128
ITEMS = pd.DataFrame({"item_id": list("abcnw"), "vector": [EAST, BY_EAST, NEAR_EAST, NORTH, WEST]})


def weights(*rows: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "weight"])


@pytest.mark.parametrize("size", [2, 3, 7, 30])
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_clusters_equal_those_of_scipy(size: int, limit: int) -> None:
    draw = np.random.default_rng(size)
    points = draw.normal(size=(20, size, 6)) + 2 * draw.normal(size=(20, 3, 6))[:, np.arange(size) % 3]
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    squares = np.zeros((20, size + 2, size + 2), dtype=np.float32)  # with padding
    squares[:, :size, :size] = 2 - 2 * points @ points.transpose(0, 2, 1)
    clusters = cluster_ward(np.maximum(squares, 0), np.full(20, size), limit)
    assert (clusters[:, size:] == -1).all()
    for labels, cloud in zip(clusters[:, :size], points, strict=True):
        tree = linkage(cloud, "ward")
        expected = fcluster(tree, min(limit, 1 + int((tree[:, 2] >= NEAR).sum())), "maxclust")
        pairs = set(zip(labels.tolist(), expected.tolist(), strict=True))
        assert len(pairs) == len(set(labels.tolist())) == len(set(expected.tolist()))


def test_an_interest_is_a_mean_with_a_medoid_and_a_share() -> None:
    rows = weights(("u", "a", 1.0), ("u", "b", 1.0), ("u", "c", 1.0), ("u", "n", 5.0), ("u", "w", -9.0))
    interests = all_interests(rows, ITEMS, 2)
    assert interests["rank"].tolist() == [1, 2]
    assert interests["importance"].tolist() == pytest.approx([5 / 8, 3 / 8])
    assert [list(items) for items in interests["items"]] == [["n"], ["a", "b", "c"]]
    # costs: a 0.08 + 0.4, b 0.08 + 0.128, c 0.4 + 0.128
    assert interests["medoid"].tolist() == ["n", "b"]
    total = np.array([1 + 0.96 + 0.8, 0.28 + 0.6, 0])
    assert interests["vector"].tolist()[1] == pytest.approx(total / sqrt(2.76**2 + 0.88**2))


def test_heavy_items_attract_the_medoid() -> None:
    interests = all_interests(weights(("u", "a", 9.0), ("u", "b", 1.0), ("u", "c", 1.0)), ITEMS, 2)
    # costs: a 0.08 + 0.4, b 9 x 0.08 + 0.128, c 9 x 0.4 + 0.128
    assert interests["medoid"].tolist() == ["a"]


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_near_clusters_are_merged_and_the_limit_holds(limit: int, expected: int) -> None:
    rows = weights(*[("u", item, 1.0) for item in "abcnw"])
    interests = all_interests(rows, ITEMS, limit)
    assert len(interests) == expected
    assert interests["importance"].sum() == pytest.approx(1.0)
    assert np.linalg.norm(np.stack(interests["vector"].tolist()), axis=1) == pytest.approx(1.0)


def test_an_interest_whose_vectors_cancel_out_is_the_medoid_alone() -> None:
    interests = all_interests(weights(("u", "a", 1.0), ("u", "w", 1.0)), ITEMS, 1)
    assert (interests["medoid"].tolist(), list(interests["items"][0])) == (["a"], ["a"])
    assert interests["vector"].tolist()[0] == pytest.approx([1, 0, 0])


def test_users_of_one_block_are_independent() -> None:
    rows = weights(("t", "n", 1.0), ("u", "a", 1.0), ("u", "w", 2.0), ("v", "w", -1.0), ("w", "gone", 1.0))
    interests = all_interests(rows, ITEMS, 4)
    medoids = list(zip(interests["user_id"], interests["rank"], interests["medoid"], strict=True))
    assert medoids == [("t", 1, "n"), ("u", 1, "w"), ("u", 2, "a")]


def test_long_histories_are_reduced_to_their_largest_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4rec_search.profiles.interests.ITEMS", 2)
    interests = all_interests(weights(("u", "a", 1.0), ("u", "n", 3.0), ("u", "w", 2.0)), ITEMS, 4)
    assert interests["medoid"].tolist() == ["n", "w"]
    assert interests["importance"].tolist() == pytest.approx([0.6, 0.4])


def test_only_users_whose_weights_changed_are_clustered_again(tmp_path: Path) -> None:
    before = weights(("t", "a", 1.0), ("t", "n", 0.5), ("u", "w", 1.0))
    after = weights(("t", "a", 2.0), ("t", "n", 1.0), ("u", "w", 1.0), ("u", "n", 1.0))
    all_interests(before, ITEMS, 3, tmp_path)
    interests = all_interests(after, ITEMS, 3, tmp_path)
    all_interests(after, ITEMS, 2, tmp_path)
    with Cache(tmp_path) as store:
        assert [(row.kind, row.computed) for row in store.ledger()] == [("interests", n) for n in (2, 1, 2)]
    pd.testing.assert_frame_equal(interests, all_interests(after, ITEMS, 3))


def test_empty_inputs_give_empty_frames() -> None:
    columns = ["user_id", "rank", "importance", "medoid", "items", "vector"]
    for rows, items in ((weights(), ITEMS), (weights(("u", "a", 1.0)), ITEMS[:0]), (weights(("u", "a", -1.0)), ITEMS)):
        interests = all_interests(rows, items, 3)
        assert list(interests.columns) == columns
        assert len(interests) == 0
