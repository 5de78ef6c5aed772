"""`vlm4rec forget` on both backends: live and kept releases lose the shopper, and all else stays."""

import time

from helpers.backends import Backend, Embedded
from helpers.search_tables import made, shop, tables

from vlm4rec_search import Query, open_index
from vlm4rec_search.pipeline.recommendations import all_users


def test_a_shopper_leaves_live_and_kept_releases(backend: Backend) -> None:
    given = tables(shop())
    old = backend.publish(given, made())
    live = backend.publish(given, made())
    with backend.open() as index:
        before = index.search(Query(user="u02"))
        assert index.search(Query(user="u01")).tier == "profile"
    assert backend.releases.forget({"u01", "nobody"}, dry_run=True) == {old: 1, live: 1}
    assert "u01" in all_users(backend.releases, live)
    assert backend.releases.forget({"u01", "nobody"}) == {old: 1, live: 1}
    for name in (old, live):
        assert "u01" not in all_users(backend.releases, name)
        assert backend.releases.list()[name].users == len(all_users(backend.releases, name))
    assert backend.releases.forget({"u01", "nobody"}) == {}
    with backend.open() as index:
        assert index.search(Query(user="u01")).tier == "popularity"
        assert index.search(Query(user="u02")).hits == before.hits
    backend.releases.activate(old)
    assert backend.releases.live() == old


def test_a_service_that_follows_answers_without_the_shopper(embedded: Embedded) -> None:
    embedded.publish(tables(shop()), made())
    with open_index(str(embedded.folder), follow=0.05) as index:
        assert index.search(Query(user="u03")).tier == "profile"
        embedded.releases.forget({"u03"})
        for _ in range(600):
            if index.search(Query(user="u03")).tier == "popularity":
                break
            time.sleep(0.05)
        assert (index.search(Query(user="u03")).tier, index.following.problem) == ("popularity", None)
