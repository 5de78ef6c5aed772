"""Imports a shop's own exports by a column mapping; DuckDB streams, so memory stays bounded."""

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.files import check_whole, open_table, quoted, require
from vlm4rec_search.datasets.importers.write import ImportSummary, Table, check_folders, connect, write_tables

# Which column of a shop's export becomes which column of the raw contract.

CONTRACT: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title", "description", "category", "price", "image", "available"),
    "interactions": ("user_id", "item_id", "timestamp", "event_type", "value"),
}
"""Columns of each table of the raw contract; every other column is kept under its own name."""

REQUIRED: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title"),
    "interactions": ("user_id", "item_id", "timestamp"),
}
_TEXT = ("item_id", "user_id", "title", "description", "category", "image")
_PAIR = re.compile(r"(?P<table>\w+)\.(?P<target>\w+)=(?P<source>.+)", re.DOTALL)

Mapping = dict[str, dict[str, str]]
"""Table -> contract column -> source column."""


def parse_mapping(pairs: Iterable[str]) -> Mapping:
    """Parse pairs such as `items.item_id=id`.

    Raises:
        UsageError: a pair has another form, or names an unknown table or column, or one column twice.
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


def mapped(relation: duckdb.DuckDBPyRelation, table: str, names: dict[str, str], path: Path) -> duckdb.DuckDBPyRelation:
    """Return the relation with contract names, in the contract's order; columns that are not mapped keep theirs.

    An unmapped column whose name a mapping takes is kept as `source_<name>`. The source of `category` is kept too,
    since of a JSON list only the first element becomes the category.

    Raises:
        UsageError: a source column or a required column is missing.
    """
    require(relation.columns, names.values(), path)
    used = [source for target, source in names.items() if target != "category"]
    spare = [name for name in relation.columns if name not in used]
    asis = {name: name for name in relation.columns if name in CONTRACT[table] and name not in names}
    named = {name: {**asis, **names}[name] for name in CONTRACT[table] if name in asis or name in names}
    if absent := [name for name in REQUIRED[table] if name not in named]:
        wanted = ", ".join(f"--map {table}.{name}=..." for name in absent)
        raise UsageError(
            f"{path} has no column {', '.join(absent)}: add {wanted}; it has {', '.join(relation.columns)}"
        )
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    columns = [(target, _expression(target, source, types[source], names)) for target, source in named.items()]
    columns += [(_free(name, named, relation.columns), _plain(name, types[name])) for name in spare if name not in asis]
    return relation.project(", ".join(f"{sql} AS {quoted(name)}" for name, sql in columns))


def _expression(target: str, source: str, type_name: str, names: dict[str, str]) -> str:
    value = _plain(source, type_name)
    if target in _TEXT:
        value = f"CAST({value} AS VARCHAR)"
    if target == "category" and target in names:
        # A JSON list counts by its first element; text that is no JSON list stays as it is.
        return f"COALESCE(TRY(JSON_EXTRACT_STRING({value}, '$[0]')), NULLIF({value}, '[]'))"
    return value


def _plain(source: str, type_name: str) -> str:
    nested = type_name.endswith("]") or type_name.startswith(("STRUCT", "MAP", "UNION"))
    return f"CAST(TO_JSON({quoted(source)}) AS VARCHAR)" if nested else quoted(source)


def _free(name: str, named: Iterable[str], columns: Iterable[str]) -> str:
    """Return a name that no other column has, whatever the case of its letters."""
    taken = {other.casefold() for other in (*named, *(column for column in columns if column != name))}
    while name.casefold() in taken:
        name = f"source_{name}"
    return name


def import_generic(
    source: Path, to: Path, items: str | None, interactions: str | None, maps: Iterable[str] = (), images: bool = True
) -> ImportSummary:
    """Write `items.parquet` and `interactions.parquet` of the raw contract into `to`, and bring the photos.

    Args:
        source: folder of the exports.
        to: data folder; made when absent. Tables of an earlier import are replaced.
        items: file of the catalogue, relative to `source`; None to leave items alone.
        interactions: file of the log, likewise.
        maps: pairs such as `items.item_id=id`.
        images: whether to bring the photos named in the column `image`.

    Raises:
        UsageError: a file is missing or unreadable, a column is missing, a mapping is malformed, or `to` holds the
            same table in another format.
    """
    mapping = parse_mapping(maps)
    files = {table: source / name for table, name in (("items", items), ("interactions", interactions)) if name}
    check_folders(source, to, set(files))
    if not files:
        raise UsageError("nothing to import: give --items, --interactions or both")
    if idle := sorted({table for table, names in mapping.items() if names} - set(files)):
        raise UsageError(f"--map names {idle[0]}, but --{idle[0]} is not given")
    for path in files.values():
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
        check_whole(path)
    with closing(connect()) as connection:
        tables = {
            table: Table(mapped(open_table(connection, path), table, mapping[table], path), path)
            for table, path in files.items()
        }
        return write_tables(connection, tables, source, to, images)
