"""What the service served and what shoppers did with it, as tables in the schema `served`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.sql import quote_text
from vlm4rec_search.datasets.declarations import load_declarations
from vlm4rec_search.datasets.events.compaction import INTERACTIONS, OTHERS, compact, event_files
from vlm4rec_search.datasets.events.event import kind_of

_ROWS = 10_000  # pages that are held at once
_PAGES = {
    "recommendation_id": pa.string(), "page": pa.int32(), "served_at": pa.float64(), "user_id": pa.string(),
    "tier": pa.string(), "release": pa.string(), "ranking": pa.string(), "scenario": pa.string(),
    "experiment": pa.string(), "arm": pa.string(), "teams": pa.string(), "items": pa.string(),
}  # fmt: skip
_CREATE = """
CREATE SCHEMA IF NOT EXISTS served;
CREATE TABLE served.recommendations (
    recommendation_id VARCHAR, page INTEGER, served_at TIMESTAMP, user_id VARCHAR, tier VARCHAR, release VARCHAR,
    ranking VARCHAR, scenario VARCHAR, experiment VARCHAR, arm VARCHAR, position INTEGER, item_id VARCHAR,
    score DOUBLE, team VARCHAR);
CREATE TABLE served.events (
    event_id VARCHAR, received_at TIMESTAMP, happened_at TIMESTAMP, action_name VARCHAR, kind VARCHAR, user_id VARCHAR,
    client_id VARCHAR, session_id VARCHAR, query_id VARCHAR, item_id VARCHAR, position BIGINT, value DOUBLE,
    content VARCHAR);
"""
# A position counts over all pages, from 1: the items of the pages before stand before those of a page. A page without
# items is a row without an item, so that the answer counts.
_ADD_PAGES = """
INSERT INTO served.recommendations
SELECT
    recommendation_id, page, MAKE_TIMESTAMP(CAST(served_at * 1000000 AS BIGINT)), user_id, tier, release, ranking,
    scenario, experiment, arm, CASE WHEN item IS NOT NULL THEN before + place END, item ->> 0,
    CAST(item ->> 1 AS DOUBLE), NULLIF(teams[place], '')
FROM (
    SELECT
        * EXCLUDE (items, shown), COALESCE(before_page, 0) AS before, UNNEST(shown) AS item,
        GENERATE_SUBSCRIPTS(shown, 1) AS place
    FROM (
        SELECT *, CASE WHEN JSON_ARRAY_LENGTH(items) = 0 THEN [NULL] ELSE CAST(items AS JSON[]) END AS shown
        FROM pages))
"""
_ADD_EVENTS = """
INSERT INTO served.events
SELECT
    event_id, received, CAST(CAST(timestamp AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS TIMESTAMP), event_type, kind, user_id,
    client_id, session_id, query_id, item_id, position, value, content
FROM READ_PARQUET([{files}]) LEFT JOIN kinds USING (event_type)
"""

CREATE_OUTCOMES = """
CREATE TABLE served.outcomes AS
SELECT
    events.query_id AS recommendation_id,
    events.item_id,
    BOOL_OR(events.kind = 'impression') AS was_seen,
    BOOL_OR(events.kind IN ('click', 'view')) AS was_clicked,
    BOOL_OR(events.kind = 'cart') AS went_into_cart,
    BOOL_OR(events.kind IN ('purchase', 'order')) AS was_bought
FROM served.events AS events
WHERE events.query_id IS NOT NULL AND events.item_id IS NOT NULL
GROUP BY events.query_id, events.item_id
"""
"""Makes of the events what became of an item of an answer; a view of its page is a click."""


def create_served_tables(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Create served.recommendations, served.events and served.outcomes in the current database of a connection.

    New events become raw files before, as before a plan.

    Args:
        connection: to a database without these tables.
        settings: name the files of the service, which need not exist.

    Raises:
        UsageError: the declarations of the data folder cannot be read.
        RunError: a file of the service cannot be read.
    """
    declared = load_declarations(settings.data_dir).values.events
    compact(settings.events_file, settings.events_folder, declared)
    connection.execute(_CREATE)
    for pages in _read_pages(settings.served_file):
        connection.register("pages", pages)
        connection.execute(_ADD_PAGES)
        connection.unregister("pages")
    files = [path for kind in (INTERACTIONS, OTHERS) for path in event_files(settings.events_folder, kind)]
    if files:
        names = ", ".join(quote_text(str(path)) for path in files)
        found = connection.sql(f"SELECT DISTINCT event_type FROM READ_PARQUET([{names}])").fetchall()  # noqa: S608
        actions = [name for (name,) in found]
        kinds = {"event_type": actions, "kind": [kind_of(name, declared) for name in actions]}
        connection.register("kinds", pa.table(kinds))
        connection.execute(_ADD_EVENTS.format(files=names))
        connection.unregister("kinds")
    connection.execute(CREATE_OUTCOMES)


def _read_pages(path: Path) -> Iterator[pa.Table]:
    """Yield the pages that were served, some at a time, with the number of items of earlier pages."""
    if not path.is_file():
        return
    before = (
        "(SELECT SUM(JSON_ARRAY_LENGTH(earlier.items)) FROM recommendations AS earlier WHERE"
        " earlier.recommendation_id = served.recommendation_id AND earlier.page < served.page)"
    )
    try:
        with closing(sqlite3.connect(path)) as connection:
            names = ", ".join(_PAGES)
            cursor = connection.execute(f"SELECT {names}, {before} AS before_page FROM recommendations AS served")  # noqa: S608
            schema = pa.schema({**_PAGES, "before_page": pa.int64()})
            while rows := cursor.fetchmany(_ROWS):
                values = zip(*rows, strict=True)
                arrays = [pa.array(each, field.type) for each, field in zip(values, schema, strict=True)]
                yield pa.table(arrays, schema)
    except sqlite3.Error as error:
        raise RunError(f"cannot read the journal {path} ({error})") from None
