"""Vectors of items as the profiles read them."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from sqlglot import exp

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.profiles.histories import read_item_vectors, stack_vectors

VECTORS = np.random.default_rng(2).random((30, 4), dtype=np.float32)


def read(items: pd.DataFrame, weighed: list[str]) -> pd.DataFrame:
    """Return what is read from tables in which the items stand in another order."""
    with duckdb.connect() as connection:
        connection.register("rows", items.sample(frac=1.0, random_state=1))
        connection.execute(
            "CREATE TABLE embeddings AS SELECT item_id::VARCHAR AS item_id, vector::FLOAT[] AS vector FROM rows"
        )
        connection.register("weighed", pd.DataFrame({"item_id": pd.Series(weighed, dtype=object)}))
        connection.execute("CREATE TABLE weights AS SELECT item_id::VARCHAR AS item_id FROM weighed")

        def fetch(query: exp.Expr) -> pd.DataFrame:
            return connection.execute(query.sql(dialect="duckdb")).df()

        return read_item_vectors(fetch, "embeddings", "weights")


@pytest.mark.parametrize("batch", [1, 7, 50_000])
def test_the_vectors_of_items_with_a_weight_are_read_in_the_order_of_their_ids(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("vlm4rec_search.profiles.histories.BATCH", batch)
    ids = [f"it's {number:02d}" for number in range(30)]
    weighed = [*ids[::3], ids[3], "an item without a vector"]
    found = read(pd.DataFrame({"item_id": ids, "vector": list(VECTORS)}), weighed)
    assert found["item_id"].tolist() == ids[::3]
    assert np.array_equal(stack_vectors(found["vector"]), VECTORS[::3])


def test_no_items_and_no_weights_are_no_vectors() -> None:
    nothing = pd.DataFrame({"item_id": pd.Series([], dtype=object), "vector": pd.Series([], dtype=object)})
    one = pd.DataFrame({"item_id": ["a"], "vector": [VECTORS[0]]})
    for found in (read(nothing, ["a"]), read(one, [])):
        assert found.empty
        assert stack_vectors(found["vector"]).shape == (0, 0)


@pytest.mark.parametrize("batch", [1, 50_000])
def test_vectors_of_different_lengths_are_refused(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr("vlm4rec_search.profiles.histories.BATCH", batch)
    items = pd.DataFrame({"item_id": ["a", "b"], "vector": [VECTORS[0], VECTORS[1][:2]]})
    with pytest.raises(RunError, match=r"different lengths \[2, 4\]: embed all items with one encoder"):
        read(items, ["a", "b"])
