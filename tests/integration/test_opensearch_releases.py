"""Releases on a real server: their documents, their counts, and which of them are kept."""

import json
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest
from helpers.server_releases import Window, relabelled
from helpers.six_items import FIT, documents, given, meta, popularity, segments, users

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch.mapping import field_name, read_meta
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.indexes.release import ListedRelease, new_release
from vlm4rec_search.pipeline.record import record_failure


def test_a_release_holds_the_tables(window: Window) -> None:
    summary = window.publish().summary
    assert (summary.documents, summary.added, summary.users, summary.rejected) == (6, 6, 4, 0)
    items = window.documents()
    assert sorted(items) == list("abcdef")
    assert items["a"]["facets"] == {
        "available": ["true"],
        "brand": ["Alder"],
        "category": ["dresses"],
        "price": ["50"],
        "tags": ["new", "silk"],
    }
    assert items["a"]["attributes"] == {"brand": "Alder", "tags": ["new", "silk"]}
    assert items["d"]["facets"][field_name('we"ird.$/~field')] == ["x"]
    assert field_name("a.b*") == "a%2Eb%2A"
    assert (items["a"]["popularity"], items["f"]["popularity"]) == (3 + 3 / 8, 0)  # recent + all / (1 + most)
    assert items["a"]["neighbours"] == {"item_id": ["b", "c"], "similarity": [0.5, 0.25]}
    profile = window.documents("profiles")["u1"]
    assert (profile["seen"], profile["categories"]) == (["a", "d", "gone"], ["dresses", "lamps"])
    assert window.documents("segments")["s"]["items"] == [{"item_id": "e", "score": 5}, {"item_id": "c", "score": 2}]


def test_an_index_holds_its_metadata_and_takes_no_other_field(window: Window) -> None:
    made = window.publish().meta
    index = window.catalogue.index("items", made.name)
    assert index == f"{window.catalogue.prefix}{made.name}"
    body = window.client.indices.get(index=index)[index]
    assert read_meta(body["mappings"]["_meta"]) == made
    assert (made.documents, made.users, body["mappings"]["_meta"]["whole"]) == (6, 4, True)
    assert body["mappings"]["dynamic"] == "strict"
    assert "refresh_interval" not in body["settings"]["index"]  # restored after loading
    older = {name: value for name, value in body["mappings"]["_meta"].items() if name != "table_version"}
    assert read_meta(older) == made  # a field that version 0.1 did not write is None
    assert set(body["aliases"]) == {f"{window.catalogue.prefix}items"}


def test_changes_are_counted_against_the_release_before(window: Window) -> None:
    window.publish()
    changed = documents()
    changed.loc[0, "content_hash"] = "a2"
    changed.loc[1, "item_id"] = "new"
    summary = window.publish(changed.drop(index=[5]), force=True).summary
    assert (summary.documents, summary.added, summary.changed, summary.deleted) == (5, 1, 1, 2)


def test_an_incremental_release_sends_only_changes_and_holds_the_same_documents(window: Window) -> None:
    first = window.publish().meta.name
    changed = documents()
    changed.loc[0, ["title", "content_hash"]] = ["crimson dress", "a2"]
    changed.loc[1, "item_id"] = "new"
    changed.loc[2, "attributes"] = '{"colour": "blue", "brand": "Alder"}'  # a new field
    step = window.publish(changed, incremental=True)
    assert (step.summary.documents, step.summary.added, step.summary.changed, step.summary.deleted) == (6, 1, 1, 1)
    assert [(load.indexed, load.deleted) for load in step.loads] == [(3, 1), (0, 0), (0, 0)]
    after = {kind: window.documents(kind) for kind in ("items", "profiles", "segments")}
    window.publish(changed)
    assert after == {kind: window.documents(kind) for kind in after}
    window.catalogue.activate(first)
    assert window.documents()["a"]["title"] == "red dress"  # the copied release has not changed


def test_the_first_release_is_full_even_if_incremental_is_asked_for(window: Window) -> None:
    assert window.publish(incremental=True).summary.added == 6


@pytest.mark.parametrize("incremental", [False, True], ids=["full", "incremental"])
def test_a_release_may_lose_a_fifth_at_most_unless_forced(window: Window, incremental: bool) -> None:
    live = window.publish().meta.name
    with pytest.raises(RunError, match="2 of 6 items would be deleted, more than 20%"):
        window.publish(documents()[:4], incremental=incremental)
    assert (window.catalogue.live(), set(window.documents())) == (live, set("abcdef"))
    few = given(documents(), users()[:3])
    with pytest.raises(RunError, match="1 of 4 profiles would be deleted, more than 20%"):
        publish_release(window.catalogue, few, meta(), incremental=incremental)
    quiet = replace(given(documents()[:5]), segments=segments()[:2])  # one of two segments had no events of late
    assert publish_release(window.catalogue, quiet, meta(), incremental=incremental).summary.deleted == 1
    assert window.publish(documents()[:3], incremental=incremental, force=True).summary.deleted == 2


def test_a_release_of_another_encoder_has_to_be_full(window: Window) -> None:
    live = window.publish().meta.name
    other = documents().assign(encoder="other-4@1")
    made = replace(meta("other-4@1"))
    with pytest.raises(UsageError, match=f"{live} has the encoder hashing-4@1, the tables have other-4@1"):
        publish_release(window.catalogue, given(other), made, incremental=True)
    assert window.catalogue.live() == live
    assert publish_release(window.catalogue, given(other), made).meta.encoder == "other-4@1"
    assert window.catalogue.live() == made.name


def test_refused_documents_are_recorded_with_the_reason(window: Window) -> None:
    window.publish()
    frame = documents()
    frame.loc[0, "attributes"] = '{"a": 1, "a": 2}'  # the server refuses a repeated field
    frame.loc[1, "item_id"] = "b" * 513
    frame.loc[2, "encoder"] = "other@1"
    publication = window.publish(frame, incremental=True, force=True)
    reasons = {row["id"][:3]: row["reason"] for row in publication.refused.to_pylist()}
    assert (publication.summary.documents, publication.summary.rejected) == (3, 3)
    assert "Duplicate field" in reasons["a"]
    assert reasons["bbb"] == "item_id of more than 512 bytes"
    assert reasons["c"] == "vector of the encoder other@1"
    assert sorted(window.documents()) == ["d", "e", "f"]  # the old version of `a` is gone


@pytest.mark.parametrize("incremental", [False, True], ids=["full", "incremental"])
def test_refused_documents_are_recorded_when_the_publication_fails(
    window: Window, tmp_path: Path, incremental: bool
) -> None:
    window.publish()
    frame = documents()
    frame.loc[:1, "attributes"] = '{"a": 1, "a": 2}'
    frame.loc[2, "encoder"] = "other@1"
    with pytest.raises(RunError, match="3 of 6 items would be deleted") as caught:
        window.publish(frame, incremental=incremental)
    made = meta()
    record_failure(tmp_path / "releases.duckdb", "url", "full", made, caught.value)
    with duckdb.connect(str(tmp_path / "releases.duckdb")) as connection:
        letters = connection.execute("SELECT release, kind, id, title, reason FROM dead_letters ORDER BY id").fetchall()
        outcomes = connection.execute("SELECT release, outcome FROM releases").fetchall()
    assert outcomes == [(made.name, str(caught.value))]
    assert [letter[:4] for letter in letters] == [
        (made.name, "document", item, title)
        for item, title in (("a", "red dress"), ("b", "blue dress"), ("c", "blue shoes"))
    ]
    assert ["Duplicate field" in letter[4] for letter in letters] == [True, True, False]
    assert letters[2][4] == "vector of the encoder other@1"


def test_names_with_dots_and_every_field_of_the_metadata_survive(window: Window) -> None:
    made = new_release("org/e5-v1.5@abc", 4, "attributes@1", "facts@3", None)
    made = replace(made, checks="forced: captions", table_version="2713214556", fitted=FIT, fitted_dimension=2)
    published = publish_release(window.catalogue, given(documents().assign(encoder=made.encoder)), made).meta
    assert "e5-v1.5" in published.name
    assert window.catalogue.list() == {published.name: ListedRelease(replace(made, documents=6, users=4))}
    assert window.catalogue.live() == published.name


def test_the_newest_releases_and_the_previous_live_one_are_kept(window: Window) -> None:
    names = [window.publish().meta.name]
    for _ in range(2):
        window.catalogue.activate(names[0])
        names.append(window.publish().meta.name)
    assert list(window.releases.list()) == names
    assert window.releases.rollback(None) == names[1]
    assert window.releases.prune(1) == []  # the live one, the one before it, and the newest are kept
    assert window.releases.rollback(names[2]) == names[2]
    assert window.releases.prune(1) == [names[0]]
    assert {name.split("__")[0] for name in window.indexes()} == {"items", "profiles", "segments"}
    assert len(window.indexes()) == 6
    with pytest.raises(UsageError, match=f"there is no release {names[0]}"):
        window.releases.rollback(names[0])


def test_a_release_that_an_experiment_names_stays(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4rec_search.indexes.opensearch.publish.RETAINED", 1)
    named, before, live = (window.publish(kept=[*window.releases.list()][:1]).meta.name for _ in range(3))
    assert (window.releases.prune(1, [named]), [*window.releases.list()]) == ([], [named, before, live])
    assert window.releases.prune(1) == [named]


def test_an_old_release_that_cannot_be_deleted_fails_the_command_and_not_a_publication(
    window: Window, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vlm4rec_search.indexes.opensearch.publish.RETAINED", 1)
    names = [window.publish().meta.name for _ in range(2)]
    index, block = window.catalogue.index("items", names[0]), "index.blocks.read_only"
    window.client.indices.put_settings(index=index, body={block: True})
    names.append(window.publish().meta.name)
    assert window.catalogue.live() == names[2]
    assert "old releases stay" in caplog.text
    with pytest.raises(RunError, match="the server refuses: cluster_block_exception"):
        window.releases.prune(1)
    window.client.indices.put_settings(index=index, body={block: False})
    assert window.releases.prune(1) == [names[0]]


def test_a_rollback_to_a_release_that_lost_documents_is_refused(window: Window) -> None:
    old, new = (window.publish(relabelled(label)).meta.name for label in ("old", "new"))
    index = window.catalogue.index("items", old)
    window.client.delete(index=index, id="a", refresh=True)
    with pytest.raises(RunError, match=f"{old} is incomplete: {index} holds 5 of 6 documents"):
        window.releases.rollback(None)
    for item in ("a", "g"):
        window.client.index(index=index, id=item, body={"item_id": item}, params={"refresh": "true"})
    with pytest.raises(RunError, match=f"{old} was changed: {index} holds 7 documents and was made of 6"):
        window.releases.rollback(None)
    assert window.catalogue.live() == new


def test_users_that_cannot_be_searched_are_refused(window: Window) -> None:
    people = users()
    people.at[1, "vector"] = np.float32([np.inf, 0, 0, 0])
    people.loc[2, "user_id"] = "u" * 600
    publication = publish_release(window.catalogue, given(documents(), people, popularity()), meta())
    assert (publication.summary.rejected_users, publication.summary.users) == (2, 2)
    assert sorted(window.documents("profiles")) == ["u1", "u4"]
    assert json.dumps(publication.refused.to_pylist()).count("of more than 512 bytes") == 1
