"""Publications that are killed, raced, cut off or refused; a service that searches meanwhile sees whole releases."""

import os
import subprocess
import sys
import threading

import pytest
from helpers.alias_reader import publish_labelled, reading
from helpers.faulty_proxy import Fault, proxy
from helpers.server_releases import Window, relabelled
from helpers.six_items import documents

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch import lease
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.searcher import Searcher

PUBLISHER_CODE = """
import sys
from helpers.server_releases import Window
from helpers.alias_reader import publish_labelled
from vlm4rec_search.indexes.opensearch import lease
lease.LOST, lease.RENEWED = 2.0, 0.5  # renewed often, so that a busy machine does not make the holder look dead
publish_labelled(Window(sys.argv[1], sys.argv[2]), sys.argv[3])
"""


pytestmark = pytest.mark.usefixtures("quick_leases")


def start_publisher(url: str, window: Window, label: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PUBLISHER_CODE, url, window.catalogue.prefix, label]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stderr=subprocess.PIPE, text=True
    )


def kill_publisher_at(window: Window, bulk: int) -> None:
    """Start a publication and kill it when it sends its n-th bulk request (from 0)."""
    running: list[subprocess.Popen[str]] = []

    def judge(number: int, _: bytes) -> Fault | None:
        if number == bulk:
            running[0].kill()
            return Fault(cut="before")
        return None

    with proxy(window.url, judge) as url:
        running.append(start_publisher(url, window, "killed"))
        running[0].communicate(timeout=120)
    assert running[0].returncode == -9


def test_a_publication_after_two_killed_ones_is_complete(window: Window) -> None:
    publish_labelled(window, "old")
    with reading(window) as reader:
        kill_publisher_at(window, 0)
        assert len(window.indexes()) == 4  # three live indices, and one that was begun
        kill_publisher_at(window, 1)
        assert len(window.indexes()) == 5  # what the first one left is deleted
        publish_labelled(window, "new")
    reader.assert_saw("old", "new")
    assert len(window.indexes()) == 6


def test_of_two_publishers_one_publishes_and_the_other_is_refused(window: Window) -> None:
    publish_labelled(window, "old")
    began, refused = threading.Event(), threading.Event()

    def judge(_number: int, _body: bytes) -> None:
        began.set()
        refused.wait(60)

    with proxy(window.url, judge) as url, reading(window) as reader:
        first = start_publisher(url, window, "first")
        assert began.wait(60)
        with pytest.raises(RunError, match=rf"another publication is running \(process {first.pid} of "):
            publish_labelled(window, "new")
        refused.set()
        assert first.communicate(timeout=120)[1].count("Traceback") == 0
    assert first.returncode == 0
    reader.assert_saw("old", "first")


def test_a_publisher_that_lost_its_lease_does_not_publish(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    live = window.publish(relabelled("old")).meta.name
    monkeypatch.setattr(lease, "RENEWED", 60.0)  # so the holder seems dead
    late = Window(window.url, window.catalogue.prefix)

    def judge(number: int, _: bytes) -> None:
        if number == 0:
            with lease.lease(late.client, late.catalogue.prefix):
                late.catalogue.sweep()

    with proxy(window.url, judge) as url, pytest.raises(RunError):
        Window(url, window.catalogue.prefix).publish(relabelled("new"))
    assert window.catalogue.live() == live
    assert len(window.indexes()) == 3


def test_a_rollback_is_one_step_for_a_searching_service(window: Window) -> None:
    old, new = (publish_labelled(window, label).meta.name for label in ("old", "new"))
    with reading(window) as reader:
        for _ in range(5):
            assert window.releases.rollback(None) == old
            assert window.releases.rollback(new) == new
        window.releases.rollback(old)
    reader.assert_saw("old", "new")


def test_an_empty_catalogue_is_refused(window: Window) -> None:
    publish_labelled(window, "old")
    with reading(window) as reader, pytest.raises(RunError, match="not published: there are no documents"):
        window.publish(documents()[:0])
    reader.assert_saw("old")
    assert len(window.indexes()) == 3


def test_an_index_with_the_name_of_an_alias_is_left_alone(window: Window) -> None:
    name = f"{window.catalogue.prefix}profiles"
    window.client.indices.create(index=name)
    with pytest.raises(UsageError, match=f"{name} is an index on the server, not an alias"):
        window.publish()
    assert window.client.indices.exists(index=name)
    with pytest.raises(UsageError, match=r"set VLM4REC_INDEX_PREFIX$"):
        window.releases.rollback(None)


def test_foreign_aliases_and_aliases_of_two_releases_are_reported(window: Window) -> None:
    prefix = window.catalogue.prefix
    window.client.indices.create(index=f"{prefix}shoes", body={"aliases": {f"{prefix}items": {}}})
    with pytest.raises(RunError, match="the aliases do not point to one release"):
        window.publish()
    window.client.indices.delete(index=f"{prefix}shoes")
    old, new = (window.publish(relabelled(label)).meta.name for label in ("old", "new"))
    index = window.catalogue.index("profiles", old)
    window.client.indices.update_aliases(body={"actions": [{"add": {"index": index, "alias": f"{prefix}profiles"}}]})
    with pytest.raises(RunError, match=rf"profiles -> {index} and .*: `vlm4rec releases rollback RELEASE` sets them"):
        window.catalogue.live()
    assert window.releases.rollback(new) == window.catalogue.live() == new
    window.client.indices.create(index=f"{prefix}shoes", body={"aliases": {f"{prefix}items": {}}})
    for attempt in (window.releases.live, lambda: window.releases.rollback(old)):
        with pytest.raises(RunError, match=rf"are none of ours \(DELETE /{prefix}shoes/_alias/{prefix}items\)"):
            attempt()
    window.client.indices.delete_alias(index=f"{prefix}shoes", name=f"{prefix}items")
    assert window.catalogue.live() == new  # no alias was moved


def test_an_open_index_stays_with_its_release_until_the_release_is_deleted(window: Window) -> None:
    first = window.publish(relabelled("old")).meta.name
    with pytest.raises(UsageError, match="was built by the encoder hashing-4@1, not by other-4@1"):
        Searcher(OpenSearchBackend(window.catalogue), "other-4@1")
    index = Searcher(OpenSearchBackend(window.catalogue))
    second = window.publish(relabelled("new")).meta.name
    before = index.search(Query(user="u1"))
    assert (before.release, {hit.title.split()[0] for hit in before.hits}) == (first, {"old"})
    window.catalogue.delete(first)
    after = index.search(Query(user="u1"))
    assert (after.release, {hit.title.split()[0] for hit in after.hits}) == (second, {"new"})
