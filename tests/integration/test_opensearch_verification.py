"""Verification on a real server refuses releases with wrong documents, poor recall or failing searches."""

from types import SimpleNamespace

import pytest
from helpers import search_tables
from helpers.server_releases import Window, relabelled

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch import mapping, verify
from vlm4rec_search.indexes.opensearch.connection import UnreachableError
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.indexes.opensearch.storage import Storage


def test_verification_finds_missing_extra_and_different_documents(window: Window) -> None:
    made = window.publish().meta
    index = window.catalogue.index("items", made.name)
    good = window.documents()["a"]
    faults = {
        "1 documents of .* are missing": lambda: window.client.delete(index=index, id="f"),
        "1 documents of .* are too many": lambda: window.client.index(index=index, id="z", body=good),
        "1 documents of .* differ from what was sent": lambda: window.client.index(
            index=index, id="a", body={**good, "body_hash": "other"}
        ),
        "a of .* differs from what was sent": lambda: window.client.index(
            index=index, id="a", body={**good, "vector": [0, 0, 0, 1]}
        ),
    }
    with window.staged() as connection:
        assert verify.verify_documents(window.client, connection, "items", index) == 6
        for message, damage in faults.items():
            damage()
            window.client.indices.refresh(index=index)
            with pytest.raises(RunError, match=message):
                verify.verify_documents(window.client, connection, "items", index)
            window.repair(index)


def test_verification_runs_a_search_of_each_kind(window: Window) -> None:
    release = window.publish().meta.name
    with window.staged() as connection:
        verify.verify_searches(window.catalogue, connection, release)
        window.client.indices.delete(index=window.catalogue.index("profiles", release))
        with pytest.raises(RunError, match="the release was not published: a search failed with"):
            verify.verify_searches(window.catalogue, connection, release)


def test_verification_compares_approximate_with_exact_neighbours(window: Window) -> None:
    index = window.catalogue.index("items", window.publish().meta.name)
    with window.staged() as connection:
        assert verify.verify_recall(window.client, connection, index, ["vector"]) == 200


def test_a_recall_below_the_wanted_one_is_told_and_costs_no_search_time(
    window: Window, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = window.catalogue.index("items", window.publish().meta.name)
    monkeypatch.setattr(verify, "WANTED_RECALL", 1.1)
    with window.staged() as connection:
        assert verify.verify_recall(window.client, connection, index, ["vector"]) == 200, "more candidates find no more"
    assert "nearest items by vector the approximate search" in caplog.text
    assert "finds 1.000 with ef_search 200, less than 1.1" in caplog.text


def test_scores_of_quantized_vectors_do_not_count_as_recall(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed = {**mapping._HNSW, "parameters": {"encoder": {"name": "sq"}}}
    monkeypatch.setattr(mapping, "_method", lambda storage: {"method": compressed})
    with pytest.raises(
        RunError, match=r"of the 10 nearest items by vector the approximate search of .* finds 0\.\d+, less than"
    ):
        publish_release(window.catalogue, search_tables.tables(search_tables.shop()), search_tables.made())


def test_missing_copies_are_a_warning_and_a_lost_index_is_refused(
    window: Window, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verify, "COPYING", 1.0)
    yellow, red = (f"{window.catalogue.prefix}{status}__1" for status in ("yellow", "red"))
    many = {"number_of_replicas": 20}  # more than any server of a test has nodes
    nowhere = {"number_of_replicas": 0, "routing.allocation.require.room": "none"}
    for name, settings in ((yellow, many), (red, nowhere)):
        body = {"settings": {"index": settings}}
        window.client.indices.create(index=name, body=body, params={"wait_for_active_shards": "0"})
    verify.wait_for_copies(window.client, [yellow])
    assert "after 1 s the cluster lacks 20 copies of the release; until it has them" in caplog.text
    assert caplog.text.endswith("losing a node may lose it: a copy of this shard is already allocated to this node\n")
    with pytest.raises(RunError, match=f"not published: {yellow} or {red} has lost its only copy"):
        verify.wait_for_copies(window.client, [yellow, red])


def test_a_failed_release_leaves_nothing_behind(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    live = window.publish(relabelled("old")).meta.name
    before = window.indexes()
    for bound in ("LOWEST_RECALL", "WANTED_RECALL"):
        monkeypatch.setattr(verify, bound, 1.1)
    with pytest.raises(RunError, match=r"the approximate search of .* finds 1\.000, less than 1\.1"):
        window.publish(relabelled("new"))
    assert (window.catalogue.live(), window.indexes()) == (live, before)


def test_vectors_on_disk_can_be_published_incrementally(window: Window) -> None:
    index = window.catalogue.index("items", window.publish(storage=Storage("on_disk")).meta.name)
    vector = window.client.indices.get_mapping(index=index)[index]["mappings"]["properties"]["vector"]
    assert vector["mode"] == "on_disk"
    window.publish(incremental=True)
    assert len(window.documents()) == 6


def test_faiss_is_refused_on_a_server_without_its_libraries(window: Window) -> None:
    with pytest.raises(UsageError, match="this server has no faiss"):
        window.publish(storage=Storage("faiss"))


@pytest.mark.parametrize("answer", [{}, {"node_allocation_decisions": [{"node_decision": "worse_balance"}]}, None])
def test_a_missing_explanation_ends_no_publication(answer: dict[str, object] | None) -> None:
    """The copy may have been made meanwhile, and the server may be slow."""
    health = {"made": {"shards": {"0": {"unassigned_shards": 1}}}}

    class Cluster:
        def allocation_explain(self, body: object) -> object:
            if answer is None:
                raise UnreachableError("no answer in time")
            return answer

    client = SimpleNamespace(cluster=Cluster())
    assert verify._explain_missing_copies(client, health) == ""  # type: ignore[arg-type]
