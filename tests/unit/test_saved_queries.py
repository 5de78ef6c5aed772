"""What the saved queries answer on small tables of the analysts' copy."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from vlm4rec_search.pipeline.saved_queries import describe_age, find_query

# Two indices, each with two releases; the newest of all belongs to the second.
RELEASES = [("a1", "a", 1), ("b1", "b", 2), ("a2", "a", 3), ("b2", "b", 4)]


@pytest.fixture
def copy() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for schema in ("releases", "shown", "served", "search", "evaluation"):
            connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute("CREATE TABLE releases.releases (release VARCHAR, url VARCHAR, recorded_at INT)")
        connection.executemany("INSERT INTO releases.releases VALUES (?, ?, ?)", RELEASES)
        yield connection


def answers(connection: duckdb.DuckDBPyConnection, query: str, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of the rows of a saved query, in its order."""
    return connection.sql(find_query(None, query).sql).project(", ".join(columns)).fetchall()


def served(connection: duckdb.DuckDBPyConnection, *outcomes: str) -> None:
    """Create what was served: in answer q<n> the item i at place <n>, and what became of it: s(een), c(licked)."""
    connection.execute(
        "CREATE TABLE served.recommendations AS SELECT 'q' || n AS recommendation_id, 'i' AS item_id, n AS position,"
        " 'r' AS release, 'v' AS ranking, 'profile' AS tier, NULL AS scenario FROM range(1, $1 + 1) AS answers(n)",
        [len(outcomes)],
    )
    connection.execute(
        "CREATE TABLE served.outcomes AS SELECT 'q' || n AS recommendation_id, 'i' AS item_id,"
        " contains($1[n], 's') AS was_seen, contains($1[n], 'c') AS was_clicked,"
        " FALSE AS went_into_cart, FALSE AS was_bought"
        " FROM range(1, len($1) + 1) AS answers(n) WHERE $1[n] <> ''",
        [list(outcomes)],
    )


def test_clicks_on_items_that_nobody_saw_do_not_count_where_impressions_come_back(
    copy: duckdb.DuckDBPyConnection,
) -> None:
    """Three clicks and one impression are no 300%, and a place without impressions has no rate."""
    served(copy, "sc", "c", "c", "")
    columns = ("served", "impressions", "clicks", "click_through", "divided_by")
    assert answers(copy, "click_through_by_ranking", *columns) == [(4, 1, 3, 1.0, "impressions")]
    assert answers(copy, "click_through_by_position", *columns) == [
        (1, 1, 1, 1.0, "impressions"),
        (1, 0, 1, None, "impressions"),
        (1, 0, 1, None, "impressions"),
        (1, 0, 0, None, "impressions"),
    ]


def test_clicks_are_divided_by_what_was_served_where_no_impression_came_back(copy: duckdb.DuckDBPyConnection) -> None:
    served(copy, "c", "c", "", "")
    columns = ("click_through", "divided_by")
    assert answers(copy, "click_through_by_ranking", *columns) == [(0.5, "served")]
    assert answers(copy, "click_through_by_position", *columns) == [(rate, "served") for rate in (1.0, 1.0, 0.0, 0.0)]


def test_releases_are_compared_within_their_index(copy: duckdb.DuckDBPyConnection) -> None:
    shown = {"a1": ["x", "y"], "a2": ["x", "z"], "b1": ["x"], "b2": ["x"]}
    copy.execute("CREATE TABLE shown.top_lists (release VARCHAR, item_id VARCHAR, title VARCHAR)")
    rows = [(release, item, item.upper()) for release, items in shown.items() for item in items]
    copy.executemany("INSERT INTO shown.top_lists VALUES (?, ?, ?)", rows)
    columns = ("release", "item_id", "shoppers_before", "shoppers_now")
    assert answers(copy, "items_gained_and_lost", *columns) == [("a2", "y", 1, 0), ("a2", "z", 0, 1)]
    copy.execute("CREATE TABLE search.item_popularity (item_id VARCHAR, shoppers INT)")
    copy.execute(
        "CREATE TABLE search.item_documents AS"
        " SELECT UNNEST(['x', 'y', 'z']) AS item_id, '' AS title, '' AS category, TRUE AS available, '' AS caption"
    )
    assert answers(copy, "items_nobody_sees", "release", "item_id") == [("b2", "y"), ("b2", "z"), ("a2", "y")]


def test_what_falls_out_of_the_ten_most_popular_items_is_told(copy: duckdb.DuckDBPyConnection) -> None:
    copy.execute(
        "CREATE TABLE shown.popular_items"
        " (release VARCHAR, rank INT, item_id VARCHAR, title VARCHAR, popularity DOUBLE)"
    )
    order = {"a1": [f"i{number}" for number in range(12)], "a2": [f"i{number}" for number in range(1, 11)] + ["i0"]}
    order["b1"] = order["b2"] = ["i5"]
    rows = [
        (release, rank, item, item, 20.0 - rank)
        for release, items in order.items()
        for rank, item in enumerate(items, start=1)
    ]
    copy.executemany("INSERT INTO shown.popular_items VALUES (?, ?, ?, ?, ?)", rows)
    drift = answers(copy, "popularity_drift", "release", "item_id", "rank", "rank_before", "risen_by")
    assert [row[1:] for row in drift if row[0] == "a2"] == [
        *((f"i{number}", number, number + 1, 1) for number in range(1, 11)),
        ("i0", 11, 1, -10),
    ]
    assert [row for row in drift if row[0] == "b2"] == [("b2", "i5", 1, 1, 0)]


def test_a_run_of_another_text_recipe_is_told(copy: duckdb.DuckDBPyConnection) -> None:
    copy.execute(
        "CREATE TABLE evaluation.runs AS SELECT *, 'c' AS captioner, 'e' AS encoder, 'r' AS ranking"
        " FROM (VALUES ('20260101T000000', 'title'), ('20260102T000000', 'all')) AS runs(run, text_recipe)"
    )
    copy.execute(
        "CREATE TABLE evaluation.metrics AS SELECT run, 'bm25' AS system_name, 'all' AS candidates, 0.1 AS measured,"
        " 0.0 AS interval_low, 0.2 AS interval_high, 9 AS user_count, 'nDCG@10' AS metric, '' AS subset,"
        " FALSE AS is_bound FROM evaluation.runs"
    )
    assert answers(copy, "ndcg_trend", "differs_in") == [("",), ("text_recipe",)]


def test_a_copy_from_before_the_last_publication_is_told(tmp_path: Path) -> None:
    copy, records = tmp_path / "warehouse.duckdb", tmp_path / "releases.duckdb"
    copy.touch()
    assert describe_age(copy, records) is None, "nothing was published"
    records.touch()
    os.utime(copy, (0, 0))
    os.utime(records, (120, 120))
    assert describe_age(copy, records) == (
        "the copy is of 1970-01-01 00:00 UTC, before the records of releases of 1970-01-01 00:02 UTC:"
        " run `vlm4rec publish-tables`"
    )
    os.utime(copy, (180, 180))
    assert describe_age(copy, records) is None
