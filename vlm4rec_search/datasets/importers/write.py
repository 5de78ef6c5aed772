"""Writes the tables of the raw contract into a data folder, and brings the photos: the last step of every import."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.datasets.files import SUFFIXES, read_parquet, reading

# Brings the photos that a catalogue names into the data folder.

_TABLES = (".csv", ".gz", ".json", ".jsonl", ".parquet", ".part")
"""A catalogue must not be able to replace the tables of the data folder by calling one a photo."""


@dataclass
class PhotoCounts:
    """What became of the photos that the catalogue names, one count per distinct name."""

    copied: int = 0
    """Linked or copied into the data folder, or there already."""
    not_found: int = 0
    refused: int = 0
    """Named a table, or a place outside the source folder, or would land outside the data folder."""
    remote: int = 0
    """An http(s) address; nothing is downloaded. Counted per item."""


def bring_photos(names: Iterable[str], source: Path, to: Path, advance: Callable[[int], None]) -> PhotoCounts:
    """Link (or copy, across devices) each named photo from `source` to the same relative place under `to`."""
    counts, source, to = PhotoCounts(), source.resolve(), to.resolve()
    for name in names:
        outcome = _bring_photo(name, source, to)
        setattr(counts, outcome, getattr(counts, outcome) + 1)
        advance(1)
    return counts


def _bring_photo(name: str, source: Path, to: Path) -> str:
    if name.lower().startswith(("http://", "https://")):
        return "remote"
    try:
        photo, place = (source / name).resolve(), (to / name).parent.resolve() / Path(name).name
        if not photo.is_relative_to(source) or not place.is_relative_to(to) or place.suffix in _TABLES:
            return "refused"
        if not photo.is_file() or place.is_dir():
            return "not_found"
    except (OSError, ValueError):  # a name with a NUL byte, a loop of links, a name that is too long
        return "not_found"
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists() or not place.samefile(photo):
        _place(photo, place)
    return "copied"


def _place(photo: Path, place: Path) -> None:
    """Link or copy under a temporary name first, so that an interrupted import leaves no half photo."""
    part = place.with_name(f".{place.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(photo, part)
    except OSError:
        shutil.copyfile(photo, part)
    part.replace(place)


ABOUT_GIVEN = "GIVEN.json"
GIVEN_VECTORS = {"image": "image_vectors.parquet", "text": "text_vectors.parquet"}
GIVEN = (ABOUT_GIVEN, *GIVEN_VECTORS.values())
"""What only some data sets bring along; of no use to the tables of another one."""

_UNFINISHED = ".import.part"
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
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Table],
    source: Path,
    to: Path,
    images: bool,
    finish: Callable[[Path], dict[str, int]] = lambda folder: {},
) -> ImportSummary:
    """Write each table as `<name>.parquet` into `to`, and bring the photos of its column `image` when `images`.

    The new files wait in a folder of their own until all of them are whole and the photos are there; then they take the
    place of an earlier import's at once.

    Args:
        connection: of the tables' relations.
        tables: by name, `items` and `interactions`.
        source: folder that photos are taken from.
        to: data folder; made when absent.
        images: whether to bring the photos.
        finish: given the folder of the new tables, may add files to it, and returns what was left out, by reason.

    Raises:
        UsageError: a file cannot be read.
        RunError: `to` cannot be written.
    """
    to.mkdir(parents=True, exist_ok=True)
    with _put_in_place(to) as folder:
        rows = {name: _write(connection, table, folder / f"{name}.parquet") for name, table in tables.items()}
        left_out = finish(folder)
        photos = _bring(connection, folder, source, to) if images and "items" in rows else PhotoCounts()
    return ImportSummary(rows.get("items"), rows.get("interactions"), photos, left_out)


def count(connection: duckdb.DuckDBPyConnection, table: Path, condition: str) -> int:
    """Return how many rows of a written table meet an SQL condition."""
    return int(read_parquet(connection, table).filter(condition).shape[0])


@contextmanager
def _put_in_place(to: Path) -> Iterator[Path]:
    """Yield a folder whose files are moved into `to` at the end of the block, and not at all when it fails.

    The old catalogue goes first and the new one comes last: without it the data folder is of no use, so that an import
    that is killed in between leaves nothing that looks whole.
    """
    folder = to / _UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)  # of an import that was killed
    folder.mkdir()
    try:
        yield folder
        files = sorted(folder.iterdir(), key=lambda path: path.stem == "items")
        catalogue = [files[-1].name] if len(files) > 1 else []
        for name in (*GIVEN, *catalogue):
            (to / name).unlink(missing_ok=True)
        for path in files:
            path.replace(to / path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(connection: duckdb.DuckDBPyConnection, table: Table, path: Path) -> int:
    """Write one table and return its number of rows."""
    try:
        with reading(table.path):
            table.relation.write_parquet(str(path), compression="zstd")
    except UsageError as error:
        if str(path) in str(error):  # it is not the source that DuckDB complains of
            raise RunError(f"{path.parent.parent} cannot be written: {str(error).split(': ', 1)[-1]}") from None
        raise
    return int(read_parquet(connection, path).shape[0])


def _bring(connection: duckdb.DuckDBPyConnection, folder: Path, source: Path, to: Path) -> PhotoCounts:
    items = read_parquet(connection, folder / "items.parquet")
    if "image" not in items.columns:
        return PhotoCounts()
    images = items.project("TRIM(image) AS image")  # as staging does
    # Addresses are only counted, row by row: a catalogue can name millions of them.
    remote = images.filter(_REMOTE).shape[0]
    local = images.filter(f"image <> '' AND NOT ({_REMOTE})").distinct().order("image")
    photos = PhotoCounts()
    if names := local.shape[0]:
        with bar("bringing photos", names) as advance:
            photos = bring_photos(_each(local), source, to, advance)
    photos.remote = remote
    return photos


def _each(names: duckdb.DuckDBPyRelation) -> Iterator[str]:
    while rows := names.fetchmany(10_000):
        yield from (str(name) for (name,) in rows)
