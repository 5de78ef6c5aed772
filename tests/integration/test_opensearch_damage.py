"""Releases that were damaged, restored, or built by another package version: the live release always stays."""

import http.server
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from helpers.faulty_proxy import proxy
from helpers.server_releases import Window, relabelled
from helpers.six_items import documents
from helpers.waiting import wait_until

from vlm4rec_search import Query
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch import lease
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.connection import UnreachableError, connect
from vlm4rec_search.indexes.opensearch.mapping import INDEX_KINDS, IndexKind
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.opensearch.sender import ReleaseGoneError, Sender
from vlm4rec_search.indexes.release import ForgetError
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher


def change_metadata(window: Window, release: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change `_meta` of the items of a release."""
    index = window.catalogue.index("items", release)
    meta = window.client.indices.get_mapping(index=index)[index]["mappings"]["_meta"]
    window.client.indices.put_mapping(index=index, body={"_meta": change(meta)})


@pytest.mark.parametrize("lost", INDEX_KINDS)
def test_pruning_and_rollback_know_a_live_release_that_lost_an_index(window: Window, lost: IndexKind) -> None:
    old, before, live = (window.publish().meta.name for _ in range(3))
    window.client.indices.delete(index=window.catalogue.index(lost, live))
    with pytest.raises(RunError, match=r"the aliases do not point to one release .*: go back with `vlm4rec releases"):
        window.releases.find(None)
    assert window.releases.prune(1) == [old]
    assert len(window.indexes()) == 2 * len(INDEX_KINDS) - 1  # what is left of the live release answers
    assert window.releases.rollback(None) == before == window.releases.live()


def test_pruning_removes_nothing_where_the_aliases_name_two_releases(window: Window) -> None:
    old, live = (window.publish().meta.name for _ in range(2))
    index, alias = window.catalogue.index("items", old), window.catalogue.aliases["items"]
    window.client.indices.put_alias(index=index, name=alias)
    for attempt in (partial(window.releases.prune, 1), partial(window.releases.rollback, None)):
        with pytest.raises(RunError, match="`vlm4rec releases rollback RELEASE` sets them"):
            attempt()
    assert window.releases.rollback(live) == live


@pytest.mark.parametrize("lost", ["profiles", "segments"])
def test_a_live_release_that_lost_an_index_answers_from_memory_until_the_next_publication(
    window: Window, lost: IndexKind, caplog: pytest.LogCaptureFixture
) -> None:
    live = window.publish(relabelled("old")).meta.name
    index, query = Searcher(OpenSearchBackend(window.catalogue)), Query(user="u3", explain=True)  # u3 has a segment
    window.client.indices.delete(index=window.catalogue.index(lost, live))
    for _ in range(2):
        answer = index.search(query)
        assert (answer.release, [hit.item_id for hit in answer.hits][:2]) == (live, ["b", "c"])
        assert "the release is no longer there" in (answer.degraded or "")
    new = window.publish(relabelled("new"), incremental=True).meta.name
    assert "nothing counts as live: the aliases do not point to one release" in caplog.text
    wait_until(lambda: index.search(query).release == new)  # searches look for it once a second
    assert index.search(query).degraded is None
    window.releases.prune(1)
    assert len(window.indexes()) == len(INDEX_KINDS)  # what was left of the old release is gone


def test_closed_and_restored_indices_stay_and_unfinished_ones_go(
    window: Window, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    closed, live = (window.publish(relabelled(label)).meta.name for label in ("old", "new"))
    window.client.indices.close(index=window.catalogue.index("profiles", closed))
    restored, copied = f"{live}restored", f"{live}copied"
    for kind in INDEX_KINDS:
        source, target = (window.catalogue.index(kind, name) for name in (live, restored))
        window.client.indices.put_settings(index=source, body={"index.blocks.write": True})
        window.client.indices.clone(index=source, target=target)
    copy = window.catalogue.index("items", copied)  # by a publication that was killed at once
    source = window.catalogue.index("items", live)
    window.client.indices.clone(index=source, target=copy, body={"aliases": {f"{copy}__loading": {}}})
    assert window.releases.prune(5) == []
    assert f"deleted the indices of {copied}, which" in caplog.text
    assert len(window.client.indices.get(index=f"{window.catalogue.prefix}*__*", expand_wildcards="all")) == 9
    problem = window.releases.list()[closed].problem
    assert str(problem).startswith(f"{window.catalogue.index('profiles', closed)} is closed: open it with POST")
    with pytest.raises(RunError, match="is closed: open it"):
        window.releases.rollback(closed)
    window.client.indices.open(index=window.catalogue.index("profiles", closed))
    assert window.releases.rollback(None) == closed


def test_retention_neither_deletes_nor_counts_a_release_with_a_closed_index(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm4rec_search.indexes.opensearch.publish.RETAINED", 2)
    closed, *names = (window.publish().meta.name for _ in range(2))
    window.client.indices.close(index=window.catalogue.index("profiles", closed))
    names += [window.publish().meta.name for _ in range(2)]
    assert list(window.releases.list()) == [closed, *names[1:]]
    assert window.releases.rollback(None) == names[1]
    window.client.indices.close(index=window.catalogue.index("items", names[2]))
    assert window.releases.prune(1) == []
    assert list(window.releases.list()) == [closed, *names[1:]]


def test_indices_restored_under_another_name_stay_live(window: Window) -> None:
    live = window.publish().meta.name
    restored = window.rename(live)
    with pytest.raises(RunError, match="there are no documents"):
        window.publish(documents()[:0])
    assert window.catalogue.live() == restored
    assert set(window.documents()) == set("abcdef")


def test_a_shopper_is_forgotten_in_damaged_and_in_restored_indices(window: Window) -> None:
    old = window.publish(relabelled("old")).meta.name
    restored = window.rename(old)
    window.client.indices.delete(index=window.catalogue.index("segments", restored))
    assert window.releases.forget({"u1", "u3"}, dry_run=True) == {old: 2, restored: 2}
    foreign, alias = f"{window.catalogue.prefix}people", f"{window.catalogue.prefix}profiles"
    window.client.index(index=foreign, id="u3", body={}, params={"refresh": "true"})
    window.client.indices.put_alias(index=foreign, name=alias)
    with pytest.raises(
        RunError, match=f"{foreign}, which {alias} names, has such shoppers and is no index of a release"
    ):
        window.releases.forget({"u1", "u3"})
    hits = window.client.search(index=f"{alias}*", body={})["hits"]["hits"]
    assert {hit["_id"] for hit in hits if hit["_index"] != foreign} == {"u2", "u4"}


def test_an_index_of_another_application_that_is_named_like_ours_is_left_alone(window: Window) -> None:
    """Open or closed, and with a `_meta` of its own; a closed index of ours is a problem with its cure."""
    live, closed = (window.publish(relabelled(label)).meta.name for label in ("old", "new"))
    window.releases.activate(live)
    window.client.indices.close(index=window.catalogue.index("profiles", closed))
    theirs, aside = (window.catalogue.index("profiles", f"items__{name}") for name in ("crm", "aside"))
    for index in (theirs, aside):
        window.client.indices.create(index=index, body={"mappings": {"_meta": {"owner": "crm"}}})
        window.client.index(index=index, id="u1", body={"name": "Anna"}, params={"refresh": "true"})
    window.client.indices.put_settings(index=theirs, body={"index.blocks.write": True})
    window.client.indices.close(index=aside)
    with pytest.raises(ForgetError, match=f"POST /{window.catalogue.index('profiles', closed)}/_open") as left:
        window.releases.forget({"u1"})
    assert (left.value.found, [*left.value.problems]) == ({live: 1}, [closed])
    window.client.indices.open(index=window.catalogue.index("profiles", closed))
    assert window.releases.forget({"u1"}) == {closed: 1}
    window.client.indices.open(index=aside)
    window.client.indices.refresh(index=aside)
    assert [window.client.count(index=index)["count"] for index in (theirs, aside)] == [1, 1]
    settings = window.client.indices.get_settings(index=theirs, flat_settings=True)[theirs]["settings"]
    assert settings["index.blocks.write"] == "true"


def test_a_release_of_another_package_version_is_listed_with_the_reason(window: Window) -> None:
    old, other = (window.publish(relabelled(label)).meta.name for label in ("old", "other"))
    change_metadata(window, other, lambda meta: {name: meta[name] for name in meta if name != "users"})
    new = window.publish(relabelled("new")).meta.name
    listed = window.catalogue.list()
    assert list(listed) == [old, other, new]
    assert [str(each.problem) for each in listed.values() if each.problem] == [
        f"{window.catalogue.index('items', other)} has no readable metadata"
    ]
    assert window.releases.rollback(None) == old
    assert len(window.indexes()) == 3 * len(INDEX_KINDS)


def test_a_live_release_without_readable_metadata_is_rolled_back(window: Window) -> None:
    old, new = (window.publish(relabelled(label)).meta.name for label in ("old", "new"))
    change_metadata(window, new, lambda meta: {name: meta[name] for name in meta if name != "encoder"})
    with pytest.raises(RunError, match=r"has no readable metadata: go back with `vlm4rec releases rollback`, or pub"):
        window.releases.find(None)
    assert window.releases.rollback(None) == old == window.catalogue.live()


def test_a_rollback_to_a_release_of_another_schema_is_refused(window: Window) -> None:
    old, new = (window.publish(relabelled(label)).meta.name for label in ("old", "new"))
    change_metadata(window, old, lambda meta: {**meta, "schema_version": 1})
    with pytest.raises(UsageError, match=f"the release {old} has schema version and analyzer"):
        window.releases.rollback(old)
    with pytest.raises(UsageError, match=f"there is no release before {new} .* that can be opened"):
        window.releases.rollback(None)
    assert window.catalogue.live() == new


@pytest.mark.parametrize("incremental", [False, True], ids=["full", "incremental"])
def test_documents_that_the_server_refuses_count_as_lost(window: Window, incremental: bool) -> None:
    live = window.publish().meta.name
    frame = documents()
    frame.loc[:1, "attributes"] = '{"a": 1, "a": 2}'  # the server takes no field twice
    with pytest.raises(RunError, match="2 of 6 items would be deleted, more than 20%"):
        window.publish(frame, incremental=incremental)
    assert (window.catalogue.live(), set(window.documents())) == (live, set("abcdef"))
    assert len(window.indexes()) == len(INDEX_KINDS)


def test_a_document_deleted_by_hand_breaks_no_search(window: Window) -> None:
    window.publish()
    index = Searcher(OpenSearchBackend(window.catalogue))
    first = index.search(Query(user="u1")).hits[0].item_id
    window.client.delete(index=f"{window.catalogue.prefix}items", id=first)  # a search finds it until the next refresh
    assert index.search(Query(user="u1")).hits
    window.client.indices.refresh(index=f"{window.catalogue.prefix}items")
    assert first not in {hit.item_id for hit in index.search(Query(user="u1")).hits}


def test_a_document_written_by_hand_without_popularity_spoils_no_score(window: Window) -> None:
    window.publish()
    index = Searcher(OpenSearchBackend(window.catalogue))
    before = {hit.item_id: hit.score for hit in index.search(Query(user="u1")).hits}
    body = {"item_id": "z", "title": "z", "vector": [0, 0, 0, -1], "neighbours": {"item_id": ["a"], "similarity": []}}
    window.client.index(index=f"{window.catalogue.prefix}items", id="z", body=body, refresh=True)
    after = {hit.item_id: hit.score for hit in index.search(Query(user="u1", explain=True)).hits}
    assert set(after) == {*before, "z"}
    assert all(math.isfinite(score) for score in after.values())
    assert index.search(Query(items=["z"])).hits  # its list of co-purchases is damaged


@pytest.mark.parametrize("lacking", [{}, {"facets": None, "words": None, "title": None}], ids=["absent", "null"])
def test_a_document_written_by_hand_without_vector_and_facets_breaks_no_search(
    window: Window, lacking: dict[str, None]
) -> None:
    window.publish()
    body = {"item_id": "z", "popularity": 100, **lacking}
    window.client.index(index=f"{window.catalogue.prefix}items", id="z", body=body, refresh=True)
    rules = [Rule(action="bury", filter="category=lamps"), Rule(action="pin", items=("z",))]
    index = Searcher(OpenSearchBackend(window.catalogue), rules=rules)
    diverse = Query(user="u1", explain=True, diversity=0.5)
    for query in (diverse, replace(diverse, items=("z", "b")), Query(items=("b", "z"), mode="semantic", explain=True)):
        answer = index.search(query)
        scores = [part.score for hit in answer.hits if hit.explanation for part in hit.explanation.legs]
        assert scores and all(math.isfinite(score) for score in scores)
    assert index.search(diverse).hits[0].item_id == "z"
    assert index.search(Query(items=("z",), explain=True)).hits  # nothing is known of it: what is popular


def test_an_item_deleted_between_two_requests_of_a_search_is_left_out(window: Window) -> None:
    live = window.publish().meta.name

    def judge(number: int, _: bytes) -> None:
        if number == 2:  # reads the fields that hits show, after profile and co-purchases
            window.client.delete(index=window.catalogue.index("items", live), id="b", refresh=True)

    with proxy(window.url, judge, judged="/_mget") as url:
        index = Searcher(OpenSearchBackend(Window(url, window.catalogue.prefix).catalogue))
        assert {hit.item_id for hit in index.search(Query(user="u1")).hits} == set("cef")


def test_a_deleted_index_is_distinguished_from_other_refusals(window: Window) -> None:
    with pytest.raises(ReleaseGoneError, match="the release is no longer there: index_not_found_exception"):
        Sender(window.client).search(f"{window.catalogue.prefix}items__none", {})
    index = window.catalogue.index("items", window.publish().meta.name)
    with pytest.raises(RunError, match="the server refuses: parsing_exception"):
        Sender(window.client).search(index, {"query": {"nonsense": {}}})


def test_a_publication_ends_when_another_process_held_its_lease_meanwhile(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = window.publish(relabelled("old")).meta.name
    monkeypatch.setattr(lease, "RENEWED", 60.0)  # so the holder seems dead
    monkeypatch.setattr(lease, "LOST", 1.0)

    def judge(number: int, _: bytes) -> None:
        if number == 0:
            with lease.lease(window.client, window.catalogue.prefix):
                pass  # the unfinished indices stay, so only the lease shows that it was taken

    with proxy(window.url, judge) as url, pytest.raises(RunError, match="another publication is running"):
        Window(url, window.catalogue.prefix).publish(relabelled("new"))
    assert window.catalogue.live() == live
    assert len(window.indexes()) == len(INDEX_KINDS)


@pytest.fixture
def website() -> Iterator[str]:
    """A server that answers every request with a page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", "9")
            self.end_headers()
            self.wfile.write(b"<h1></h1>")

        do_POST = do_PUT = do_GET  # noqa: N815  the names that http.server wants

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{front.server_address[1]}"
    front.shutdown()
    front.server_close()


def test_a_web_page_in_place_of_an_answer_is_reported_in_one_line(website: str) -> None:
    client = connect(website, Settings())
    message = "does not answer as OpenSearch does"
    with pytest.raises(UnreachableError, match=message):
        OpenSearchReleases(client, "", website).live()
    with pytest.raises(UnreachableError, match=message):
        Sender(client).search("items", {})
