"""Profile vectors and weighted terms against hand-computed numbers."""

from math import log, sqrt
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.profiles import all_interests, all_vectors

from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.profiles import read_weights, term_weights, user_vectors
from vlm4rec_search.profiles.histories import build_histories

ITEMS = pd.DataFrame(
    {"item_id": ["a", "b", "c"], "vector": [np.float32([1, 0]), np.float32([0, 1]), np.float32([-1, 0])]}
)
DOCUMENTS = pd.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "text": ["Red dresses. A dress. Dresses!", "red shoe", "blue shoe. for running. blue"],
    }
)


def weights(*rows: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "weight"])


def computed_counts(cache: Path) -> list[int]:
    with Cache(cache) as store:
        return [row.computed for row in store.ledger()]


def test_the_vector_is_the_weighted_mean_scaled_to_length_1() -> None:
    result = all_vectors(weights(("u", "b", 1.0), ("u", "a", 2.0), ("t", "c", 0.5), ("u", "gone", 9.0)), ITEMS)
    assert result["user_id"].tolist() == ["t", "u"]
    assert result["items"].tolist() == [1, 2]
    assert result["length"].tolist() == pytest.approx([0.5, sqrt(5)])
    assert result["vector"].tolist()[1] == pytest.approx([2 / sqrt(5), 1 / sqrt(5)])
    assert result["vector"].tolist()[0] == pytest.approx([-1, 0])


def test_negative_weights_point_away_from_their_items() -> None:
    result = all_vectors(weights(("u", "a", 1.0), ("u", "b", -1.0)), ITEMS)
    assert result["vector"].tolist()[0] == pytest.approx([sqrt(0.5), -sqrt(0.5)])


def test_users_without_a_profile_have_no_row() -> None:
    rows = [("opposites", "a", 0.3), ("opposites", "c", 0.3), ("lost", "gone", 1.0), ("angry", "a", -1.0)]
    result = all_vectors(weights(*rows, ("bored", "a", 0.0)), ITEMS)
    assert list(result.columns) == ["user_id", "items", "length", "vector"]
    assert len(result) == 0


def test_only_users_whose_weights_changed_are_computed_again(tmp_path: Path) -> None:
    before = weights(("t", "a", 2.0), ("u", "a", 1.0), ("u", "b", 1.0), ("v", "c", 0.0))
    # t: the same item at another weight is the same direction; u: an event more; w is new
    after = weights(("t", "a", 1.0), ("u", "a", 1.0), ("u", "b", 2.0), ("v", "c", 0.0), ("w", "b", 1.0))
    first, second = all_vectors(before, ITEMS, tmp_path), all_vectors(after, ITEMS, tmp_path)
    assert computed_counts(tmp_path) == [3, 2]
    pd.testing.assert_frame_equal(first, all_vectors(before, ITEMS))
    pd.testing.assert_frame_equal(second, all_vectors(after, ITEMS))
    assert second["length"].tolist() == pytest.approx([1.0, sqrt(5), 1.0])


def test_blocks_of_shoppers_are_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = weights(("t", "a", 2.0), ("u", "a", 1.0), ("u", "b", 1.0), ("v", "c", 0.0), ("w", "b", 1.0))
    whole = all_vectors(rows, ITEMS), all_interests(rows, ITEMS, 2)
    monkeypatch.setattr("vlm4rec_search.profiles.incremental.BLOCK", 1)
    monkeypatch.setattr("vlm4rec_search.profiles.incremental._ALWAYS_KEPT", 0)
    for cache in (None, tmp_path, tmp_path):  # without a cache, into an empty one, from a full one
        assert len(list(user_vectors(rows, ITEMS, cache))) == 4
        pd.testing.assert_frame_equal(all_vectors(rows, ITEMS, cache), whole[0])
        pd.testing.assert_frame_equal(all_interests(rows, ITEMS, 2, cache), whole[1])
    assert computed_counts(tmp_path) == [4, 0, 3, 0, 0, 0], "one row of the ledger for each run, not for each block"


def test_ids_as_categories_are_the_same_histories() -> None:
    rows = weights(("u", "b", 1.0), ("u", "a", 2.0), ("t", "c", 0.5), ("é", "gone", 9.0))
    with duckdb.connect() as connection:
        connection.register("profile_weights", rows)
        read = read_weights(lambda query: connection.execute(query.sql("duckdb")).fetchdf(), "profile_weights")
    assert read["user_id"].cat.categories.tolist() == ["t", "u", "é"]
    expected, found = (build_histories(frame, ITEMS["item_id"]) for frame in (rows, read))
    assert found.user_ids.tolist() == expected.user_ids.tolist()
    assert np.array_equal(found.matrix.toarray(), expected.matrix.toarray())


def test_other_item_vectors_are_other_profiles(tmp_path: Path) -> None:
    rows = weights(("t", "a", 1.0), ("u", "b", 1.0))
    all_vectors(rows, ITEMS, tmp_path)
    moved = ITEMS.assign(vector=[np.float32([0.6, 0.8]), *ITEMS["vector"][1:]])
    assert all_vectors(rows, moved, tmp_path)["vector"].tolist()[0] == pytest.approx([0.6, 0.8])
    assert computed_counts(tmp_path) == [2, 1]


def test_results_of_old_histories_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count_stored_results() -> int:
        for step in range(1, 12):
            all_vectors(weights(("u", "a", 1.0), ("u", "b", float(step))), ITEMS, tmp_path)
        with Cache(tmp_path) as store:
            return int(store._db.execute("SELECT COUNT(*) FROM results").fetchone()[0])

    assert count_stored_results() == 11, "a small data set deletes no results"
    monkeypatch.setattr("vlm4rec_search.profiles.incremental._ALWAYS_KEPT", 0)
    assert count_stored_results() <= 4


def test_terms_are_ordered_by_weight_and_idf_and_weighted_by_the_profile() -> None:
    result = term_weights(weights(("u", "a", 0.75), ("u", "b", 0.25)), DOCUMENTS)
    idf = {1: log(1 + 2.5 / 1.5), 2: log(1 + 1.5 / 2.5)}  # of 3 items
    assert 0.75 * idf[1] > 1.0 * idf[2] > 0.25 * idf[2]  # so that dress stands before red
    assert result["term"].tolist() == ["dress", "red", "shoe"]
    assert result["weight"].tolist() == pytest.approx([0.75, 1.0, 0.25])
    assert result["word"].tolist() == ["dresses", "red", "shoe"]
    assert result["rank"].tolist() == [1, 2, 3]


def test_the_number_of_terms_is_limited_and_ties_are_alphabetical() -> None:
    result = term_weights(weights(("v", "c", 1.0), ("u", "c", 2.0)), DOCUMENTS, per_user=2)
    ranked = list(zip(result["user_id"], result["term"], result["rank"], strict=True))
    assert ranked == [("u", "blue", 1), ("u", "run", 2), ("v", "blue", 1), ("v", "run", 2)]
    assert result["weight"].tolist() == [1.0] * 4


def test_terms_of_items_with_negative_weights_are_dropped() -> None:
    result = term_weights(weights(("u", "a", 1.0), ("u", "b", -2.0)), DOCUMENTS)
    assert result["term"].tolist() == ["dress"]


def test_blocks_do_not_change_the_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    users = [f"u{number:02d}" for number in draw.integers(0, 30, 200)]
    frame = weights(*[(user, item, 1.0) for user, item in zip(users, draw.choice(list("abc"), 200), strict=True)])
    whole = term_weights(frame, DOCUMENTS)
    monkeypatch.setattr("vlm4rec_search.profiles.terms._BLOCK", 20)
    pd.testing.assert_frame_equal(term_weights(frame, DOCUMENTS), whole)


def test_empty_inputs_give_empty_frames() -> None:
    assert len(all_vectors(weights(), ITEMS)) == len(all_vectors(weights(("u", "a", 1.0)), ITEMS[:0])) == 0
    result = term_weights(weights(), DOCUMENTS)
    assert list(result.columns) == ["user_id", "term", "word", "weight", "rank"]
    assert len(result) == len(term_weights(weights(("u", "a", 1.0)), DOCUMENTS[:0])) == 0


def test_a_weight_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(RunError, match="user 'u' is not a finite number"):
        all_vectors(weights(("u", "a", float("nan"))), ITEMS)


def test_vectors_of_different_lengths_are_an_error() -> None:
    mixed = pd.DataFrame({"item_id": ["a", "b"], "vector": [np.float32([1, 0]), np.float32([1, 0, 0])]})
    with pytest.raises(RunError, match=r"different lengths \[2, 3\]"):
        all_vectors(weights(("u", "a", 1.0)), mixed)
