"""The analysts' copy: what `publish-tables` puts into it, and the saved queries on it."""

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from helpers.planned_shop import copy_shop
from helpers.workspace import ROOT, Workspace

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.events.event import parse_event
from vlm4rec_search.datasets.events.log import EventLog
from vlm4rec_search.evaluation.store import create_tables
from vlm4rec_search.pipeline.saved_queries import SavedQuery, find_query, load_queries, run_query
from vlm4rec_search.search.ranking import load_ranking, write_ranking
from vlm4rec_search.serve.journal import Journal, ServedPage, new_id

QUERIES_WITHOUT_ROWS = {"documents_refused"}  # where nothing went wrong


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A shop with two releases of different rankings, two checks, an evaluation and a table of dev."""
    workspace = Workspace(tmp_path_factory.mktemp("shop"), in_process=True)
    copy_shop(tmp_path_factory, workspace, is_dirty=True)
    workspace.vlm4rec("index", "--force")
    other = load_ranking().model_copy(update={"version": "other", "diversity": 0.6})
    write_ranking(other, workspace.folder / "other.yaml")
    workspace.settings["VLM4REC_RANKING"] = "other.yaml"
    workspace.vlm4rec("index", "--force")
    with duckdb.connect(str(workspace.folder / "results.duckdb")) as connection:
        create_tables(connection)
        connection.execute("INSERT INTO runs BY NAME SELECT '20261128T120000.000000Z' AS run")
        connection.execute(
            "INSERT INTO metrics BY NAME SELECT '20261128T120000.000000Z' AS run, 'bm25' AS system_name,"
            " '' AS subset, 'nDCG@10' AS metric, 0.1 AS measured"
        )
    with duckdb.connect(str(workspace.folder / "warehouse.duckdb")) as connection:
        connection.execute("CREATE SCHEMA search__dev; CREATE TABLE search__dev.item_documents AS SELECT 1 AS item_id")
    served = workspace.folder / "served"
    answer, (item,) = new_id(), workspace.query("SELECT MIN(item_id) FROM search.item_documents")[0]
    page = ServedPage([(item, 0.5), ("gone", 0.25)], "profile", "r", "v")
    Journal(served / "served.sqlite").record(answer, 1, {"user": "u001"}, page)
    click = {"action_name": "click", "timestamp": "2025-01-31T12:00:00+01:00", "user_id": "u001", "query_id": answer}
    attributes = {"object": {"object_id": item}, "position": {"ordinal": 1}}
    EventLog(served / "events.sqlite").record([parse_event({**click, "event_attributes": attributes})])
    workspace.vlm4rec("publish-tables", "--parquet", "export", "--layer", "search", "--layer", "served")
    return workspace


@pytest.fixture
def copy(shop: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(shop.folder / "published" / "warehouse.duckdb"), read_only=True) as connection:
        yield connection


def test_the_copy_has_layers_and_records_and_nothing_internal(copy: duckdb.DuckDBPyConnection) -> None:
    schemas = {schema for (schema,) in copy.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall()}
    layers = {"raw", "staging", "histories", "captions", "embeddings", "profiles", "search"}
    assert schemas == layers | {"releases", "shown", "served", "quality", "model_calls", "evaluation"}


def test_tables_have_the_rows_and_comments_of_the_warehouse(shop: Workspace, copy: duckdb.DuckDBPyConnection) -> None:
    count = "SELECT COUNT(*) FROM search.item_documents"
    assert copy.execute(count).fetchall() == shop.query(count)
    without = copy.execute(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns()"
        " WHERE NOT internal AND schema_name <> 'questions' AND comment IS NULL"
    ).fetchall()
    assert without == []
    (comment,) = copy.execute(
        "SELECT comment FROM duckdb_columns() WHERE table_name = 'item_captions' AND column_name = 'status'"
    ).fetchall()[0]
    assert comment == "ok, or the kind of reason why there is no caption"


def test_every_saved_query_has_an_answer(shop: Workspace) -> None:
    copy = shop.folder / "published" / "warehouse.duckdb"
    results = [run_query(query, copy) for query in load_queries(ROOT)]
    assert len(results) >= 12
    assert {result.query.name for result in results if not result.rows} <= QUERIES_WITHOUT_ROWS


def test_the_views_of_the_copy_are_the_saved_queries(shop: Workspace, copy: duckdb.DuckDBPyConnection) -> None:
    views = copy.execute("SELECT view_name FROM duckdb_views() WHERE schema_name = 'questions' ORDER BY ALL").fetchall()
    assert [name for (name,) in views] == [query["name"] for query in shop.json("queries", "list")["queries"]]
    assert copy.execute("FROM questions.captions_failed").fetchall()


def test_each_release_has_what_its_sample_saw(copy: duckdb.DuckDBPyConnection) -> None:
    shown = copy.execute(
        "SELECT release, COUNT(DISTINCT user_id), MAX(rank) FROM shown.top_lists GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    released = copy.execute("SELECT release, users FROM releases.releases ORDER BY ALL").fetchall()
    assert [(release, users) for release, users, _ in shown] == released
    assert {rank for *_, rank in shown} == {10}
    (drift,) = copy.execute("SELECT same_hits FROM questions.profile_drift WHERE known_before > 0").fetchall()
    assert 0.0 < drift[0] < 1.0


def test_answers_and_events_of_the_service_are_tables(copy: duckdb.DuckDBPyConnection) -> None:
    shown = copy.execute("SELECT position, user_id, tier, score FROM served.recommendations ORDER BY 1").fetchall()
    assert shown == [(1, "u001", "profile", 0.5), (2, "u001", "profile", 0.25)]
    happened = "SELECT kind, position, CAST(happened_at AS VARCHAR) FROM served.events"
    assert copy.execute(happened).fetchall() == [("click", 1, "2025-01-31 11:00:00")]
    rates = "SELECT position, served, clicks, click_through FROM questions.click_through_by_position"
    assert copy.execute(rates).fetchall() == [(1, 1, 1, 1.0), (2, 1, 0, 0.0)]


def test_the_last_recommendations_are_a_table(shop: Workspace) -> None:
    empty = "SELECT COUNT(*) FROM served.recommendations_batch"
    path = shop.folder / "published" / "warehouse.duckdb"
    with duckdb.connect(path, read_only=True) as copy:
        assert copy.execute(empty).fetchall() == [(0,)]
    written = json.loads(shop.run("vlm4rec", "recommend", "--all", "-k", "2", "--json"))
    shop.vlm4rec("publish-tables")
    with duckdb.connect(path, read_only=True) as copy:
        assert copy.execute(empty).fetchall() == [(written["rows"],)]
        uncommented = copy.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = 'recommendations_batch' AND comment IS NULL"
        ).fetchall()
        assert uncommented == []


def test_a_shopper_without_a_profile_has_a_reason(shop: Workspace) -> None:
    """A shopper whom a file spells as `="u001"` has the profile of u001."""
    (row,) = shop.json("queries", "run", "shoppers_without_profile")["rows"]
    assert row == {"reason": "in the users file only", "shoppers": 1, "examples": ["new"]}


def test_a_query_is_readable_in_80_columns(shop: Workspace) -> None:
    shop.settings["COLUMNS"] = "80"
    output = shop.vlm4rec("queries", "run", "release_changes")
    del shop.settings["COLUMNS"]
    assert max(map(len, output.splitlines())) <= 80
    assert "differs_in" in output
    assert "differs_in     ranking" in output


def test_parquet_files_hold_the_chosen_layers(shop: Workspace) -> None:
    export = shop.folder / "export"
    assert {path.name for path in export.iterdir()} == {"search", "served"}
    rows = duckdb.sql(f"SELECT COUNT(*) FROM '{export}/search/item_documents.parquet'").fetchall()
    assert rows == shop.query("SELECT COUNT(*) FROM search.item_documents")
    output = shop.vlm4rec("publish-tables", "--parquet", "export", "--layer", "nope", code=2)
    assert "has no layer nope: choose from captions" in output


def test_a_query_of_the_project_is_found_and_becomes_a_view(shop: Workspace, tmp_path: Path) -> None:
    own = tmp_path / "project"
    (own / "queries").mkdir(parents=True)
    (own / "queries" / "cheap.sql").write_text(
        "-- Which items are cheap?\nSELECT item_id FROM staging.items WHERE price < 20;"
    )
    (own / "queries" / "lost.sql").write_text("-- What is lost?\nSELECT * FROM mart.lost")
    shop.settings |= {"VLM4REC_PROJECT": str(own), "VLM4REC_PUBLISHED": str(tmp_path / "published")}
    try:
        output = shop.vlm4rec("publish-tables", "--json")
        cheap = shop.json("queries", "run", "cheap")
        lost = shop.vlm4rec("queries", "run", "lost", code=2)
    finally:
        del shop.settings["VLM4REC_PROJECT"], shop.settings["VLM4REC_PUBLISHED"]
    assert json.loads(output)["tables"] > 40
    assert cheap["description"] == "Which items are cheap?"
    assert cheap["rows"]
    assert "lost" in lost
    with duckdb.connect(str(tmp_path / "published" / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("FROM questions.cheap").fetchall()


def test_mistakes_are_told_in_one_line(shop: Workspace) -> None:
    assert "there is no saved query nope: `vlm4rec queries list`" in shop.vlm4rec("queries", "run", "nope", code=2)
    shop.settings["VLM4REC_PUBLISHED"] = "elsewhere"
    output = shop.vlm4rec("queries", "run", "rows_refused", code=2)
    del shop.settings["VLM4REC_PUBLISHED"]
    assert "run `vlm4rec publish-tables`" in output


def test_a_mistake_in_an_own_query_is_to_be_corrected(tmp_path: Path) -> None:
    copy = tmp_path / "warehouse.duckdb"
    duckdb.connect(str(copy)).close()
    with pytest.raises(
        UsageError, match=r"mine fails \(.*SELEC.*\): correct queries/mine.sql, or run `vlm4rec publish"
    ):
        run_query(SavedQuery("mine", "What is wrong?", "SELEC 1"), copy)
    with pytest.raises(UsageError, match=r"rows_refused fails \(.*\): run `vlm4rec publish-tables`$"):
        run_query(find_query(None, "rows_refused"), copy)


def test_a_layer_with_the_name_of_records_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, in_process=True)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("CREATE SCHEMA quality; CREATE TABLE quality.mine AS SELECT 1 AS number")
    assert "the layer quality has the name" in workspace.vlm4rec("publish-tables", code=2)
    assert not (tmp_path / "published" / "warehouse.duckdb").exists()
