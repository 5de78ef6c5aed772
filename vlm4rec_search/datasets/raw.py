"""The raw tables of a data folder: `inspect` checks a file, `raw_query` reads it as SQL for the macro `@raw_file`.

`inspect` parses and hashes a file once for each path, size and time of change. Its result is stored in the cache
folder, so that `sqlmesh` commands on an unchanged data folder do not read the files again.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
from sqlglot import exp, maybe_parse

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.files import SUFFIXES, check_compression, find_file, read_errors, require_columns

_VERSION = 4  # of the stored results: raise it when `RawFile` or the readers change
OPTIONAL = {"users": ("user_id",)}
"""Tables that a data folder may lack, with their required columns."""
REQUIRED = {"items": ("item_id", "title"), "interactions": ("user_id", "item_id", "timestamp")}
"""Tables that every data folder has, with their required columns."""

# CSV is read as text and strictly: without `skip` DuckDB may take an unusual header for a preamble and drop it.
# Without `hive_partitioning` a folder named price=9 would add a column.
_CSV = (
    "READ_CSV(?, all_varchar = TRUE, header = TRUE, skip = 0, delim = ',', quote = '\"', escape = '\"',"
    " hive_partitioning = FALSE)"
)
READERS = {
    ".csv": _CSV,
    ".csv.gz": _CSV,
    ".parquet": "READ_PARQUET(?, hive_partitioning = FALSE)",
    ".jsonl": "READ_NDJSON_OBJECTS(?, hive_partitioning = FALSE)",
}
"""DuckDB table function for each file format; `?` is the path."""
_TYPES = {"row_number": "BIGINT", "attributes": "JSON"}


@dataclass(frozen=True)
class RawFile:
    """One raw file: its path, suffix (a key of `READERS`), sha256 and column names."""

    path: str
    suffix: str
    sha256: str
    columns: tuple[str, ...]


def find_raw_file(folder: Path, stem: str) -> Path:
    """Return the path of the only file `stem.<suffix>` in a data folder.

    Raises:
        UsageError: the folder is missing, or it holds no such file, or more than one.
    """
    if not folder.is_dir():
        raise UsageError(
            f"data folder {folder} does not exist: set VLM4REC_DATA_DIR to your data folder, or draw the built-in shop"
            " with `vlm4rec shop`"
        )
    path = find_file(folder, stem)
    if path is None:
        names = ", ".join(f"{stem}{suffix}" for suffix in SUFFIXES)
        raise UsageError(f"{folder} holds none of {names}: put one there, or see `vlm4rec import --help`")
    return path


def inspect(folder: Path, stem: str, cache: Path) -> RawFile:
    """Parse one raw file to its end and describe it, or return the description that the folder `cache` has.

    Raises:
        UsageError: the file is missing, empty, unreadable, not UTF-8, or lacks a required column.
    """
    path = find_raw_file(folder, stem)
    stat = path.stat()
    identity = f"{_VERSION} {path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    stored = cache / "raw" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError, KeyError):  # nothing stored, or not readable: parse the file
        fields = json.loads(stored.read_text())
        return RawFile(str(path), fields["suffix"], fields["sha256"], tuple(fields["columns"]))
    file = _parse(path, stem)
    stored.parent.mkdir(parents=True, exist_ok=True)
    temporary = stored.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(asdict(file)))
    temporary.replace(stored)
    return file


def inspect_optional(folder: Path, stem: str, cache: Path) -> RawFile | None:
    """Describe a raw file as `inspect` does, or return None if the data folder has no such file.

    Raises:
        UsageError: there is more than one such file, or it cannot be used.
    """
    return inspect(folder, stem, cache) if find_file(folder, stem) else None


def raw_query(settings: Settings, folder: str | None, stem: str, version: str, columns: Sequence[str]) -> exp.Subquery:
    """Return a subquery over a raw file: `file`, `row_number`, each of `columns` as TEXT, and `attributes` as JSON.

    Args:
        settings: the data folder, and the cache folder of `inspect`.
        folder: a data folder relative to the project, in place of the one in the settings; YAML tests have their own.
        stem: name of the table: items, interactions or users.
        version: the value of the column `file`.
        columns: columns to select; every other column of the file goes into `attributes`.

    Raises:
        UsageError: the file cannot be read, or it is missing and not optional. A missing optional file has no rows.
    """
    data = settings.require_project() / folder if folder else settings.data_dir
    inspect_file = inspect_optional if stem in OPTIONAL else inspect
    file = inspect_file(data, stem, settings.cache)
    if file is None:
        return _empty_query(columns)
    select = _select_from_json if file.suffix == ".jsonl" else _select_columns
    # Naming the columns of the table function lets SQLMesh resolve them, which its linter asks for.
    names = ("json",) if file.suffix == ".jsonl" else file.columns
    alias = exp.TableAlias(this=exp.to_identifier("raw"), columns=[exp.to_identifier(name, True) for name in names])
    reader = maybe_parse(READERS[file.suffix], into=exp.Table, dialect="duckdb")
    reader.set("alias", alias)
    query = exp.select(
        exp.alias_(exp.Literal.string(version), "file"),
        "ROW_NUMBER() OVER () AS row_number",
        *(exp.alias_(column, name, quoted=True) for name, column in select(file, columns).items()),
    ).from_(exp.replace_placeholders(reader, exp.Literal.string(file.path)))
    return query.subquery()


def _parse(path: Path, stem: str) -> RawFile:
    """Parse every value of the file, so that a broken line is reported before a plan starts."""
    required = (REQUIRED | OPTIONAL)[stem]
    if path.stat().st_size == 0:
        raise UsageError(f"{path} is empty: it needs at least the columns {', '.join(required)}")
    check_compression(path)
    suffix = next(suffix for suffix in READERS if path.name == f"{stem}{suffix}")
    with read_errors(path):
        columns, rows = _columns_and_rows(path, suffix)
    require_columns(columns, required, path)
    if stem == "items" and rows == 0:
        raise UsageError(f"{path} is empty: it has a header and no rows")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return RawFile(str(path), suffix, sha256, columns)


def _columns_and_rows(path: Path, suffix: str) -> tuple[tuple[str, ...], int]:
    with duckdb.connect() as connection:
        # The reader is one of the constants above; the path is bound.
        values = f"SELECT COUNT(*), COUNT(COLUMNS(*)) FROM {READERS[suffix]}"  # noqa: S608
        source = connection.execute(values, [str(path)])
        columns = tuple(column[0] for column in source.description[1:])
        rows = int((source.fetchone() or (0,))[0])
        if suffix == ".jsonl":
            keys = f"SELECT DISTINCT UNNEST(JSON_KEYS(json)) AS key FROM {READERS[suffix]} ORDER BY key"  # noqa: S608
            columns = tuple(str(key) for (key,) in connection.execute(keys, [str(path)]).fetchall())
    return columns, rows


def _empty_query(columns: Sequence[str]) -> exp.Subquery:
    texts = [exp.alias_(exp.cast(exp.null(), "TEXT"), name, quoted=True) for name in ("file", *columns)]
    others = [exp.alias_(exp.cast(exp.null(), kind), name) for name, kind in _TYPES.items()]
    return exp.select(*texts, *others).where(exp.false()).subquery()


def _select_columns(file: RawFile, columns: Sequence[str]) -> dict[str, exp.Expr]:
    """Select from CSV or Parquet; a column that the file lacks is NULL."""
    cast = {
        name: exp.cast(exp.column(name, "raw", quoted=True) if name in file.columns else exp.null(), "TEXT")
        for name in columns
    }
    others = [name for name in file.columns if name not in columns]
    pairs = [part for name in others for part in (exp.Literal.string(name), exp.column(name, "raw", quoted=True))]
    return {**cast, "attributes": exp.cast(exp.Anonymous(this="JSON_OBJECT", expressions=pairs), "JSON")}


def _select_from_json(file: RawFile, columns: Sequence[str]) -> dict[str, exp.Expr]:
    """Select keys of JSON lines. Merging nulls removes the selected keys, so that the rest remains as `attributes`."""
    record = exp.column("json", "raw")
    paths = {name: exp.Literal.string(f"$.{name}") for name in columns}
    text = {
        name: exp.cast(exp.Anonymous(this="JSON_EXTRACT_STRING", expressions=[record.copy(), path]), "TEXT")
        for name, path in paths.items()
    }
    nulls = exp.Literal.string("{" + ", ".join(f'"{name}": null' for name in columns) + "}")
    rest = exp.func("JSON_MERGE_PATCH", record.copy(), nulls, dialect="duckdb")
    # A line that is no JSON object has no columns; `attributes` holds the whole line.
    line = exp.func("JSON_OBJECT", exp.Literal.string("line"), record.copy(), dialect="duckdb")
    is_object = exp.func("JSON_TYPE", record.copy(), dialect="duckdb").eq("OBJECT")
    return {**text, "attributes": exp.cast(exp.case().when(is_object, rest).else_(line), "JSON")}
