"""The documents of a release are made for one range of them after the other; the ranges change nothing."""

import duckdb
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
