"""Writes the tables of the raw contract into a data folder, and brings the photos: the last step of every import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from vlm4rec_search.errors import UsageError
from vlm4rec_search.files import SUFFIXES, reading
from vlm4rec_search.imports.photos import PhotoCounts, bring_photos
from vlm4rec_search.progress import bar

GIVEN = ("GIVEN.json", "image_vectors.parquet", "text_vectors.parquet")
"""What only some data sets bring along; of no use to the tables of another one."""

_REMOTE = "image ILIKE 'http://%' OR image ILIKE 'https://%'"


@dataclass(frozen=True)
class Table:
    """Rows to be written, and the file that is named when they cannot be read to the end."""

    relation: duckdb.DuckDBPyRelation
    path: Path


@dataclass(frozen=True)
class ImportSummary:
    """Rows written (None where that table was not asked for), the photos, and what was left behind."""

    items: int | None
    interactions: int | None
    photos: PhotoCounts
    left_out: dict[str, int] = field(default_factory=dict)
    """How many rows or values could not be carried over as they are, by reason; reasons that did not occur too."""


def connect() -> duckdb.DuckDBPyConnection:
    """Return a connection in memory for one import.

    One thread: the order of the rows has to stay, and with two threads the rows of a compressed file pile up before the
    writer (30 million rows: 1.3 GB against 0.3 GB).
    """
    return duckdb.connect(config={"threads": 1})


def check_folders(source: Path, to: Path, tables: set[str]) -> None:
    """Check that `source` can be read from and that `tables` can be written into `to`.

    Raises:
        UsageError: `source` is no folder, `to` is a file, or `to` holds one of the tables in another format.
    """
    if not source.is_dir():
        raise UsageError(f"there is no folder {source}")
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; give a folder")
    for path in (to / f"{table}{suffix}" for table in sorted(tables) for suffix in SUFFIXES):
        if path.suffix != ".parquet" and path.exists():
            raise UsageError(f"{path} is there already, and a second table would be ambiguous; give another folder")


def write_tables(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Table], source: Path, to: Path, images: bool
) -> ImportSummary:
    """Write each table as `<name>.parquet` into `to`, and bring the photos of its column `image` when `images`.

    All tables are read to their end before the first is put in place; those of an earlier import are replaced.

    Raises:
        UsageError: a file cannot be read.
    """
    to.mkdir(parents=True, exist_ok=True)
    rows = _write(connection, tables, to)
    for name in GIVEN:
        (to / name).unlink(missing_ok=True)
    photos = _bring(connection, source, to) if images and "items" in rows else PhotoCounts()
    return ImportSummary(rows.get("items"), rows.get("interactions"), photos)


def count(connection: duckdb.DuckDBPyConnection, table: Path, condition: str) -> int:
    """Return how many rows of a written table meet an SQL condition."""
    return int(connection.read_parquet(str(table)).filter(condition).shape[0])


def _write(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Table], to: Path) -> dict[str, int]:
    """Write every table under a temporary name, and put them in place when all have been read to the end."""
    parts = {name: to / f".{name}.parquet.part" for name in tables}
    try:
        for name, table in tables.items():
            with reading(table.path):
                table.relation.write_parquet(str(parts[name]), compression="zstd")
        rows = {name: connection.read_parquet(str(part)).shape[0] for name, part in parts.items()}
        for name, part in parts.items():
            part.replace(to / f"{name}.parquet")
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return rows


def _bring(connection: duckdb.DuckDBPyConnection, source: Path, to: Path) -> PhotoCounts:
    items = connection.read_parquet(str(to / "items.parquet"))
    if "image" not in items.columns:
        return PhotoCounts()
    # Addresses are only counted, row by row: a catalogue can name millions of them.
    remote = items.filter(_REMOTE).shape[0]
    local = items.filter(f"TRIM(image) <> '' AND NOT ({_REMOTE})").project("image").distinct().order("image")
    names = [str(name) for (name,) in local.fetchall()]
    photos = PhotoCounts()
    if names:
        with bar("bringing photos", len(names)) as advance:
            photos = bring_photos(names, source, to, advance)
    photos.remote = remote
    return photos
