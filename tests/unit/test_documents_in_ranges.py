"""The documents of a release are made for one range of them after the other; the ranges change nothing."""

from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.six_items import documents, given, meta

from vlm4rec_search.indexes import staging
from vlm4rec_search.indexes.opensearch import documents as prepared
from vlm4rec_search.indexes.opensearch.bulk import Operation


def outgoing() -> list[Operation]:
    with duckdb.connect() as connection:
        staging.stage_release(connection, given(documents()), meta(), lambda _: None)
        prepared.prepare_documents(connection)
        return list(prepared.read_bodies(connection, "items"))


def test_ranges_of_two_make_the_same_documents_as_one_range(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outgoing()
    assert [name for name, _ in expected] == list("abcdef")
    assert b'"similarity":[0.5,0.25]' in (expected[0][1] or b"")
    for module in (staging, prepared):
        monkeypatch.setattr(module, "RANGE", 2)
    assert outgoing() == expected


def pairs_of(ids: "pd.Series[str]", count: int, column: str) -> pd.DataFrame:
    """Return so many neighbours of each item."""
    items, steps = np.divmod(np.arange(len(ids) * count), count)
    neighbours = ids.to_numpy()[(items + steps + 1) % len(ids)]
    return pd.DataFrame({"item_id": ids.to_numpy()[items], "neighbour_id": neighbours, column: 1.0 / (steps + 2)})


def test_full_lists_of_a_range_fit_into_half_of_the_memory_that_a_publication_has() -> None:
    count = 2 * staging.RANGE  # more than one range, since a single one is read in another way
    some = documents()
    many = pd.concat([some] * (count // len(some) + 1))[:count].assign(item_id=[f"item{n:06d}" for n in range(count)])
    words = pairs_of(many["item_id"], 100, "weight").rename(columns={"neighbour_id": "term"})
    words = words.assign(word=words["term"], rank=words.groupby("item_id").cumcount() + 1)
    similar, ease = pairs_of(many["item_id"], 50, "similarity"), pairs_of(many["item_id"], 100, "weight")
    full = replace(given(many), terms=words, neighbours=similar, ease=ease)
    with duckdb.connect(config={"memory_limit": "1GB", "threads": 8}) as connection:
        connection.execute("SET temp_directory = ''")  # nothing may be written to a disk in place of memory
        staging.stage_release(connection, full, meta(), lambda _: None)
        assert connection.execute("SELECT count(*), min(len(ease)) FROM ease").fetchone() == (count, 100)
