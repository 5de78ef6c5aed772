"""Copies the tables that a plan has built in Spark into the DuckDB file that all commands read.

Spark's executors write them as Parquet files, and DuckDB reads these, so that no table passes through memory as a
whole. The copy has the tables and views of a warehouse, but nothing of SQLMesh: it is replaced as a whole.
"""

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from sqlmesh.utils.errors import ConfigError

from vlm4rec_search.common.errors import RunError, UsageError, first_line
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.spark.engine import spark_session
from vlm4rec_search.common.spark.paths import spark_path
from vlm4rec_search.common.sql import quote_name, quote_text
from vlm4rec_search.common.warehouse import detach, replacing_database

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_OWN = "sqlmesh"  # how the names of SQLMesh's schemas begin
_ATTRIBUTES = (
    "raw.interactions", "raw.items", "raw.users", "staging.judged_items", "staging.items", "captions.all_captions",
    "captions.item_captions", "captions.item_details", "search.item_documents",
)  # fmt: skip
_RECORDS = ("staging.rejected_interactions", "staging.rejected_items", "staging.rejected_users")
JSON_COLUMNS = {**dict.fromkeys(_ATTRIBUTES, "attributes"), **dict.fromkeys(_RECORDS, "record")}
"""The column of each packaged table that is JSON in DuckDB, and text in Spark; a shop's own tables have none."""
_BEHIND = re.compile(rf"`?({_OWN}__\w+)`?\.`?(\w+)`?\s*$")  # the table that a view of an environment shows


@dataclass(frozen=True)
class FetchedTables:
    """A finished copy.

    Attributes:
        path: the DuckDB file.
        views: number of views, which are the tables of all environments.
        rows: number of rows of all tables.
        seconds: duration.
    """

    path: Path
    views: int
    rows: int
    seconds: float


def fetch_tables(settings: Settings) -> FetchedTables:
    """Replace the DuckDB file of the settings by the tables of all environments in Spark.

    Args:
        settings: the file, Spark, and the cache folder, which takes the Parquet files on the way: a cluster must see
            it under the same path.

    Raises:
        UsageError: PySpark or Java is missing, no plan has built tables in Spark, or the file holds a plan on DuckDB.
        RunError: the file cannot be written, or DuckDB cannot read a table.
    """
    started = time.monotonic()
    _check_target(settings.warehouse)
    folder = (settings.cache / "spark").resolve()
    try:
        session = spark_session(settings.spark.resolve())
    except ConfigError as error:
        raise UsageError(str(error)) from None
    shown = _views(session)
    if not shown:
        raise UsageError("Spark has no tables yet: run `sqlmesh plan` with VLM4REC_ENGINE=spark first")
    try:
        with replacing_database(settings.warehouse) as part, duckdb.connect() as connection:
            # As in a warehouse, views name their catalog, so that they can be read where the file is attached.
            catalog = quote_name(settings.warehouse.stem)
            connection.execute(f"ATTACH {quote_text(str(part))} AS {catalog}; USE {catalog}")
            names = {table: f"{schema.partition('__')[0]}.{view}" for (schema, view), table in shown.items()}
            rows = sum(_copy(connection, session, table, name, folder) for table, name in names.items())
            for (schema, view), (layer, table) in shown.items():
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(schema)}")
                source = f"SELECT * FROM {catalog}.{quote_name(layer)}.{quote_name(table)}"  # noqa: S608
                connection.execute(f"CREATE VIEW {quote_name(schema)}.{quote_name(view)} AS {source}")
                _comment(connection, session, schema, view)
            detach(connection, settings.warehouse.stem)
    except (OSError, duckdb.Error) as error:
        raise RunError(f"cannot write {settings.warehouse}: {first_line(error)}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return FetchedTables(settings.warehouse, len(shown), rows, round(time.monotonic() - started, 1))


def _check_target(warehouse: Path) -> None:
    if not warehouse.exists():
        return
    try:
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            own = connection.execute("FROM duckdb_schemas() WHERE schema_name = ?", [_OWN]).fetchall()
    except duckdb.Error as error:
        raise UsageError(f"{warehouse} cannot be replaced: {first_line(error)}") from None
    if own:
        raise UsageError(f"{warehouse} holds a plan on DuckDB: set VLM4REC_WAREHOUSE to another file for the copy")


def _views(session: "SparkSession") -> dict[tuple[str, str], tuple[str, str]]:
    """Return the schema and name of each view of an environment, with those of the table behind it."""
    found = {}
    for database in session.catalog.listDatabases():
        if database.name.startswith(_OWN):
            continue
        for view in session.sql(f"SHOW VIEWS IN {_spark_name(database.name)}").collect():
            if view.isTemporary:  # of the session, in whatever database one looks
                continue
            about = session.sql(f"DESCRIBE TABLE EXTENDED {_spark_name(database.name, view.viewName)}").collect()
            text = next((row.data_type for row in about if row.col_name == "View Text"), "")
            if behind := _BEHIND.search(text):
                found[database.name, view.viewName] = (behind[1], behind[2])
    return found


def _copy(
    connection: duckdb.DuckDBPyConnection, session: "SparkSession", table: tuple[str, str], full_name: str, folder: Path
) -> int:
    """Copy the table of a model, and return the number of its rows."""
    schema, name = map(quote_name, table)
    frame = session.table(_spark_name(*table))
    place = folder / name.strip('"')
    frame.write.mode("overwrite").parquet(spark_path(place))
    columns = ", ".join(_column(column, JSON_COLUMNS.get(full_name) == column) for column in frame.columns)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    source = f"read_parquet({quote_text(f'{place}/*.parquet')}, hive_partitioning = false)"
    try:
        connection.execute(f"CREATE TABLE {schema}.{name} AS SELECT {columns} FROM {source}")  # noqa: S608
    except duckdb.Error as error:
        raise RunError(f"cannot copy {full_name}: {first_line(error)}") from None
    shutil.rmtree(place, ignore_errors=True)
    (rows,) = connection.execute(f"SELECT COUNT(*) FROM {schema}.{name}").fetchall()[0]  # noqa: S608
    return int(rows)


def _column(name: str, is_json: bool) -> str:
    quoted = quote_name(name)
    return f"CAST({quoted} AS JSON) AS {quoted}" if is_json else quoted


def _comment(connection: duckdb.DuckDBPyConnection, session: "SparkSession", schema: str, view: str) -> None:
    name = f"{quote_name(schema)}.{quote_name(view)}"
    about = session.catalog.getTable(_spark_name(schema, view)).description
    if about:
        connection.execute(f"COMMENT ON VIEW {name} IS {quote_text(about)}")
    for field in session.table(_spark_name(schema, view)).schema:
        if comment := field.metadata.get("comment"):
            connection.execute(f"COMMENT ON COLUMN {name}.{quote_name(field.name)} IS {quote_text(comment)}")


def _spark_name(*parts: str) -> str:
    return ".".join(f"`{part.replace('`', '``')}`" for part in parts)
