"""The raw tables of the data folder: whether they can be read, their columns, and a hash of what they hold.

A file is hashed and parsed once for each path, size and time; the outcome is remembered in the cache folder, so that
`sqlmesh` commands on an unchanged folder cost nothing.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlglot import exp, maybe_parse

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.files import SUFFIXES, check_whole, find_table, reading, require

_VERSION = 4  # of what is remembered: raise it when `RawFile` or the readers change
OPTIONAL = {"users": ("user_id",)}
REQUIRED = {"items": ("item_id", "title"), "interactions": ("user_id", "item_id", "timestamp")}

# How DuckDB reads each format; `?` is the path. CSV is read as text and strictly, so that nothing is guessed: without
# `skip` the sniffer may take a header that it does not like for a preamble, and drop it. A folder price=9 is a folder.
_CSV = "READ_CSV(?, all_varchar = TRUE, header = TRUE, skip = 0, delim = ',', quote = '\"', escape = '\"', {})"
_READERS = {".csv": _CSV, ".csv.gz": _CSV, ".parquet": "READ_PARQUET(?, {})", ".jsonl": "READ_NDJSON_OBJECTS(?, {})"}
READERS = {suffix: reader.format("hive_partitioning = FALSE") for suffix, reader in _READERS.items()}


@dataclass(frozen=True)
class RawFile:
    """One raw file: its path, suffix (a key of `READERS`), sha256 and column names."""

    path: str
    suffix: str
    sha256: str
    columns: tuple[str, ...]


def find(folder: Path, stem: str) -> Path:
    """Return the path of the one file `stem.<suffix>` in `folder`.

    Raises:
        UsageError: the folder is missing, or it holds no such file, or more than one.
    """
    if not folder.is_dir():
        raise UsageError(
            f"data folder {folder} does not exist: set VLM4REC_DATA_DIR to yours, or draw the built-in shop with"
            " `vlm4rec shop`"
        )
    path = find_table(folder, stem)
    if path is None:
        names = ", ".join(f"{stem}{suffix}" for suffix in SUFFIXES)
        raise UsageError(f"{folder} holds none of {names}: put one there, or see `vlm4rec import --help`")
    return path


def inspect(folder: Path, stem: str, memory: Path) -> RawFile:
    """Read one raw file through and return what it holds, remembering the outcome in the folder `memory`.

    Raises:
        UsageError: the file is missing, empty, unreadable, not UTF-8, or lacks a required column.
    """
    path = find(folder, stem)
    stat = path.stat()
    identity = f"{_VERSION} {path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    known = memory / "raw" / f"{_digest(identity.encode())}.json"
    with suppress(OSError, ValueError, KeyError):  # not remembered, or not readably: look again
        fields = json.loads(known.read_text())
        return RawFile(str(path), fields["suffix"], fields["sha256"], tuple(fields["columns"]))
    file = _read_through(path, stem)
    known.parent.mkdir(parents=True, exist_ok=True)
    temporary = known.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(asdict(file)))
    temporary.replace(known)
    return file


def inspect_optional(folder: Path, stem: str, memory: Path) -> RawFile | None:
    """Do as `inspect` for a file that a data folder may do without; None where it does.

    Raises:
        UsageError: the file cannot be used.
    """
    return inspect(folder, stem, memory) if find_table(folder, stem) else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read_through(path: Path, stem: str) -> RawFile:
    """Parse every value of the file once, so that a bad line is told now and not in the middle of a plan."""
    required = (REQUIRED | OPTIONAL)[stem]
    if path.stat().st_size == 0:
        raise UsageError(f"{path} is empty: it needs at least the columns {', '.join(required)}")
    check_whole(path)
    suffix = next(suffix for suffix in READERS if path.name == f"{stem}{suffix}")
    with reading(path):
        columns, rows = _columns_and_rows(path, suffix)
    require(columns, required, path)
    if stem == "items" and rows == 0:
        raise UsageError(f"{path} is empty: it has a header and no rows")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return RawFile(str(path), suffix, sha256, columns)


def _columns_and_rows(path: Path, suffix: str) -> tuple[tuple[str, ...], int]:
    import duckdb

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


# A raw file as a query: the SQL behind the macro `@raw_file`.

_TYPES = {"row_number": "BIGINT", "attributes": "JSON"}


def raw_query(settings: Settings, folder: str | None, stem: str, version: str, columns: Sequence[str]) -> exp.Subquery:
    """Return a subquery over the raw file `stem`: file (`version`), row_number, `columns` as TEXT, attributes as JSON.

    `folder` overrides the data folder, relative to the project (YAML tests read their own files). A file that a data
    folder may do without has no rows where it does.

    Raises:
        UsageError: the file is missing or cannot be read.
    """
    data = settings.project / folder if folder else settings.data_dir
    look = inspect_optional if stem in OPTIONAL else inspect
    file = look(data, stem, settings.cache)
    if file is None:
        return _nothing(columns)
    read = _from_json if file.suffix == ".jsonl" else _from_columns
    # Naming the columns of the table function lets SQLMesh resolve them, which its lint asks for.
    names = ("json",) if file.suffix == ".jsonl" else file.columns
    alias = exp.TableAlias(this=exp.to_identifier("raw"), columns=[exp.to_identifier(name, True) for name in names])
    reader = maybe_parse(READERS[file.suffix], into=exp.Table, dialect="duckdb")
    reader.set("alias", alias)
    query = exp.select(
        exp.alias_(exp.Literal.string(version), "file"),
        "ROW_NUMBER() OVER () AS row_number",
        *(exp.alias_(column, name, quoted=True) for name, column in read(file, columns).items()),
    ).from_(exp.replace_placeholders(reader, exp.Literal.string(file.path)))
    return query.subquery()


def _nothing(columns: Sequence[str]) -> exp.Subquery:
    texts = [exp.alias_(exp.cast(exp.null(), "TEXT"), name, quoted=True) for name in ("file", *columns)]
    others = [exp.alias_(exp.cast(exp.null(), kind), name) for name, kind in _TYPES.items()]
    return exp.select(*texts, *others).where(exp.false()).subquery()


def _from_columns(file: RawFile, columns: Sequence[str]) -> dict[str, exp.Expr]:
    """CSV and Parquet: a column is a column; a missing one is NULL."""
    cast = {
        name: exp.cast(exp.column(name, "raw", quoted=True) if name in file.columns else exp.null(), "TEXT")
        for name in columns
    }
    others = [name for name in file.columns if name not in columns]
    pairs = [part for name in others for part in (exp.Literal.string(name), exp.column(name, "raw", quoted=True))]
    return {**cast, "attributes": exp.cast(exp.Anonymous(this="JSON_OBJECT", expressions=pairs), "JSON")}


def _from_json(file: RawFile, columns: Sequence[str]) -> dict[str, exp.Expr]:
    """JSON lines: a column is a key of the object; merging nulls takes the known keys out of the rest."""
    record = exp.column("json", "raw")
    paths = {name: exp.Literal.string(f"$.{name}") for name in columns}
    text = {
        name: exp.cast(exp.Anonymous(this="JSON_EXTRACT_STRING", expressions=[record.copy(), path]), "TEXT")
        for name, path in paths.items()
    }
    nothing = exp.Literal.string("{" + ", ".join(f'"{name}": null' for name in columns) + "}")
    rest = exp.func("JSON_MERGE_PATCH", record.copy(), nothing, dialect="duckdb")
    # A line that is no object has no columns; it is kept whole.
    line = exp.func("JSON_OBJECT", exp.Literal.string("line"), record.copy(), dialect="duckdb")
    is_object = exp.func("JSON_TYPE", record.copy(), dialect="duckdb").eq("OBJECT")
    return {**text, "attributes": exp.cast(exp.case().when(is_object, rest).else_(line), "JSON")}
