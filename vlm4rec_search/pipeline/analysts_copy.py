"""The analysts' copy: one DuckDB file with the tables of the plan and with the records of the commands.

The tables of the warehouse are views on tables whose names SQLMesh makes; the copy has plain tables under the names of
the views, with the comments of their columns. Beside them stand the records: releases, what a release showed, what the
service served and the events that came back, results of evaluations and checks, model calls, and the saved queries as
views.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import yaml

from vlm4rec_search.common.cache import FILE as LEDGER_FILE
from vlm4rec_search.common.cache import Cache, LedgerRow
from vlm4rec_search.common.errors import RunError, UsageError, first_line
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.common.records import when_free
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.sql import quote_name, quote_text
from vlm4rec_search.common.warehouse import detach, read, replacing
from vlm4rec_search.pipeline import record
from vlm4rec_search.pipeline.quality import history
from vlm4rec_search.pipeline.recommendations import SCHEMA
from vlm4rec_search.pipeline.saved_queries import SavedQuery, load_queries
from vlm4rec_search.pipeline.served_log import create_served_tables

logger = logging.getLogger(__name__)

QUESTIONS = "questions"  # schema of the saved queries as views
RECORDS = Path(__file__).with_name("records.yaml")  # comments of the tables of the commands
_LAYERS = """
SELECT tables.table_schema, tables.table_name
FROM information_schema.tables AS tables
WHERE tables.table_catalog = ? AND NOT starts_with(tables.table_schema, 'sqlmesh')
    -- search__dev is the schema `search` of the environment dev
    AND NOT EXISTS (
        FROM information_schema.schemata AS prod
        WHERE prod.catalog_name = tables.table_catalog AND starts_with(tables.table_schema, prod.schema_name || '__'))
ORDER BY ALL
"""
_TABLES = "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL"
_COMMENTS = """
SELECT NULL, comment FROM duckdb_tables()
WHERE database_name = $1 AND schema_name = $2 AND table_name = $3 AND comment IS NOT NULL
UNION ALL
SELECT NULL, comment FROM duckdb_views()
WHERE database_name = $1 AND schema_name = $2 AND view_name = $3 AND comment IS NOT NULL
UNION ALL
SELECT column_name, comment FROM duckdb_columns()
WHERE database_name = $1 AND schema_name = $2 AND table_name = $3 AND comment IS NOT NULL
"""


class RecordFile(NamedTuple):
    """A DuckDB file in which commands keep records.

    Attributes:
        schema: of the copy, for the tables of the file's main schema; its other schemas keep their names.
        path: of the file, which need not exist.
        create_tables: creates the tables in the current schema where they are missing, so that a copy always has them.
    """

    schema: str
    path: Path
    create_tables: Callable[[duckdb.DuckDBPyConnection], object]


@dataclass(frozen=True, slots=True)
class AnalystsCopy:
    """A finished copy.

    Attributes:
        path: of the DuckDB file.
        bytes: its size.
        tables: number of its tables.
        rows: of all tables.
        queries: number of the saved queries that are views in it.
        seconds: that it took to make.
    """

    path: Path
    bytes: int
    tables: int
    rows: int
    queries: int
    seconds: float


def publish_tables(settings: Settings, others: Sequence[RecordFile] = ()) -> AnalystsCopy:
    """Replace the analysts' read-only copy in one step.

    It is made while no plan can write. Readers that have the old copy open can go on reading it.

    Args:
        settings: warehouse, folder of the copy, files of records, and the project with its own queries.
        others: further files of records.

    Raises:
        UsageError: there is no warehouse yet, the folder is that of the warehouse, a layer of the project has the name
            of a schema of records, or a saved query has no description.
        RunError: a plan is writing the warehouse, or a file cannot be read or written.
    """
    started = time.monotonic()
    queries = load_queries(settings.project)
    files = [
        RecordFile("releases", settings.releases, lambda connection: connection.execute(record.CREATE)),
        RecordFile("quality", settings.quality / history.FILE, lambda connection: connection.execute(history.CREATE)),
        *others,
    ]
    with (
        read(settings.warehouse),
        replacing(settings.warehouse, settings.published) as path,
        _build(settings.warehouse, path) as connection,
    ):
        for file in files:
            _copy_records(connection, file)
        _copy_ledger(connection, settings.cache)
        create_served_tables(connection, settings)
        _copy_recommendations(connection, settings.recommendations)
        _comment_on_records(connection)
        _copy_layers(connection, settings.warehouse.stem)
        viewed = _create_views(connection, queries)
        tables = connection.execute(_TABLES, [_name(connection)]).fetchall()
        rows = sum(_count(connection, f"{quote_name(schema)}.{quote_name(table)}") for schema, table in tables)
    target = settings.published / settings.warehouse.name
    seconds = round(time.monotonic() - started, 1)
    return AnalystsCopy(target, target.stat().st_size, len(tables), rows, viewed, seconds)


def export_parquet(copy: Path, folder: Path, layers: Sequence[str] = ()) -> list[Path]:
    """Write tables of a copy as `<folder>/<layer>/<table>.parquet`, each replaced in one step, and return the files.

    Args:
        copy: of `publish_tables`.
        folder: created where it is missing.
        layers: schemas to write; none for all.

    Raises:
        UsageError: the copy has no such schema.
        RunError: a file cannot be written.
    """
    written = []
    with duckdb.connect(str(copy), read_only=True) as connection:
        tables = connection.execute(_TABLES, [_name(connection)]).fetchall()
        names = dict.fromkeys(schema for schema, _ in tables)
        if unknown := [layer for layer in layers if layer not in names]:
            raise UsageError(f"{copy} has no layer {unknown[0]}: choose from {', '.join(names)}")
        for schema, table in tables:
            if layers and schema not in layers:
                continue
            path = folder / schema / f"{table}.parquet"
            source = f"{quote_name(schema)}.{quote_name(table)}"
            try:
                with replacing_file(path) as part:
                    target = quote_text(str(part))
                    connection.execute(f"COPY {source} TO {target} (FORMAT parquet, COMPRESSION zstd)")
            except (OSError, duckdb.Error) as error:
                raise RunError(f"cannot write {path}: {first_line(error)}") from None
            written.append(path)
    return written


@contextmanager
def _build(warehouse: Path, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection whose current database is a new file, with the warehouse attached under its own name.

    The views of the warehouse refer to their catalog by the name of the file.
    """
    copy = f"{warehouse.stem}_copy"
    with duckdb.connect() as connection:
        try:
            connection.execute(f"ATTACH {quote_text(str(warehouse))} AS {quote_name(warehouse.stem)} (READ_ONLY)")
            connection.execute(f"ATTACH {quote_text(str(path))} AS {quote_name(copy)}")
            connection.execute(f"USE {quote_name(copy)}")
            yield connection
            detach(connection, copy)
        except duckdb.Error as error:
            raise RunError(f"cannot publish a copy of {warehouse}, the old copy stays: {first_line(error)}") from None


def _copy_layers(connection: duckdb.DuckDBPyConnection, warehouse: str) -> None:
    layers = connection.execute(_LAYERS, [warehouse]).fetchall()
    taken = {schema for schema, _ in connection.execute(_TABLES, [_name(connection)]).fetchall()} | {QUESTIONS}
    for schema, table in layers:
        if schema in taken:
            raise UsageError(f"the layer {schema} has the name of a schema of records in the copy: rename its folder")
        name = f"{quote_name(schema)}.{quote_name(table)}"
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(schema)}")
        connection.execute(f"CREATE TABLE {name} AS FROM {quote_name(warehouse)}.{name}")
        for column, comment in connection.execute(_COMMENTS, [warehouse, schema, table]).fetchall():
            _comment(connection, name, column, comment)


def _copy_records(connection: duckdb.DuckDBPyConnection, file: RecordFile) -> None:
    """Copy the tables of a file, and bring them to the present version."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(file.schema)}")
    if file.path.is_file():
        try:
            when_free(lambda: connection.execute(f"ATTACH {quote_text(str(file.path))} AS records (READ_ONLY)"))
        except duckdb.Error as error:
            raise RunError(f"cannot read {file.path}, the old copy stays: {first_line(error)}") from None
        for schema, table in connection.execute(_TABLES, ["records"]).fetchall():
            target = file.schema if schema == "main" else schema
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(target)}")
            source = f"records.{quote_name(schema)}.{quote_name(table)}"
            connection.execute(f"CREATE TABLE {quote_name(target)}.{quote_name(table)} AS FROM {source}")
        connection.execute("DETACH records")
    copy = quote_name(_name(connection))
    connection.execute(f"USE {copy}.{quote_name(file.schema)}")
    file.create_tables(connection)
    connection.execute(f"USE {copy}")


def _copy_ledger(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Copy the ledger of model calls: one row for each run, so few that they fit into memory."""
    rows: list[LedgerRow] = []
    if (folder / LEDGER_FILE).is_file():
        with Cache(folder) as cache:
            rows = cache.ledger()
    empty = {field.name: pa.array([getattr(row, field.name) for row in rows]) for field in fields(LedgerRow)}
    table = pa.table(empty) if rows else pa.Table.from_pylist([asdict(LedgerRow(0, "", ""))]).slice(0, 0)
    connection.register("ledger_rows", table)
    connection.execute(
        "CREATE SCHEMA model_calls;"
        "CREATE TABLE model_calls.ledger AS SELECT * EXCLUDE (started_at),"
        " CAST(CAST(NULLIF(started_at, '') AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS TIMESTAMP) AS started_at"
        " FROM ledger_rows"
    )
    connection.unregister("ledger_rows")


def _copy_recommendations(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Copy the file of `vlm4rec recommend`; without it the table is empty."""
    source = f"read_parquet({quote_text(str(path))})"
    if not path.is_file():
        connection.register("no_recommendations", SCHEMA.empty_table())
        source = "no_recommendations"
    connection.execute(
        f"CREATE SCHEMA IF NOT EXISTS served; CREATE TABLE served.recommendations_batch AS FROM {source}"
    )


def _comment_on_records(connection: duckdb.DuckDBPyConnection) -> None:
    """Comment on the tables of records and their columns; tables that the package does not know have no comments."""
    existing = {
        (schema, table, column)
        for schema, table, column in connection.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = ?",
            [_name(connection)],
        ).fetchall()
    }
    own = connection.execute("SELECT view_name FROM duckdb_views() WHERE database_name = ?", [_name(connection)])
    views = {view for (view,) in own.fetchall()}
    for name, comments in yaml.safe_load(RECORDS.read_text("utf-8")).items():
        schema, table = name.split(".")
        for column, comment in comments.items():
            if column == "table":
                _comment(connection, name, None, comment, "VIEW" if table in views else "TABLE")
            elif (schema, table, column) in existing:
                _comment(connection, name, column, comment)


def _create_views(connection: duckdb.DuckDBPyConnection, queries: Sequence[SavedQuery]) -> int:
    """Create a view for each saved query, and return how many there are. A query that fails is named and left out."""
    connection.execute(f"CREATE SCHEMA {QUESTIONS}")
    viewed = 0
    for query in queries:
        name = f"{QUESTIONS}.{quote_name(query.name)}"
        try:
            connection.execute(f"CREATE VIEW {name} AS {query.sql}")
        except duckdb.Error as error:
            logger.warning("the saved query %s is no view of the copy: %s", query.name, first_line(error))
            continue
        _comment(connection, name, None, query.description, "VIEW")
        viewed += 1
    return viewed


def _comment(
    connection: duckdb.DuckDBPyConnection, name: str, column: str | None, comment: str, kind: str = "TABLE"
) -> None:
    on = f"{kind} {name}" if column is None else f"COLUMN {name}.{quote_name(column)}"
    connection.execute(f"COMMENT ON {on} IS {quote_text(comment)}")


def _count(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    row = connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()  # noqa: S608  quoted by the caller
    return int(row[0]) if row else 0


def _name(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the name of the current database."""
    row = connection.execute("SELECT current_database()").fetchone()
    return str(row[0]) if row else ""
