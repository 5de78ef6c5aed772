"""Imports a shop's own exports by a column mapping; DuckDB streams, so memory stays bounded."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from vlm4rec_search.errors import UsageError
from vlm4rec_search.files import SUFFIXES, open_table, reading
from vlm4rec_search.imports.mapping import mapped, parse_mapping
from vlm4rec_search.imports.photos import PhotoCounts, bring_photos
from vlm4rec_search.progress import bar


@dataclass(frozen=True)
class ImportSummary:
    """Rows written (None where that table was not asked for), and the photos."""

    items: int | None
    interactions: int | None
    photos: PhotoCounts


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
    _check(source, to, set(files), {table for table, names in mapping.items() if names})
    to.mkdir(parents=True, exist_ok=True)
    with closing(duckdb.connect()) as connection:
        tables = {
            table: mapped(open_table(connection, path), table, mapping[table], path) for table, path in files.items()
        }
        rows = _write(connection, tables, files, to)
        named = _photo_names(connection, to / "items.parquet") if images and "items" in rows else []
    return ImportSummary(rows.get("items"), rows.get("interactions"), _bring(named, source, to))


def _check(source: Path, to: Path, tables: set[str], named: set[str]) -> None:
    if not source.is_dir():
        raise UsageError(f"there is no folder {source}")
    if not tables:
        raise UsageError("nothing to import: give --items, --interactions or both")
    if idle := sorted(named - tables):
        raise UsageError(f"--map names {idle[0]}, but --{idle[0]} is not given")
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; give a folder")
    for path in (to / f"{table}{suffix}" for table in sorted(tables) for suffix in SUFFIXES):
        if path.suffix != ".parquet" and path.exists():
            raise UsageError(f"{path} is there already, and a second table would be ambiguous; give another folder")


def _write(
    connection: duckdb.DuckDBPyConnection,
    tables: dict[str, duckdb.DuckDBPyRelation],
    files: dict[str, Path],
    to: Path,
) -> dict[str, int]:
    """Write every table under a temporary name, and put them in place when all have been read to the end."""
    parts = {table: to / f".{table}.parquet.part" for table in tables}
    try:
        for table, relation in tables.items():
            with reading(files[table]):
                relation.write_parquet(str(parts[table]), compression="zstd")
        rows = {table: connection.read_parquet(str(part)).shape[0] for table, part in parts.items()}
        for table, part in parts.items():
            part.replace(to / f"{table}.parquet")
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return rows


def _photo_names(connection: duckdb.DuckDBPyConnection, items: Path) -> list[str]:
    table = connection.read_parquet(str(items))
    if "image" not in table.columns:
        return []
    names = table.filter("image IS NOT NULL AND TRIM(image) <> ''").project("image").distinct().order("image")
    return [str(name) for (name,) in names.fetchall()]


def _bring(names: list[str], source: Path, to: Path) -> PhotoCounts:
    if not names:
        return PhotoCounts()
    with bar("bringing photos", len(names)) as advance:
        return bring_photos(names, source, to, advance)
