"""What an import would do: the first rows before and after, and which would be refused, by the rules of staging."""

import json
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import duckdb

from vlm4rec_search.common.patterns import MARKUP
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.sql import quote_name, quote_text
from vlm4rec_search.datasets.declarations import CONTRACT, Values, variable
from vlm4rec_search.datasets.importers.formats import ImportFormat
from vlm4rec_search.datasets.importers.generic import PLACE, ImportedTable, ImportOptions, open_export
from vlm4rec_search.datasets.importers.log_warnings import log_warnings, weighted_kinds
from vlm4rec_search.datasets.importers.write import connect, missing_photos
from vlm4rec_search.pipeline.rendering import render_model

_ROWS = 3
_LINES = 5
_PHOTOS = 1_000  # photos to look for

Row = dict[str, str | float | None]


@dataclass(frozen=True)
class Refusal:
    """Records that would be refused, or lose a value, for one reason: how many, and the first as `file, line: text`."""

    reason: str
    count: int
    examples: list[str]


@dataclass(frozen=True)
class TablePreview:
    """What an import would make of one table; `writes` is its file in the data folder, or the folder of its files.

    The rows are those that would be written; `unread` counts the records beside them that cannot be read.
    """

    table: str
    writes: str
    files: list[str]
    rows: int
    unread: int
    before: list[Row]
    after: list[Row]
    refused: list[Refusal]
    emptied: list[Refusal]
    notes: list[str]
    warnings: list[str]


def preview_import(
    source: Path, options: ImportOptions, form: ImportFormat, values: Values, settings: Settings, contract: Path
) -> list[TablePreview]:
    """Return what an import of a folder would do, by table, and write nothing.

    Args:
        source: folder of the exports.
        options: files and mappings.
        form: a packaged format, or the generic one.
        values: how the values will be understood, see `values_in_force`.
        settings: the project, whose models judge the rows.
        contract: the file in which more can be declared, see `contract_in_force`.

    Raises:
        UsageError: the import would fail.
    """
    with closing(connect()) as connection, open_export(connection, source, options, form) as tables:
        _stage(connection, tables, values, settings)
        weighted = weighted_kinds(settings.project)
        warn = partial(_warnings, connection, source=source, values=values, weighted=weighted, contract=contract)
        return [_preview(connection, table, warn(table)) for table in tables]


def _preview(connection: duckdb.DuckDBPyConnection, table: ImportedTable, warnings: list[str]) -> TablePreview:
    return TablePreview(
        table.table,
        writes=table.table if table.files else f"{table.table}.parquet",
        files=table.records.written.split("\n"),
        rows=table.target.shape[0],
        unread=table.records.broken_rows,
        before=_first_rows(table.source),
        after=_first_staged_rows(connection, table),
        refused=_refused(connection, table),
        emptied=_emptied(connection) if table.table == "items" else [],
        notes=[*table.match.notes, *table.records.notes, *_merged(table)],
        warnings=warnings,
    )


def _warnings(
    connection: duckdb.DuckDBPyConnection,
    table: ImportedTable,
    source: Path,
    values: Values,
    weighted: Collection[str],
    contract: Path,
) -> list[str]:
    if table.table == "items":
        return [*table.match.warnings, *_photo_warnings(connection, source)]
    if table.table == "interactions":
        return [*table.match.warnings, *log_warnings(table.target, values, weighted, contract)]
    return [*table.match.warnings]


def _merged(table: ImportedTable) -> list[str]:
    return [f"{table.merged} rows are merged into the row with the same id before them"] if table.merged else []


def _first_rows(relation: duckdb.DuckDBPyRelation) -> list[Row]:
    rows = relation.limit(_ROWS).fetchall()
    return [dict(zip(map(str.strip, relation.columns), row, strict=True)) for row in rows]


def _first_staged_rows(connection: duckdb.DuckDBPyConnection, table: ImportedTable) -> list[Row]:
    """Return the first rows with the values that staging reads from them, under the names of the columns to write."""
    contract = CONTRACT[table.table]
    own = [name for name in table.target.columns[2:] if name in contract]
    values = ["CAST(judged.interacted_at AS TEXT)" if name == "timestamp" else f"judged.{name}" for name in own]
    attributes = "judged.attributes" if table.table == "items" else "raw.attributes"
    rows = connection.execute(f"""
        SELECT {attributes}, raw.file, raw.line, {", ".join(values)}
        FROM staging.judged_{table.table} AS judged
        INNER JOIN raw.{table.table} AS raw USING (row_number)
        ORDER BY row_number LIMIT {_ROWS}
    """).fetchall()  # noqa: S608  names of our own
    found = []
    for others, *row in rows:
        staged = {**json.loads(others), **dict(zip((*PLACE, *own), row, strict=True))}
        found.append({name.strip(): staged.get(name) for name in table.target.columns})
    return found


def _photo_warnings(connection: duckdb.DuckDBPyConnection, source: Path) -> list[str]:
    """Return a line if photos that the first accepted items name are not in the source folder."""
    accepted = connection.table("staging.judged_items").filter("reason IS NULL")
    looked_for, missing = missing_photos(accepted, source, _PHOTOS)
    if not missing:
        return []
    return [f"{len(missing)} of {looked_for} photos that were looked for are not in {source}, such as {missing[0]}"]


def _stage(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[ImportedTable],
    values: Values,
    settings: Settings,
) -> None:
    """Make the tables of staging that tell what becomes of the rows to import."""
    variables = {"markup": MARKUP, "declared_values": variable(values)}
    for schema in ("raw", "staging"):
        connection.execute(f"CREATE SCHEMA {schema}")
    imported = {table.table: table for table in tables}
    for name in ("users", "interactions", "items"):
        if name in imported:
            _raw_rows(imported[name]).create(f"raw.{name}")
        else:
            _stand_in(name, connection).create(f"raw.{name}")
    for name, formats in {"items": "item", "interactions": "interaction", "users": "user"}.items():
        for model in (f"{formats}_formats", f"judged_{name}") if name in imported or name == "items" else ():
            query = render_model(settings.require_project(), f"staging.{model}", variables)
            connection.execute(f"CREATE TABLE staging.{model} AS {query}")


def _raw_rows(table: ImportedTable) -> duckdb.DuckDBPyRelation:
    """Return the rows as the raw table would have them, with file and line of the export."""
    contract = CONTRACT[table.table]
    columns = [name if name in table.target.columns else f"NULL::VARCHAR AS {name}" for name in contract]
    others = [name for name in table.target.columns[2:] if name not in contract]
    pairs = ", ".join(f"{quote_text(name)}, {quote_name(name)}" for name in others)
    place = ", ".join(f"{quote_name(name)} AS {name.strip()}" for name in PLACE)
    rest = f"ROW_NUMBER() OVER () AS row_number, {', '.join(columns)}, JSON_OBJECT({pairs}) AS attributes"
    return table.target.project(f"{place}, {rest}")


def _stand_in(name: str, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """Return rows of a table that is not imported now: a catalogue in which every item of the log is known."""
    texts = dict.fromkeys(CONTRACT[name], "NULL")
    known = "WHERE FALSE"
    if name == "items":
        texts |= {"item_id": "item_id", "title": "item_id"}
        known = "FROM (SELECT DISTINCT item_id FROM raw.interactions WHERE TRIM(item_id) <> '')"
    columns = ", ".join(f"CAST({sql} AS VARCHAR) AS {column}" for column, sql in texts.items())
    head = "'' AS file, ROW_NUMBER() OVER () AS row_number"
    return connection.sql(f"SELECT {head}, {columns}, '{{}}'::JSON AS attributes {known}")


def _refused(connection: duckdb.DuckDBPyConnection, table: ImportedTable) -> list[Refusal]:
    """Return the records of a table that cannot be read, and those that its staging model refuses."""
    unread = table.records.broken.project("'cannot be read: ' || reason AS reason, file, line, record")
    return _grouped(unread.union(_judged(connection, table.table, "judged.reason", "judged.reason IS NOT NULL")))


def _emptied(connection: duckdb.DuckDBPyConnection) -> list[Refusal]:
    """Return the accepted items with a value that cannot be read, as `staging.rejected_values`."""
    emptied = [
        _judged(connection, "items", f"'{field} emptied: ' || {reason}", f"judged.reason IS NULL AND {reason} <> ''")
        for field, reason in ((field, f"judged.{field}_reason") for field in ("price", "available", "description"))
    ]
    return _grouped(reduce(duckdb.DuckDBPyRelation.union, emptied))


def _judged(connection: duckdb.DuckDBPyConnection, table: str, reason: str, where: str) -> duckdb.DuckDBPyRelation:
    values = ", ".join(f"'{name}', raw.{name}" for name in (*CONTRACT[table], "attributes"))
    return connection.sql(f"""
        SELECT {reason} AS reason, raw.file, raw.line,
          JSON_MERGE_PATCH('{{}}', JSON_OBJECT({values}))::VARCHAR AS record
        FROM staging.judged_{table} AS judged
        INNER JOIN raw.{table} AS raw USING (row_number)
        WHERE {where}
    """)  # noqa: S608  names of our own


def _grouped(refused: duckdb.DuckDBPyRelation) -> list[Refusal]:
    text = "file || ', line ' || line || ': ' || record"
    groups = refused.aggregate(f"reason, COUNT(*) AS n, ARG_MIN({text}, line, {_LINES}) AS examples", "reason")
    return [Refusal(*row) for row in groups.order("n DESC, reason").fetchall()]
