"""The raw tables of the data folder: whether they can be read, their columns, and a hash of what they hold.

A file is hashed and parsed once for each path, size and time; the outcome is remembered in the cache folder, so that
`sqlmesh` commands on an unchanged folder cost nothing.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from vlm4rec_search.common.errors import UsageError
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
