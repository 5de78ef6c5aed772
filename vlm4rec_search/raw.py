"""The data folder: which raw files it holds, whether they can be read, and a fingerprint of what they hold.

Files are hashed and parsed once for each size and modification time; the outcome is remembered in the cache folder, so
that `sqlmesh` commands on an unchanged folder cost nothing.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vlm4rec_search.errors import UsageError

SUFFIXES = ("csv", "csv.gz", "parquet", "jsonl")
REQUIRED = {"items": ("item_id", "title"), "interactions": ("user_id", "item_id", "timestamp")}

# How DuckDB reads each format; `?` is the path. CSV is read as text and strictly, so that no value is guessed.
CSV = "READ_CSV(?, all_varchar = TRUE, header = TRUE, delim = ',', quote = '\"', escape = '\"')"
READERS = {"csv": CSV, "csv.gz": CSV, "parquet": "READ_PARQUET(?)", "jsonl": "READ_NDJSON_OBJECTS(?)"}


@dataclass(frozen=True)
class RawFile:
    """One raw file: its path, format (a key of `READERS`), sha256, column names and number of rows."""

    path: str
    format: str
    sha256: str
    columns: tuple[str, ...]
    rows: int


def find(folder: Path, stem: str) -> tuple[Path, str]:
    """Return the path and format of the one file `stem.<suffix>` in `folder`.

    Raises:
        UsageError: the folder is missing, or it holds no such file, or more than one.
    """
    if not folder.is_dir():
        raise UsageError(
            f"data folder {folder} does not exist: set VLM4REC_DATA_DIR to yours, or draw the built-in shop with"
            " `vlm4rec shop`"
        )
    found = [(folder / f"{stem}.{suffix}", suffix) for suffix in SUFFIXES if (folder / f"{stem}.{suffix}").is_file()]
    if not found:
        raise UsageError(f"{folder} holds no {stem}.{{{','.join(SUFFIXES)}}}: export it there, or `vlm4rec import`")
    if len(found) > 1:
        names = " and ".join(path.name for path, _ in found)
        raise UsageError(f"{folder} holds {names}: keep one, since they would be the same table twice")
    return found[0]


def inspect(folder: Path, stem: str, memory: Path) -> RawFile:
    """Read one raw file through and return what it holds, remembering the outcome in the folder `memory`.

    Raises:
        UsageError: the file is missing, empty, unreadable, not UTF-8, or lacks a required column.
    """
    path, kind = find(folder, stem)
    stat = path.stat()
    known = memory / "raw" / f"{_digest(f'{path.resolve()} {stat.st_size} {stat.st_mtime_ns}'.encode())}.json"
    if known.is_file():
        fields = json.loads(known.read_text())
        return RawFile(**{**fields, "columns": tuple(fields["columns"])})
    file = _read_through(path, kind, stem)
    known.parent.mkdir(parents=True, exist_ok=True)
    temporary = known.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(asdict(file)))
    temporary.replace(known)
    return file


def photos_fingerprint(folder: Path) -> str:
    """Return a hash over path, size and modification time of every file that is not a raw table: the photos."""
    tables = {f"{stem}.{suffix}" for stem in (*REQUIRED, "users") for suffix in SUFFIXES}
    entries = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            relative = path.relative_to(folder).as_posix()
            if relative not in tables:
                stat = path.lstat()
                entries.append(f"{relative}\0{stat.st_size}\0{stat.st_mtime_ns}")
    return _digest("\n".join(sorted(entries)).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read_through(path: Path, kind: str, stem: str) -> RawFile:
    import duckdb

    if path.stat().st_size == 0:
        raise UsageError(f"{path} is empty: it needs at least the columns {', '.join(REQUIRED[stem])}")
    try:
        columns, rows = _columns_and_rows(path, kind)
    except duckdb.Error as error:
        raise UsageError(f"{path} cannot be read: {_first_line(error)}{_hint(path, error)}") from None
    missing = [name for name in REQUIRED[stem] if name not in columns]
    if missing:
        raise UsageError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(columns)}: rename them, or use"
            " `vlm4rec import generic --map`"
        )
    if stem == "items" and rows == 0:
        raise UsageError(f"{path} is empty: it has a header and no rows")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return RawFile(str(path), kind, sha256, columns, rows)


def _columns_and_rows(path: Path, kind: str) -> tuple[tuple[str, ...], int]:
    """Parse every value of the file once, so that a bad line is told now and not in the middle of a plan."""
    import duckdb

    with duckdb.connect() as connection:
        # The reader is one of four constants above; the path is bound.
        source = connection.execute(f"SELECT COUNT(*), COUNT(COLUMNS(*)) FROM {READERS[kind]}", [str(path)])  # noqa: S608
        columns = tuple(column[0] for column in source.description[1:])
        row = source.fetchone()
        rows = int(row[0]) if row else 0
        if kind == "jsonl":
            keys = connection.execute(
                "SELECT DISTINCT UNNEST(JSON_KEYS(json)) FROM READ_NDJSON_OBJECTS(?)", [str(path)]
            ).fetchall()
            columns = tuple(sorted(str(key) for (key,) in keys))
    return columns, rows


def _first_line(error: Exception) -> str:
    text = str(error).split(": ", 1)[-1].replace("Error when sniffing file", "the columns cannot be told in")
    for line in text.splitlines():
        if "Error on Line" not in line and "Original Line" not in line and line.strip():
            return line.strip().rstrip(".")
    return text.splitlines()[0]


def _hint(path: Path, error: Exception) -> str:
    if "utf-8" in str(error) or "unicode" in str(error):
        return f" (save it as UTF-8, for example `iconv -f latin1 -t utf-8 {path.name}`)"
    if "sniffing" in str(error):
        return " (commas between values, the same number of them on each line, one kind of line end)"
    return ""
