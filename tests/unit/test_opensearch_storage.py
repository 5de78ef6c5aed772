"""How many shards a catalogue gets, and which compression of vectors is asked for."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from helpers.six_items import meta

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.opensearch.mapping import index_body
from vlm4rec_search.indexes.opensearch.storage import Compression, Storage, count_shards, graph_bytes


def body(documents: int, storage: Storage, count_nodes: Callable[[], int] = lambda: 3) -> dict[str, object]:
    made = replace(meta(dimension=384), documents=documents, users=10)
    settings: dict[str, object] = index_body("items", made, (), storage, count_nodes)["settings"]["index"]
    return settings


@pytest.mark.parametrize(
    ("documents", "nodes", "shards"),
    [(1_000, 3, 1), (1_000_000, 3, 1), (2_000_000, 1, 1), (10_000_000, 1, 5), (10_000_000, 3, 6), (100_000_000, 6, 48)],
)
def test_shards_follow_from_documents_and_nodes(documents: int, nodes: int, shards: int) -> None:
    assert count_shards(documents, 384, "1x", nodes) == shards


@pytest.mark.parametrize(("level", "gigabytes"), [("1x", 1.83), ("4x", 0.56), ("32x", 0.19)])
def test_the_memory_of_a_million_vectors(level: Compression, gigabytes: float) -> None:
    assert graph_bytes(384, level) * 1e6 / 1e9 == pytest.approx(gigabytes, abs=0.01)


def test_a_small_catalogue_has_one_shard_and_asks_for_no_nodes() -> None:
    def refuse() -> int:
        raise AssertionError("the cluster is asked")

    settings = body(40_000, Storage(), refuse)
    assert settings["number_of_shards"] == 1
    assert settings["auto_expand_replicas"] == "0-1"


def test_shards_and_replicas_can_be_set() -> None:
    settings = body(40_000, Storage(shards=5, replicas=2))
    assert settings["number_of_shards"] == 5
    assert settings["number_of_replicas"] == 2
    assert "auto_expand_replicas" not in settings


@pytest.mark.parametrize(
    ("storage", "level", "mode"),
    [
        (Storage(), "1x", None),
        (Storage("on_disk"), "4x", "on_disk"),
        (Storage("faiss"), "1x", None),
        (Storage("faiss", "32x"), "32x", "on_disk"),
    ],
)
def test_the_compression_is_always_named(storage: Storage, level: str, mode: str | None) -> None:
    vector = index_body("items", meta(), (), storage)["mappings"]["properties"]["vector"]
    assert vector["compression_level"] == level
    assert vector.get("mode") == mode


def test_a_compression_that_the_server_does_not_take_is_refused_with_what_to_do() -> None:
    asked = Storage("on_disk", "32x")
    with pytest.raises(UsageError, match=r"OpenSearch 3\.5 compresses .* by 4x at most.*needs 3\.6"):
        asked.check(lambda: (3, 5))
    asked.check(lambda: (3, 6))
    with pytest.raises(UsageError, match="needs VLM4REC_INDEX_VECTORS=on_disk or faiss"):
        Storage("float32", "32x").check(lambda: (3, 6))
