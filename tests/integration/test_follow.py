"""An open index that follows: new releases, rollbacks and rules reach its answers, and no answer fails or is mixed."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.alias_reader import labelled_hits, labelled_tables, search_hits
from helpers.six_items import documents, given, meta
from helpers.waiting import wait_until

from vlm4rec_search import Query, open_index
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes import open_releases
from vlm4rec_search.indexes.embedded import pointer
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.search.searcher import Searcher


@pytest.fixture
def followed(releases: Releases) -> Iterator[Searcher]:
    releases.publish(labelled_tables("old"), meta(), False, False)
    prefix = releases.catalogue.prefix if isinstance(releases, OpenSearchReleases) else ""
    with open_index(releases.url, follow=0.05, prefix=prefix) as index:
        yield index


def test_publications_and_rollbacks_reach_an_open_index_whole(releases: Releases, followed: Searcher) -> None:
    answers: set[tuple[str, tuple[tuple[str, str, float], ...]]] = set()
    failures: list[Exception] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                answers.add(search_hits(followed))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        labels = {str(releases.live()): "old"}
        for label in ("new", "first", "old", "new"):
            name = releases.publish(labelled_tables(label), meta(), False, False).meta.name
            labels[name] = label
            wait_until(lambda name=name: any(release == name for release, _ in list(answers)))  # type: ignore[misc]
        back = releases.rollback(None)
        wait_until(lambda: followed.search(Query(user="u1")).release == back)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert failures == []
    expected = {label: labelled_hits(label) for label in set(labels.values())}
    assert [answer for answer in answers if answer[1] != expected[labels[answer[0]]]] == []
    assert {release for release, _ in answers} == set(labels)


def test_new_rules_reach_an_open_index_and_broken_ones_leave_the_old(tmp_path: Path) -> None:
    folder, rules = tmp_path / "index", tmp_path / "rules.yaml"
    open_releases(str(folder), Settings()).publish(given(documents()), meta(), False, False)
    rules.write_text("rules: [{action: pin, items: [f]}]")
    with open_index(str(folder), rules=rules) as staying, open_index(str(folder), rules=rules, follow=0.05) as index:

        def first(searcher: Searcher) -> str:
            return searcher.search(Query(user="nobody")).hits[0].item_id

        assert first(index) == "f"
        rules.write_text("rules: [{action: pin, items: [e]}]")
        wait_until(lambda: first(index) == "e")
        rules.write_text("rules: [{action: glue}]")
        wait_until(lambda: "rules" in (index.following.problem or ""))
        assert first(index) == "e"
        rules.write_text("rules: []")
        wait_until(lambda: first(index) not in "ef")
        assert index.following.problem is None
        assert first(staying) == "f"


def test_rules_scenarios_and_experiments_are_those_of_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rules = tmp_path / "index", tmp_path / "rules.yaml"
    open_releases(str(folder), Settings()).publish(given(documents()), meta(), False, False)
    read_text = Path.read_text

    def read_and_edit(path: Path, *arguments: str, **options: str) -> str:
        """Read a file which a colleague edits at the same moment."""
        text = read_text(path, *arguments, **options)
        if path == rules:
            path.write_text("{}")
        return text

    rules.write_text("{rules: [{action: pin, items: [f]}], scenarios: {home: {k: 2}}}")
    monkeypatch.setattr(Path, "read_text", read_and_edit)
    with open_index(str(folder), rules=rules) as index:
        assert (len(index.rules), list(index.scenarios)) == (1, ["home"])


def test_a_release_that_cannot_be_read_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    releases = open_releases(str(folder), Settings())
    old = releases.publish(given(documents()), meta(), False, False).meta.name
    with open_index(str(folder), follow=0.05) as index:
        (folder / "releases" / "broken.duckdb").write_bytes(b"not a database")
        pointer.activate(folder, "broken")
        wait_until(lambda: "cannot read the release" in (index.following.problem or ""))
        assert index.search(Query(user="u1")).release == old
        pointer.activate(folder, old)
        wait_until(lambda: index.following.problem is None)


def test_an_event_loop_goes_on_during_a_search(tmp_path: Path) -> None:
    open_releases(str(tmp_path), Settings()).publish(given(documents()), meta(), False, False)

    async def ask(index: Searcher) -> list[str]:
        answers = await asyncio.gather(*(index.search_async(Query(user=user)) for user in ("u1", "u2")))
        return [answer.user or "" for answer in answers]

    with open_index(str(tmp_path)) as index:
        assert asyncio.run(ask(index)) == ["u1", "u2"]
