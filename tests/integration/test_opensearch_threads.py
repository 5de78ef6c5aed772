"""Threads that share an index, and the requests that a search sends beside others."""

import threading

import pytest
from helpers.alias_reader import expected_hits, labelled_tables, publish_labelled, search_hits
from helpers.faulty_proxy import Fault, proxy
from helpers.server_releases import Window
from helpers.six_items import documents, given, meta

from vlm4rec_search import Query
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.indexes.opensearch.backend import OpenSearchIndex
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.search.model import User


def test_a_release_that_goes_away_between_two_requests_leaves_no_mixed_answer(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish_labelled(window, "old").meta.name
    index, profile = OpenSearchIndex(window.catalogue), OpenSearchIndex.user
    has_read, may_go_on = threading.Event(), threading.Event()
    told: list[object] = []

    def user(self: OpenSearchIndex, user_id: str) -> User | None:
        found = profile(self, user_id)
        if threading.current_thread() is slow and not has_read.is_set():
            has_read.set()
            assert may_go_on.wait(60)
        return found

    monkeypatch.setattr(OpenSearchIndex, "user", user)
    slow = threading.Thread(target=lambda: told.append(search_hits(index)))
    slow.start()
    assert has_read.wait(60)  # the profile of the old release
    new = publish_labelled(window, "new").meta.name
    window.catalogue.delete(old)
    expected = (new, expected_hits(labelled_tables("new")))
    assert search_hits(index) == expected  # and from here on the index is the new release's
    may_go_on.set()
    slow.join()
    assert told == [expected]


def test_an_index_that_follows_encodes_texts_as_the_next_release_does(window: Window) -> None:
    old = window.publish().meta.name
    index = OpenSearchIndex(window.catalogue)
    made = meta("other-4@1")
    publish_release(window.catalogue, given(documents().assign(encoder=made.encoder)), made)
    window.catalogue.delete(old)
    assert index.search(Query(user="u1")).release == made.name
    assert index._encoder == "other-4"


@pytest.mark.parametrize("status", [404, 503])
def test_a_request_that_fails_beside_another_is_told_or_followed_by_a_whole_search(window: Window, status: int) -> None:
    live = publish_labelled(window, "old").meta.name
    expected = (live, expected_hits(labelled_tables("old")))
    fails = {0}  # the legs that are asked for while the co-purchases are read
    with proxy(window.url, lambda number, _: Fault(status) if number in fails else None, judged="/_msearch") as url:
        index = OpenSearchIndex(Window(url, window.catalogue.prefix).catalogue)
        index._fuses = False  # a server that can fuse has no request beside another
        if status == 503:
            with pytest.raises(RunError, match="503"):
                search_hits(index)
        assert search_hits(index) == expected
