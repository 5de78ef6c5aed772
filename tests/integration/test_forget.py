"""`vlm4rec forget` on both backends: live and kept releases lose the shopper, and all else stays."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import duckdb
import pytest
from helpers.backends import Backend, Embedded, Server
from helpers.faulty_proxy import Fault, proxy
from helpers.search_tables import made, shop_tables
from helpers.six_items import documents, given, meta
from helpers.ubi_names import own_ubi_names
from helpers.waiting import wait_until
from opensearchpy import exceptions

from vlm4rec_search import Query, open_index
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import ExplicitSettings, Settings
from vlm4rec_search.indexes import open_releases
from vlm4rec_search.indexes.embedded import pointer
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.opensearch import publish, shoppers
from vlm4rec_search.indexes.opensearch.bulk import delete_documents
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.disk import DISK_BLOCK
from vlm4rec_search.indexes.opensearch.mapping import INDEX_KINDS, index_body
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.release import ForgetError
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.pipeline import ubi_export
from vlm4rec_search.pipeline.backup import write_backup
from vlm4rec_search.pipeline.forget import Forgetting, forget
from vlm4rec_search.pipeline.recommendations import all_users
from vlm4rec_search.serve.journal import Journal, ServedPage


def test_a_shopper_leaves_live_and_kept_releases(backend: Backend) -> None:
    given = shop_tables()
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
        assert backend.releases.meta(name).users == len(all_users(backend.releases, name))
    assert backend.releases.forget({"u01", "nobody"}) == {}
    with backend.open() as index:
        assert index.search(Query(user="u01")).tier == "popularity"
        assert index.search(Query(user="u02")).hits == before.hits
    backend.releases.activate(old)
    assert backend.releases.live() == old


def damage(releases: Releases, name: str) -> None:
    """Cut the file of a release, or close its indices."""
    if isinstance(releases, OpenSearchReleases):
        for kind in INDEX_KINDS:
            releases.catalogue.client.indices.close(index=releases.catalogue.index(kind, name))
    else:
        path = pointer.release_path(Path(releases.url), name)
        path.write_bytes(path.read_bytes()[:5_000])


def empty_project(folder: Path, url: str, prefix: str) -> ExplicitSettings:
    """Return settings whose only place with rows is an index."""
    names = ("cache", "served", "published", "quality", "recommendations", "releases", "results", "warehouse")
    places = {name: folder / name for name in ("data_dir", "forgotten", *names)}
    return ExplicitSettings(project=None, index_url=url, index_prefix=prefix, **places)


def test_a_kept_release_that_cannot_be_read_is_named_and_the_others_are_cleaned(
    releases: Releases, place: Settings, tmp_path: Path
) -> None:
    first, damaged, live = (releases.publish(given(documents()), meta(), False, True).meta.name for _ in range(3))
    damage(releases, damaged)
    settings = empty_project(tmp_path, place.index_url, place.index_prefix)
    done = forget(settings, ["u1"])
    places_of = {name: f"release {name} in {releases.url}" for name in (first, damaged, live)}
    assert {each.place: each.rows for each in done.removals if not each.problem} == {
        places_of[first]: 1,
        places_of[live]: 1,
    }
    (problem,) = done.problems
    assert problem.place == places_of[damaged]
    cure = (
        "delete this file"
        if isinstance(releases, EmbeddedReleases)
        else "/_open or mend it; if its release is not live"
    )
    assert cure in str(problem.problem)
    assert "u1" not in releases.users(live, 10)
    assert forget(settings, []).problems == [problem]


def test_a_blocked_index_is_not_to_be_deleted(opensearch_url: str, own_prefix: str) -> None:
    releases = OpenSearchReleases(connect(opensearch_url, Settings()), own_prefix, opensearch_url)
    live = releases.publish(given(documents()), meta(), False, True).meta.name
    index = releases.catalogue.index("profiles", live)
    room = "make room (`vlm4rec releases prune --keep 1`)"
    for block, cure in ((DISK_BLOCK, room), ("index.blocks.read_only", "remove the block")):
        releases.catalogue.client.indices.put_settings(index=index, body={block: True})
        with pytest.raises(ForgetError) as raised:
            releases.forget({"u1"})
        releases.catalogue.client.indices.put_settings(index=index, body={block: None})
        problem = raised.value.problems[live]
        assert problem.endswith(f"; {cure} and run the command again")
        assert "DELETE" not in problem


def test_a_publication_leaves_out_who_is_forgotten_before_it_or_meanwhile(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """The list is read when no `forget` can run on the index, and once more before the release goes live."""
    caplog.set_level("INFO")
    lists: list[set[str]] = [{"u07"}, {"u07", "u08"}]
    given = shop_tables()
    people = backend.releases.meta(backend.publish(given, made())).users
    publication = backend.releases.publish(given, made(), False, True, lambda: lists.pop(0))
    assert "1 forgotten shoppers are left out; `sqlmesh plan` removes them from the tables" in caplog.text
    assert (lists, publication.summary.users, publication.meta.users) == ([], people - 2, people - 2)
    live = str(backend.releases.live())
    assert backend.releases.meta(live).users == len(all_users(backend.releases, live)) == people - 2
    assert not {"u07", "u08"} & set(all_users(backend.releases, live))
    assert publication.refused.num_rows == 0
    backend.releases.activate(live)


_STAGING = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from vlm4rec_search.indexes.opensearch.publish import _staging_database
with ExitStack() as opened:
    for place in map(Path, sys.argv[1:]):
        connection = opened.enter_context(_staging_database(place))
        connection.execute("CREATE TABLE users AS SELECT 'u1' AS user_id; CHECKPOINT")
    print("staged", flush=True)
    time.sleep(60)
"""
_RESTORING = """
import os, signal, sys
from pathlib import Path
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.pipeline import backup
backup._explain_errors = lambda path: os.kill(os.getpid(), signal.SIGKILL)
backup.restore_backup(ExplicitSettings.model_validate_json(sys.argv[1]), Path(sys.argv[2]), force=True)
"""


def test_copies_that_a_process_works_with_go_when_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, temporary = empty_project(tmp_path, str(tmp_path / "index"), ""), tmp_path / "temporary"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    places = (settings.cache, temporary)
    command = [sys.executable, "-c", _STAGING, *map(str, places)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "staged\n"
        copies = [copy for place in places for copy in place.glob("*/staged.duckdb")]
        assert len(copies) == 2
        assert forget(settings, ["u1"]).problems == []
        assert all(copy.exists() for copy in copies), "its process goes on with it"
        process.kill()
    forget(settings, [], dry_run=True)
    assert all(copy.exists() for copy in copies)
    assert forget(settings, []).problems == []
    assert [[*place.iterdir()] for place in places] == [[], []]


def test_what_a_killed_restore_has_extracted_goes(tmp_path: Path) -> None:
    settings, file = empty_project(tmp_path, str(tmp_path / "index"), ""), tmp_path / "shop.zip"
    journal = Journal(settings.served_file)
    journal.record("one", 1, {"user": "u1"}, ServedPage([("a", 0.5)], "profile", "release", "ranking"))
    write_backup(settings, file)
    command = [sys.executable, "-c", _RESTORING, settings.model_dump_json(), str(file)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [path.name for path in settings.cache.glob("*/*")] == ["served.sqlite"]
    assert [each.rows for each in forget(settings, ["u1"]).removals] == [1]
    assert [*settings.cache.iterdir()] == []


def test_a_publication_on_a_server_stages_its_tables_in_the_cache(
    opensearch_url: str, own_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There `forget` finds what a killed one has left, whatever the folder for temporary files is."""
    settings = empty_project(tmp_path, opensearch_url, own_prefix)
    prepare, staged = publish.prepare_documents, list[Path]()

    def look_first(connection: duckdb.DuckDBPyConnection) -> list[str]:
        staged.extend(settings.cache.glob("*/staged.duckdb"))
        return prepare(connection)

    monkeypatch.setattr(publish, "prepare_documents", look_first)
    with open_releases(opensearch_url, settings) as releases:
        releases.publish(given(documents()), meta(), False, True)
    assert len(staged) == 1
    assert [*settings.cache.iterdir()] == []


def test_a_release_that_goes_live_while_a_forgetting_waits_is_cleaned_too(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.publish(shop_tables(), made())
    take = pointer.folder_lock

    @contextmanager
    def take_after_a_build(folder: Path) -> Iterator[None]:
        monkeypatch.undo()
        embedded.publish(shop_tables(), made())
        with take(folder):
            yield

    monkeypatch.setattr(pointer, "folder_lock", take_after_a_build)
    embedded.releases.forget({"u09"})
    assert "u09" not in all_users(embedded.releases, str(embedded.releases.live()))


def test_a_service_that_follows_answers_without_the_shopper(embedded: Embedded) -> None:
    embedded.publish(shop_tables(), made())
    left = embedded.folder / "releases" / ".open-of-a-killed-process.duckdb"
    left.write_text("u03")
    with open_index(str(embedded.folder), follow=0.05) as index:
        for user in ("u03", "u04"):  # the second time the first replaced file is the open one
            assert index.search(Query(user=user)).tier == "profile"
            embedded.releases.forget({user})
            for _ in range(600):
                if index.search(Query(user=user)).tier == "popularity":
                    break
                time.sleep(0.05)
            assert (index.search(Query(user=user)).tier, index.following.problem) == ("popularity", None)
    assert not left.exists()


def test_a_rollback_to_a_release_that_is_open_by_name_answers_without_the_shopper(embedded: Embedded) -> None:
    old, _ = (embedded.publish(shop_tables(), made()) for _ in range(2))
    with open_index(str(embedded.folder), follow=0.05) as index, embedded.releases.open(old) as by_name:
        embedded.releases.forget({"u03"})
        embedded.releases.activate(old)
        wait_until(lambda: index.release.name == old)
        assert index.search(Query(user="u03")).tier == "popularity"
        assert by_name.search(Query(user="u03")).tier == "profile", "it is open as it was"


def test_an_index_without_rights_does_not_stop_the_others_and_files_are_a_place_of_their_own(
    opensearch_url: str, own_prefix: str, tmp_path: Path
) -> None:
    releases = OpenSearchReleases(connect(opensearch_url, Settings()), own_prefix, opensearch_url)
    old, live = (releases.publish(given(documents()), meta(), False, True).meta.name for _ in range(2))
    closed_to_us = f"/{releases.catalogue.index('profiles', old)}/_refresh"
    with proxy(opensearch_url, lambda _number, _body: Fault(403), judged=closed_to_us) as url:
        done = forget(empty_project(tmp_path, url, own_prefix), ["u1"])
        assert [(each.place, each.rows) for each in done.removals if not each.problem] == [
            (f"release {live} in {url}", 1)
        ]
        (problem,) = done.problems
        assert problem.place == f"release {old} in {url}"
        assert "does not allow this to these credentials" in str(problem.problem)
    assert ("u1" in releases.users(old, 10), "u1" in releases.users(live, 10)) == (True, False)
    with proxy(opensearch_url, lambda _number, _body: Fault(403), judged="/_forcemerge") as url:
        done = forget(empty_project(tmp_path, url, own_prefix), ["u2"])
    assert [each.place for each in done.problems] == [f"the files of {url}"]
    assert "u2" not in releases.users(live, 10)


def test_documents_are_deleted_and_one_that_the_server_keeps_is_told(opensearch_url: str, own_prefix: str) -> None:
    client, index = connect(opensearch_url, Settings()), f"{own_prefix}-profiles"
    for name in "abc":
        client.index(index=index, id=name, body={}, params={"refresh": "true"})
    delete_documents(client, index, ["a", "b", "missing"])
    client.indices.refresh(index=index)
    assert [hit["_id"] for hit in client.search(index=index)["hits"]["hits"]] == ["c"]
    client.indices.put_settings(index=index, body={"index.blocks.write": True})
    with pytest.raises(RunError, match=f"{index} keeps 1 documents that were to be deleted: run the command again"):
        delete_documents(client, index, ["c"])


def test_what_killed_publications_have_left_is_forgotten_too(server: Server) -> None:
    """An unfinished index is deleted; and a base that was being copied takes no writes."""
    given = shop_tables()
    live, killed = server.publish(given, made()), made()
    assert isinstance(server.releases, OpenSearchReleases)
    catalogue = server.releases.catalogue
    left, copied = (catalogue.index("profiles", name) for name in (killed.name, live))
    catalogue.client.indices.create(index=left, body=index_body("profiles", killed, []))
    catalogue.client.indices.put_settings(index=copied, body={"index.blocks.write": True})
    assert server.releases.forget({"u06"})[live] == 1
    assert not catalogue.client.indices.exists(index=left)
    assert "u06" not in all_users(server.releases, live)


def test_a_break_before_the_deletion_leaves_a_release_that_can_go_live(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = server.publish(shop_tables(), made())
    with monkeypatch.context() as broken:
        broken.setattr(shoppers, "delete_documents", Mock(side_effect=RunError("killed")))
        with pytest.raises(RunError, match="killed"):
            server.releases.forget({"u10"})
    assert server.releases.meta(live).users < len(all_users(server.releases, live))
    assert server.releases.rollback(live) == live


@pytest.mark.long
def test_a_break_before_the_merge_leaves_a_release_that_can_go_live(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish(shop_tables(), made())
    assert isinstance(server.releases, OpenSearchReleases)
    indices = server.releases.catalogue.client.indices
    with monkeypatch.context() as broken:
        broken.setattr(indices, "forcemerge", Mock(side_effect=exceptions.ConnectionError("N/A", "reset", None)))
        with pytest.raises(RunError):
            server.releases.forget({"u05"})
    first = next(iter(server.releases.list()))
    assert "u05" not in all_users(server.releases, first)
    server.releases.activate(first)
    assert server.releases.forget({"u05"}) == {}
    stats = indices.stats(index=server.releases.catalogue.index("profiles", first), metric="docs")
    assert stats["_all"]["total"]["docs"]["deleted"] == 0


def test_a_copy_of_events_that_is_made_meanwhile_keeps_nothing(
    opensearch_url: str, own_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = own_ubi_names(monkeypatch, own_prefix)
    settings = empty_project(tmp_path, opensearch_url, own_prefix)
    journal = Journal(settings.served_file)
    journal.record("one", 1, {"user": "u1"}, ServedPage([("a", 0.5)], "profile", "release", "ranking"))
    left, forgetting = [], list[Future[Forgetting]]()

    def judge(number: int, _body: bytes) -> None:
        if number == 0:  # the copy has read the journal and sends what it has read
            forgetting.append(pool.submit(forget, settings.model_copy(update={"index_url": url}), ["u1"]))
            wait(forgetting, timeout=1.0)
        else:
            left.append(journal.find("one"))

    with ThreadPoolExecutor() as pool, proxy(opensearch_url, judge) as url:
        assert ubi_export.export_ubi(settings, url).copied[names[0]] == 1
        assert forgetting[0].result().problems == []
    assert left == [None], "the copy is cleaned when the journal is"
    assert ubi_export.forget_ubi(settings, opensearch_url, {"u1"}) == {}
