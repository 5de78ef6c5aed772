"""The last step of every import: writes the tables of the raw contract into a data folder, and copies the photos."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.sql import quote_name, quote_text
from vlm4rec_search.common.text_forms import spellings
from vlm4rec_search.datasets.declarations import CONTRACT_FILE, TableDeclaration, load_declarations
from vlm4rec_search.datasets.files import OTHER_SUFFIXES, SUFFIXES, broken_name, open_parquet, read_errors
from vlm4rec_search.datasets.photos.locate import is_url, path_forms
from vlm4rec_search.datasets.raw import find_files, matching_files

ABOUT_GIVEN = "GIVEN.json"
GIVEN_VECTORS = {"image": "image_vectors.parquet", "text": "text_vectors.parquet"}
GIVEN = (ABOUT_GIVEN, *GIVEN_VECTORS.values())
"""Files that only some data sets bring along. The next import removes them, because they do not fit its tables."""

SOURCE_FILE = " file"
"""The column of `Table.relation` with the source file: no column of an export has a name that begins with a space."""
_IMPORTED = "imported"  # folder of the Parquet files of one table; the next import replaces it
_UNFINISHED = ".import.part"
_NO_PHOTO_SUFFIXES = (*SUFFIXES, *OTHER_SUFFIXES, ".part")
"""A catalogue that names one of its tables as a photo must not overwrite a table of the data folder."""
_IS_REMOTE = "image ILIKE 'http://%' OR image ILIKE 'https://%'"


@dataclass(frozen=True)
class Table:
    """Rows to write as one table of the raw contract."""

    relation: duckdb.DuckDBPyRelation
    path: Path
    """The file or folder to name in the message when the rows cannot be read to the end."""
    incomplete: Mapping[str, str] = field(default_factory=dict)
    """Conditions (SQL) that find incomplete rows, by the reason under which `ImportSummary.left_out` counts them.

    The rows are written all the same: what they lack could not be carried over.
    """
    broken: duckdb.DuckDBPyRelation | None = None
    """Records that cannot be read: file, line, reason, record. They are kept in `<table>.broken.parquet`."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Further counts for `ImportSummary.left_out`."""
    files: Sequence[str] = ()
    """The source files in their order, if there are several: the rows have the column `SOURCE_FILE`.

    Each becomes a Parquet file, because staging reads numbers and times by what their file shows.
    """


@dataclass
class PhotoCounts:
    """What became of the photos that the catalogue names; each distinct name counts once."""

    copied: int = 0
    """Linked or copied into the data folder, or there already."""
    not_found: int = 0
    refused: int = 0
    """Named a table or a path outside the source folder, or would be written outside the data folder."""
    remote: int = 0
    """Items whose photo is an http(s) address; an import downloads nothing."""


@dataclass(frozen=True)
class ImportSummary:
    """Rows written (None for a table that was not imported), photos, and rows that are incomplete."""

    items: int | None
    interactions: int | None
    photos: PhotoCounts
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of rows or values that could not be carried over, by reason; a reason that did not occur counts 0."""
    users: int | None = None
    files: list[str] = field(default_factory=list)
    """How each file was read."""
    notes: list[str] = field(default_factory=list)
    """What was decided by looking at the files."""
    warnings: list[str] = field(default_factory=list)
    """What a person should do something about."""


def connect() -> duckdb.DuckDBPyConnection:
    """Return a connection in memory for one import.

    It has one thread, because the rows have to keep their order, and because with two threads the rows of a compressed
    file wait in memory for the writer (30 million rows: 1.3 GB instead of 0.3 GB).
    """
    return duckdb.connect(config={"threads": 1})


def check_folders(source: Path, to: Path, tables: set[str]) -> None:
    """Check that `source` is a folder, and that `tables` can be written into the folder `to`.

    Raises:
        UsageError: `source` is no folder, `to` is a file or holds one of the tables in other files, or its
            `contract.yaml` is wrong.
    """
    if not source.is_dir():
        raise UsageError(f"there is no folder {source}")
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; give a folder")
    for table in sorted(tables) if to.exists() else ():
        declared = load_declarations(to).of(table).files
        named = (path for pattern in declared for path in matching_files(to, pattern))
        for path in (*find_files(to, table, TableDeclaration()), *named):
            if path != to / f"{table}.parquet" and to / table / _IMPORTED not in path.parents:
                raise UsageError(f"{path} is there already, and a second table would be ambiguous; give another folder")


def table_path(to: Path, table: str) -> Path:
    """Return the file of an imported table in a data folder, or the folder of its files."""
    file = to / f"{table}.parquet"
    return file if file.exists() else to / table / _IMPORTED


def write_tables(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Table],
    source: Path,
    to: Path,
    images: bool,
    add_files: Callable[[Path, dict[str, int]], None] | None = None,
) -> ImportSummary:
    """Write each table as `<name>.parquet` into `to`, and copy the photos of the items.

    A table with rows of several source files becomes a Parquet file of each in the folder `<name>/imported`.

    The new files are written to a temporary folder. They replace the files of an earlier import when all of them are
    complete and the photos are copied.

    Args:
        connection: the connection of the tables' relations.
        tables: by name: `items`, `interactions`, `users`.
        source: folder with the photos.
        to: data folder; created if it does not exist.
        images: whether to copy the photos that the column `image` of the items names.
        add_files: called with the temporary folder and the counts of `ImportSummary.left_out`; it may write more files
            into the folder and add counts.

    Raises:
        UsageError: a source file cannot be read.
        RunError: `to` cannot be written.
    """
    to.mkdir(parents=True, exist_ok=True)
    with _replace_files(to, [broken_name(name) for name in tables]) as folder:
        rows: dict[str, int] = {}
        relations: dict[str, duckdb.DuckDBPyRelation] = {}
        left_out: dict[str, int] = {}
        for name, table in tables.items():
            written = relations[name] = _write_table(connection, table, folder, name)
            rows[name] = written.shape[0]
            left_out |= {reason: written.filter(sql).shape[0] for reason, sql in table.incomplete.items()}
            left_out |= table.left_out
            if table.broken and (count := table.broken.shape[0]):
                table_name = f"{quote_text(name)} AS table_name"
                broken = table.broken.project(f"{table_name}, file, line, reason, record")
                broken.write_parquet(str(folder / broken_name(name)), compression="zstd")
                left_out[f"{name}_records_that_cannot_be_read"] = count
        if add_files:
            add_files(folder, left_out)
        photos = PhotoCounts()
        if images and "items" in rows:
            photos = _copy_photos(relations["items"], source, to)
    warnings = kept_contract(to, [*tables, "values"])
    return ImportSummary(
        rows.get("items"), rows.get("interactions"), photos, left_out, rows.get("users"), warnings=warnings
    )


def kept_contract(to: Path, sections: Iterable[str]) -> list[str]:
    """Return a warning if a data folder declares one of the sections: tables that an import has written need none."""
    declared = load_declarations(to)
    named = ", ".join(name for name in sections if name in declared.model_fields_set)
    path = to / CONTRACT_FILE
    told = f"{path} is there already and counts for this data, too: remove what it declares under {named}"
    return [f"{told}, unless it was written for this data"] if named else []


@contextmanager
def _replace_files(to: Path, replaced: Iterable[str]) -> Iterator[Path]:
    """Yield a temporary folder, and move its files into `to` at the end of the block unless the block fails.

    The files `replaced` of an earlier import are removed.

    The old catalogue is removed first and the new one is moved last. A data folder without a catalogue is refused, so
    an import that is killed in between cannot leave a mixture that looks complete.
    """
    folder = to / _UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)  # left by an import that was killed
    folder.mkdir()
    try:
        yield folder
        files = sorted(folder.iterdir(), key=lambda path: path.stem == "items")
        for name in (*GIVEN, *replaced):
            (to / name).unlink(missing_ok=True)
        if len(files) > 1:
            _remove_table(to, files[-1].stem)
        for path in files:
            if path.is_dir():
                _remove_table(to, path.name)
                folder_of_table = to / path.name / _IMPORTED  # which photos may share
                folder_of_table.mkdir(parents=True, exist_ok=True)
                for part in (path / _IMPORTED).iterdir():
                    part.replace(folder_of_table / part.name)
            else:
                _remove_parts(to, path.stem)
                path.replace(to / path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_table(to: Path, table: str) -> None:
    (to / f"{table}.parquet").unlink(missing_ok=True)
    _remove_parts(to, table)


def _remove_parts(to: Path, table: str) -> None:
    for part in (to / table / _IMPORTED).glob("*.parquet"):
        part.unlink()
    with suppress(OSError):  # it is not there, or holds photos
        (to / table / _IMPORTED).rmdir()
        (to / table).rmdir()


def _write_table(
    connection: duckdb.DuckDBPyConnection, table: Table, folder: Path, name: str
) -> duckdb.DuckDBPyRelation:
    """Write one table and return the written rows."""
    path = folder / f"{name}.parquet"
    if not table.files:
        _write_parquet(table.relation, path, table.path, folder)
        return open_parquet(connection, path)
    # The relation is read once, however many files there are: it may merge rows, or unpack large files.
    whole = folder / f"{name}.whole"
    _write_parquet(table.relation, whole, table.path, folder)
    rows, file = open_parquet(connection, whole), quote_name(SOURCE_FILE)
    filled = {found for (found,) in rows.project(file).distinct().fetchall()}
    sources = [source for source in table.files if source in filled]
    paths = [path] if len(sources) == 1 else _part_paths(folder / name / _IMPORTED, sources)
    for source, part in zip(sources, paths, strict=True):
        part.parent.mkdir(parents=True, exist_ok=True)
        _write_parquet(rows.filter(f"{file} = {quote_text(source)}").project(f"* EXCLUDE {file}"), part, part, folder)
    whole.unlink()
    return connection.read_parquet([str(part) for part in paths], hive_partitioning=False)


def _part_paths(folder: Path, sources: Sequence[str]) -> list[Path]:
    """Return the path of the Parquet file of each source file: numbered, since files are read in the order of names."""
    width = len(str(len(sources)))
    names = [re.sub(r"[^\w.-]+", "_", Path(source).name.removesuffix(".parquet"))[:100] for source in sources]
    return [folder / f"{number:0{width}}-{name}.parquet" for number, name in enumerate(names, 1)]


def _write_parquet(relation: duckdb.DuckDBPyRelation, path: Path, read: Path, folder: Path) -> None:
    """Write a Parquet file into the temporary folder; `read` is named if the rows cannot be read."""
    try:
        with read_errors(read):
            relation.write_parquet(str(path), compression="zstd")
    except UsageError as error:
        if str(path) in str(error):  # DuckDB complains about the written file, not about the source
            raise RunError(f"{folder.parent} cannot be written: {str(error).split(': ', 1)[-1]}") from None
        raise


def _copy_photos(items: duckdb.DuckDBPyRelation, source: Path, to: Path) -> PhotoCounts:
    """Link (or copy, across devices) each named photo from `source` to the same relative path under `to`."""
    photos = PhotoCounts()
    if "image" not in items.columns:
        return photos
    images = items.project("TRIM(image) AS image")  # as staging does
    # Addresses are counted row by row and never listed: a catalogue can name millions of them.
    photos.remote = images.filter(_IS_REMOTE).shape[0]
    local = images.filter(f"image <> '' AND NOT ({_IS_REMOTE})").distinct().order("image")
    if count := local.shape[0]:
        source, to = source.resolve(), to.resolve()
        with bar("copying photos", count) as advance:
            while rows := local.fetchmany(10_000):
                for (name,) in rows:
                    outcome = _copy_photo(str(name), source, to)
                    setattr(photos, outcome, getattr(photos, outcome) + 1)
                    advance(1)
    return photos


def missing_photos(items: duckdb.DuckDBPyRelation, source: Path, most: int) -> tuple[int, list[str]]:
    """Look for the photos that items name in their column `image`; addresses are not looked for.

    Args:
        items: the catalogue.
        source: folder of the export.
        most: number of distinct names to look for at most.

    Returns:
        How many were looked for, and the names of those that are not there.
    """
    named = items.filter(f"image <> '' AND NOT ({_IS_REMOTE})").project("image").distinct().order("image").limit(most)
    source = source.resolve()
    found = {str(name): _find_photo(str(name), source) for (name,) in named.fetchall()}
    looked_for = {name: photo for name, photo in found.items() if photo != "remote"}
    return len(looked_for), [name for name, photo in looked_for.items() if isinstance(photo, str)]


def _find_photo(name: str, source: Path) -> tuple[Path, str] | Literal["remote", "refused", "not_found"]:
    """Return the file of a photo and the form of its name under which it is there, or the name of its count."""
    if is_url(name):
        return "remote"
    try:
        forms = [((source / spelling).resolve(), form) for form in path_forms(name) for spelling in spellings(form)]
        inside = (pair for pair in forms if pair[0].is_relative_to(source) and pair[0].is_file())
        photo, form = next(inside, forms[0])
        if not photo.is_relative_to(source):
            return "refused"
        return (photo, form) if photo.is_file() else "not_found"
    except (OSError, ValueError, RuntimeError):  # a name with a NUL byte, a loop of links, a name that is too long
        return "not_found"


def _copy_photo(name: str, source: Path, to: Path) -> str:
    """Link or copy one photo and return the name of its count in `PhotoCounts`."""
    found = _find_photo(name, source)
    if isinstance(found, str):
        return found
    photo, form = found
    target = (to / form).parent.resolve() / Path(form).name
    if not target.is_relative_to(to) or target.name.lower().endswith(_NO_PHOTO_SUFFIXES):
        return "refused"
    if target.is_dir():
        return "not_found"
    if not target.exists() or not target.samefile(photo):
        with replacing_file(target) as part:  # an interrupted import leaves no half photo
            try:
                os.link(photo, part)
            except OSError:
                shutil.copyfile(photo, part)
    return "copied"
