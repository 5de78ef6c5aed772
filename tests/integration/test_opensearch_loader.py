"""Loading into a real server: counts, rejected documents, and settings of the index."""

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from helpers.loading_index import LoadingIndex, item, loading_index

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.bulk import Operation, Rejection, documents
from vlm4rec_search.indexes.opensearch.loader import load, loading
from vlm4rec_search.indexes.release import Load


@pytest.fixture
def index(opensearch_url: str) -> Iterator[LoadingIndex]:
    with loading_index(opensearch_url) as own:
        yield own


def load_all(own: LoadingIndex, operations: list[Operation], **options: float) -> tuple[Load, list[Rejection]]:
    rejected: list[Rejection] = []
    with loading(own.client, own.name):
        loaded = load(own.client, own.name, operations, len(operations), rejected.append, **options)  # type: ignore[arg-type]
    return loaded, rejected


def test_documents_hold_the_same_float32_and_omit_a_missing_vector() -> None:
    vectors = [np.array([0.1, 1 / 3], np.float32), None]
    columns = {"item_id": ["a", "b"], "price": [1.5, None], "vector": pa.array(vectors, pa.list_(pa.float32(), 2))}
    bodies = dict(documents(pa.table(columns).to_batches(), "item_id", ["vector"]))
    assert bodies == {
        "a": b'{"item_id":"a","price":1.5,"vector":[0.1,0.33333334]}',
        "b": b'{"item_id":"b","price":null}',
    }
    assert np.float32(json.loads(bodies["a"] or "")["vector"][1]) == np.float32(1 / 3)


def test_documents_of_a_sliced_table_are_those_of_the_slice() -> None:
    vectors = pa.array([[1.0], [2.0], [3.0]], pa.list_(pa.float32()))
    table = pa.table({"id": ["a", "b", "c"], "vector": vectors}).slice(1, 1)
    assert list(documents(table.to_batches(), "id", ["vector"])) == [("b", b'{"id":"b","vector":[2.0]}')]


def test_documents_are_indexed_replaced_and_deleted(index: LoadingIndex) -> None:
    first, _ = load_all(index, [item(number) for number in range(30)], chunk_bytes=500)
    assert (first.indexed, first.deleted, first.rejected, first.repeated) == (30, 0, 0, 0)
    assert first.requests > 4  # with about five documents each
    second, rejected = load_all(index, [item(3, "boot"), ("i00004", None), ("never-there", None)])
    assert (second.indexed, second.deleted, second.requests, rejected) == (1, 2, 1, [])
    titles = index.titles()
    assert len(titles) == 29
    assert titles["i00003"] == "boot 3"
    assert "i00004" not in titles


def test_a_line_break_in_a_document_does_not_begin_an_operation(index: LoadingIndex) -> None:
    load_all(index, [item(1)])
    loaded, _ = load_all(
        index, [("i00002", b'{"title":"boot"\n,"price":1}'), ("x", b'{"title":\n{"delete":{"_id":"i00001"}}\n}')]
    )
    assert (loaded.indexed, loaded.rejected) == (1, 1)
    assert index.titles() == {"i00001": "shoe 1", "i00002": "boot"}


def test_invalid_documents_are_rejected_with_the_reason_and_the_others_are_loaded(index: LoadingIndex) -> None:
    invalid: dict[str, bytes] = {
        "number": b'{"price":"cheap"}',
        "field": b'{"colour":"red"}',
        "vector": b'{"vector":[1,2]}',
        "syntax": b'{"price":',
        "x" * 513: b'{"price":1}',
        "": b'{"price":1}',
    }
    operations = [item(number) for number in range(20)]
    operations[5:5] = list(invalid.items())
    loaded, rejected = load_all(index, operations)
    assert (loaded.indexed, loaded.rejected) == (20, 6)
    assert set(index.titles()) == {name for name, _ in operations} - set(invalid)
    reasons = {rejection.id: rejection.reason for rejection in rejected}
    assert {rejection.status for rejection in rejected} == {400}
    assert 'For input string: "cheap"' in reasons["number"]
    assert "strict_dynamic_mapping_exception" in reasons["field"]
    assert "Vector dimension mismatch. Expected: 4, Given: 2" in reasons["vector"]
    assert "json_e_o_f_exception" in reasons["syntax"]
    assert "too long" in reasons["x" * 513]
    assert "must not be empty" in reasons[""]


def test_a_missing_index_is_not_created(index: LoadingIndex) -> None:
    with pytest.raises(RunError, match="there is no index test-loading-none to load"):
        load(index.client, "test-loading-none", [item(1)], 1, print)
    with pytest.raises(RunError, match="there is no index"), loading(index.client, "test-loading-none"):
        pass
    assert not index.client.indices.exists(index="test-loading-none")


def test_an_index_closed_for_writing_ends_the_load_and_rejects_no_document(index: LoadingIndex) -> None:
    index.client.indices.put_settings(index=index.name, body={"index.blocks.write": True})
    with pytest.raises(RunError, match=r"cannot load .*FORBIDDEN/8/index write"):
        load(index.client, index.name, [item(1)], 1, print)


def test_loading_switches_refresh_and_replicas_off_and_restores_them(opensearch_url: str) -> None:
    with loading_index(opensearch_url, refresh_interval="7s", number_of_replicas=2) as own:
        with loading(own.client, own.name):
            assert own.settings()["refresh_interval"] == "-1"
            assert own.settings()["number_of_replicas"] == "0"
        assert own.settings()["refresh_interval"] == "7s"
        assert own.settings()["number_of_replicas"] == "2"
        assert own.meta() == {"encoder": "hashing-4@1"}


def test_settings_are_restored_when_the_load_fails(index: LoadingIndex) -> None:
    before = index.settings()
    with pytest.raises(ZeroDivisionError), loading(index.client, index.name):
        load(index.client, index.name, ((str(1 // 0), None) for _ in range(1)), 1, print)
    assert index.settings() == before
    assert index.meta() == {"encoder": "hashing-4@1"}


def test_automatic_replicas_are_restored(opensearch_url: str) -> None:
    with loading_index(opensearch_url, auto_expand_replicas="0-1") as own:
        with loading(own.client, own.name):
            assert own.settings()["auto_expand_replicas"] == "false"
        assert own.settings()["auto_expand_replicas"] == "0-1"
