"""Builds of embedded releases: counts, refused rows, and verification."""

import logging
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.largest_file import largest_file
from helpers.six_items import FIT, documents, given, meta, popularity, publish, users
from helpers.workspace import ROOT

from vlm4rec_search import Query, open_index
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.checks import verify_rows
from vlm4rec_search.indexes.embedded.pointer import current_release, release_path
from vlm4rec_search.indexes.embedded.publish import build_release, verify_file
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.opensearch.mapping import read_meta as read_server_meta
from vlm4rec_search.indexes.release import ForgetError, new_release
from vlm4rec_search.indexes.search_layer import read_search_layer
from vlm4rec_search.search.experiments import Experiment, Variant
from vlm4rec_search.search.rules import RulesFile


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    path = current_release(folder)
    assert path is not None
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "releases").iterdir())


def test_changes_are_counted_against_the_release_before(tmp_path: Path) -> None:
    first = publish(tmp_path)
    assert (first.documents, first.added, first.changed, first.deleted, first.rejected) == (6, 6, 0, 0, 0)
    changed = documents()
    changed.loc[0, "content_hash"] = "a2"
    changed.loc[1, "item_id"] = "new"
    second = build_release(tmp_path, given(changed.drop(index=[5])), meta(), force=True)
    assert (second.documents, second.added, second.changed, second.deleted, second.rejected) == (5, 1, 1, 2, 0)
    assert set(asdict(second)) >= {"release", "documents", "added", "changed", "deleted", "rejected", "seconds"}


def test_a_release_holds_its_metadata(tmp_path: Path) -> None:
    made = new_release("org/Some_Model v2@abc", 4, "attributes@1", "facts@3", datetime(2025, 6, 30))
    made = replace(made, checks="forced: captions", fitted=FIT, fitted_dimension=2)
    assert made.name.startswith("items__v8__some-model-v2__2")
    frame = documents().assign(encoder=made.encoder)
    build_release(tmp_path, given(frame), made)
    stored = rows(tmp_path, "SELECT name, encoder, prompt, as_of, checks, analyzer, documents, users FROM release")
    expected = (
        made.name,
        made.encoder,
        "facts@3",
        datetime(2025, 6, 30),
        "forced: captions",
        "vlm4rec_english@3",
        6,
        4,
    )
    assert stored == [expected]


def test_the_days_of_popularity_come_from_the_warehouse() -> None:
    with duckdb.connect() as connection:
        connection.execute((ROOT / "tests" / "fixtures" / "good_tables.sql").read_text("utf-8"))
        connection.execute("UPDATE profiles.pace SET popularity_days = 45")
        assert read_search_layer(connection).new_release("passed").popularity_days == 45.0


def test_a_release_knows_which_events_its_tables_have(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute((ROOT / "tests" / "fixtures" / "good_tables.sql").read_text("utf-8"))
        assert read_search_layer(connection).new_release("passed").events_until is None
        connection.execute("""
            INSERT INTO raw.interactions VALUES
            ('interactions.csv', '{"received": "2026-01-09 10:00:00"}'),
            ('events/interactions/2026-01-01.parquet', '{"received": "2026-01-01 23:00:00"}'),
            ('events/interactions/2026-01-02.parquet', '{"received": "2026-01-02 10:00:00.123456"}'),
            ('events/interactions/2026-01-02.parquet', '{"received": "2026-01-02 09:00:00"}')
        """)
        until = read_search_layer(connection).new_release("passed").events_until
    assert until == datetime(2026, 1, 2, 10, 0, 0, 123456)
    build_release(tmp_path, given(documents()), replace(meta(), events_until=until))
    assert rows(tmp_path, "SELECT events_until FROM release") == [(until,)]
    on_a_server = replace(meta(), events_until=until).to_json()
    assert read_server_meta(on_a_server).events_until == until
    of_before = {name: value for name, value in on_a_server.items() if name != "events_until"}
    assert read_server_meta(of_before).events_until is None


BAD = {
    "no item_id": {"item_id": " "},
    "repeated item_id": {"item_id": "a"},
    "no vector": {"vector": None},
    "vector of dimension 3, not 4": {"vector": np.float32([1, 0, 0])},
    "vector is not finite": {"vector": np.float32([np.nan, 0, 0, 1])},
    "vector is not of length 1": {"vector": np.float32([1, 1, 0, 0])},
    "vector of the encoder other@1": {"encoder": "other@1"},
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_documents_are_rejected_with_the_reason(tmp_path: Path, reason: str) -> None:
    frame = documents()
    for column, value in BAD[reason].items():
        frame.at[5, column] = value
    summary = publish(tmp_path, frame)
    assert (summary.documents, summary.rejected) == (5, 1)
    assert rows(tmp_path, "SELECT kind, title, reason FROM rejected") == [("document", "grey chair", reason)]
    with open_index(str(tmp_path)) as index:
        assert len(index.search(Query(user="u1", include_seen=True)).hits) == 5


def test_a_null_component_is_not_finite(tmp_path: Path) -> None:
    frame = documents().astype({"vector": object})
    frame.at[5, "vector"] = [None, 0.0, 0.0, 1.0]
    publish(tmp_path, frame)
    assert rows(tmp_path, "SELECT id, reason FROM rejected") == [("f", "vector is not finite")]


def test_bad_users_are_rejected_with_the_reason(tmp_path: Path) -> None:
    people = users()
    people.at[1, "vector"] = np.float32([np.inf, 0, 0, 0])
    summary = build_release(tmp_path, given(documents(), people, popularity()), meta())
    assert (summary.rejected, summary.rejected_users) == (0, 1)
    assert rows(tmp_path, "SELECT kind, id, reason FROM rejected") == [("user", "u2", "vector is not finite")]


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (documents()[:0], "there are no documents"),
        (
            documents().assign(encoder="other@1"),
            "all documents were rejected, 6 of them for: vector of the encoder other@1",
        ),
    ],
)
def test_a_build_without_documents_keeps_the_last_release(tmp_path: Path, frame: pd.DataFrame, complaint: str) -> None:
    before = publish(tmp_path).release
    with pytest.raises(RunError, match=complaint):
        publish(tmp_path, frame)
    assert (tmp_path / "current").read_text().strip() == before
    assert files(tmp_path) == [f"{before}.duckdb"]


def test_a_missing_column_is_a_usage_error(tmp_path: Path) -> None:
    incomplete = replace(given(documents()), documents=documents().drop(columns=["price", "caption"]))
    with pytest.raises(UsageError, match=r"search\.item_documents has no column caption, price: .*vlm4rec upgrade"):
        build_release(tmp_path, incomplete, meta())
    assert current_release(tmp_path) is None


def test_verification_compares_the_scan(tmp_path: Path) -> None:
    path = release_path(tmp_path, publish(tmp_path).release)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE vectors SET vector = [0, 0, 0, 1] WHERE document = 0")
    query = [1.0, 0.0, 0.0, 0.0]
    with pytest.raises(RunError, match="rank otherwise"):
        verify_file(path, [(query, [1.0, 0.8, 0.6, 0.0, 0.0, 0.0])])
    verify_file(path, [(query, [0.8, 0.6, 0.0, 0.0, 0.0, 0.0])])


def test_verification_compares_ids_and_lengths(tmp_path: Path) -> None:
    path = release_path(tmp_path, publish(tmp_path).release)
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TEMP TABLE judged_documents AS SELECT item_id, NULL AS reason FROM documents")
        connection.execute("CREATE TEMP TABLE judged_users AS SELECT user_id FROM users")
        verify_rows(connection)
        connection.execute("UPDATE judged_documents SET item_id = 'z' WHERE item_id = 'f'")
        with pytest.raises(RunError, match="1 documents are missing"):
            verify_rows(connection)
        connection.execute("UPDATE vectors SET vector = [1.0015, 0, 0, 0] WHERE document = 0")
    with pytest.raises(RunError, match="not of length 1"):
        verify_file(path, [])


@pytest.mark.parametrize("damage", ["truncated", "gone", "nothing is named"])
def test_a_live_release_that_cannot_be_read_is_told_and_stops_no_publication(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    name = publish(tmp_path).release
    path, releases = release_path(tmp_path, name), EmbeddedReleases(tmp_path)
    assert releases.live_release() is not None
    caplog.clear()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "gone":
        path.unlink()
    else:
        (tmp_path / "current").write_text("../nothing")
    assert releases.live_release() is None
    (told,) = (record.message for record in caplog.records if record.levelno >= logging.WARNING)
    assert "of the live release is lost" in told
    assert publish(tmp_path).release == releases.live()


def test_a_healthy_release_is_not_to_be_deleted_because_the_disk_is_full(tmp_path: Path) -> None:
    name = publish(tmp_path).release
    with pytest.raises(ForgetError) as failed, largest_file(100_000):
        EmbeddedReleases(tmp_path).forget({"u1"})
    assert (list(failed.value.problems), failed.value.found) == ([name], {})
    assert "Could not write file" in failed.value.problems[name]
    assert "delete this file" not in failed.value.problems[name]
    assert files(tmp_path) == [f"{name}.duckdb"]
    assert EmbeddedReleases(tmp_path).forget({"u1"}) == {name: 1}


def test_a_release_that_an_experiment_names_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4rec_search.indexes.embedded.pointer.RETAINED", 1)
    named = publish(tmp_path).release
    kept = RulesFile(experiments={"new": Experiment(b=Variant(release=named))}).releases
    for _ in range(2):
        build_release(tmp_path, given(documents()), meta(), kept=kept)
    releases = EmbeddedReleases(tmp_path)
    _, before, live = releases.list()
    assert (releases.prune(1, kept), [*releases.list()]) == ([], [named, before, live])
    assert releases.prune(1) == [named]
