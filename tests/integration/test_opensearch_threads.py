"""Threads that share an index, and requests of one search that are sent at the same time."""

import threading

import pytest
from helpers.alias_reader import labelled_hits, publish_labelled, search_hits
from helpers.faulty_proxy import Fault, proxy
from helpers.server_releases import Window
from helpers.six_items import documents, given, meta

from vlm4rec_search import Query
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend, OpenSearchReader
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.search.model import User
from vlm4rec_search.search.searcher import Searcher


def test_deleting_a_release_between_two_requests_does_not_mix_answers(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish_labelled(window, "old").meta.name
    index, profile = Searcher(OpenSearchBackend(window.catalogue)), OpenSearchReader.user
    has_read, may_go_on = threading.Event(), threading.Event()
    answers: list[object] = []

    def user(self: OpenSearchReader, user_id: str, *, interests: bool = False) -> User | None:
        found = profile(self, user_id, interests=interests)
        if threading.current_thread() is slow and not has_read.is_set():
            has_read.set()
            assert may_go_on.wait(60)
        return found

    monkeypatch.setattr(OpenSearchReader, "user", user)
    slow = threading.Thread(target=lambda: answers.append(search_hits(index)))
    slow.start()
    assert has_read.wait(60)  # the profile of the old release
    new = publish_labelled(window, "new").meta.name
    window.catalogue.delete(old)
    expected = (new, labelled_hits("new"))
    assert search_hits(index) == expected  # from here on the index searches the new release
    may_go_on.set()
    slow.join()
    assert answers == [expected]


def test_an_index_that_follows_the_alias_uses_the_encoder_of_the_next_release(window: Window) -> None:
    old = window.publish().meta.name
    index = Searcher(OpenSearchBackend(window.catalogue))
    made = meta("other-4@1")
    publish_release(window.catalogue, given(documents().assign(encoder=made.encoder)), made)
    window.catalogue.delete(old)
    assert index.search(Query(user="u1")).release == made.name
    assert index._encoder._name == "other-4"


@pytest.mark.parametrize("status", [404, 503])
def test_a_failed_parallel_request_is_repeated(window: Window, status: int) -> None:
    live = publish_labelled(window, "old").meta.name
    expected = (live, labelled_hits("old"))
    fails = {0}  # the request of the retrievers, which is sent while the co-purchases are read
    with proxy(window.url, lambda number, _: Fault(status) if number in fails else None, judged="/_msearch") as url:
        index = Searcher(OpenSearchBackend(Window(url, window.catalogue.prefix).catalogue))
        index.backend._can_fuse = False  # a server that can fuse has no request beside another
        assert search_hits(index) == expected
