"""Imports a shop's own exports: a mapping says which of their columns is which column of the raw contract."""

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.columns import REQUIRED
from vlm4rec_search.datasets.files import open_table, quote_name, require_columns
from vlm4rec_search.datasets.importers.write import ImportSummary, Table, check_folders, connect, write_tables

CONTRACT: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title", "description", "category", "price", "image", "available"),
    "interactions": ("user_id", "item_id", "timestamp", "event_type", "value"),
}
"""Columns of each table that a mapping may name. Every other column of an export keeps its own name."""

_TEXT = ("item_id", "user_id", "title", "description", "category", "image")
_PAIR = re.compile(r"(?P<table>\w+)\.(?P<target>\w+)=(?P<source>.+)", re.DOTALL)

Mapping = dict[str, dict[str, str]]
"""Table -> contract column -> source column."""


def parse_mapping(pairs: Iterable[str]) -> Mapping:
    """Parse the values of `--map`, such as `items.item_id=id`.

    Raises:
        UsageError: a pair has another form, names an unknown table or column, or maps a column twice.
    """
    mapping: Mapping = {"items": {}, "interactions": {}}
    for pair in pairs:
        match = _PAIR.fullmatch(pair)
        if match is None or match["table"] not in CONTRACT:
            raise UsageError(f"--map {pair} does not have the form items.COLUMN=SOURCE or interactions.COLUMN=SOURCE")
        table, target = match["table"], match["target"]
        if target not in CONTRACT[table]:
            raise UsageError(f"--map {pair}: {table} has no column {target}; it has {', '.join(CONTRACT[table])}")
        if target in mapping[table]:
            raise UsageError(f"--map names {table}.{target} twice; keep one")
        mapping[table][target] = match["source"]
    return mapping


def map_columns(
    relation: duckdb.DuckDBPyRelation, table: str, sources: dict[str, str], path: Path
) -> duckdb.DuckDBPyRelation:
    """Rename the columns of an export to those of the raw contract, in the contract's order; the others follow.

    A column that is not mapped keeps its name; if a mapped column takes that name, it becomes `source_<name>`. The
    source column of `category` is kept as well, because only the first element of a JSON list becomes the category.

    Args:
        relation: the rows of the export.
        table: items or interactions.
        sources: the mapping, from column of the contract to column of the export.
        path: the file, for messages.

    Raises:
        UsageError: a source column or a required column is missing.
    """
    require_columns(relation.columns, sources.values(), path)
    unmapped = {name: name for name in relation.columns if name in CONTRACT[table] and name not in sources}
    targets = {**unmapped, **sources}
    if absent := [name for name in REQUIRED[table] if name not in targets]:
        wanted = ", ".join(f"--map {table}.{name}=..." for name in absent)
        raise UsageError(
            f"{path} has no column {', '.join(absent)}: add {wanted}; it has {', '.join(relation.columns)}"
        )
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    columns = []
    for target in CONTRACT[table]:
        if source := targets.get(target):
            sql = _value(source, types[source])
            if target in _TEXT:
                sql = f"CAST({sql} AS VARCHAR)"
            if target == "category" and target in sources:
                # The first element of a JSON list; text that is no JSON list stays as it is.
                sql = f"COALESCE(TRY(JSON_EXTRACT_STRING({sql}, '$[0]')), NULLIF({sql}, '[]'))"
            columns.append((target, sql))
    renamed = [source for target, source in sources.items() if target != "category"]
    for name in relation.columns:
        if name not in renamed and name not in unmapped:
            columns.append((_free_name(name, targets, relation.columns), _value(name, types[name])))
    return relation.project(", ".join(f"{sql} AS {quote_name(name)}" for name, sql in columns))


def _value(source: str, type_name: str) -> str:
    """Return SQL for the value of a source column; a nested value becomes JSON text."""
    is_nested = type_name.endswith("]") or type_name.startswith(("STRUCT", "MAP", "UNION"))
    return f"CAST(TO_JSON({quote_name(source)}) AS VARCHAR)" if is_nested else quote_name(source)


def _free_name(name: str, targets: Iterable[str], columns: Iterable[str]) -> str:
    """Return a name that no other column has, upper and lower case taken as equal."""
    taken = {other.casefold() for other in (*targets, *(column for column in columns if column != name))}
    while name.casefold() in taken:
        name = f"source_{name}"
    return name


def import_generic(
    source: Path, to: Path, items: str | None, interactions: str | None, maps: Iterable[str] = (), images: bool = True
) -> ImportSummary:
    """Write `items.parquet` and `interactions.parquet` of the raw contract into `to`, and copy the photos.

    Args:
        source: folder of the exports.
        to: data folder; created if it does not exist. Tables of an earlier import are replaced.
        items: file of the catalogue, relative to `source`; None leaves the items of `to` as they are.
        interactions: file of the interaction log, relative to `source`; None leaves the interactions as they are.
        maps: pairs such as `items.item_id=id`.
        images: whether to copy the photos that the column `image` names.

    Raises:
        UsageError: a file is missing or unreadable, a column is missing, a mapping is malformed, or `to` holds the
            same table in another format.
    """
    mapping = parse_mapping(maps)
    files = {table: source / name for table, name in (("items", items), ("interactions", interactions)) if name}
    check_folders(source, to, set(files))
    if not files:
        raise UsageError("nothing to import: give --items, --interactions or both")
    if unused := sorted({table for table, names in mapping.items() if names} - set(files)):
        raise UsageError(f"--map names {unused[0]}, but --{unused[0]} is not given")
    with closing(connect()) as connection:
        tables = {
            table: Table(map_columns(open_table(connection, path), table, mapping[table], path), path)
            for table, path in files.items()
        }
        return write_tables(connection, tables, source, to, images)
