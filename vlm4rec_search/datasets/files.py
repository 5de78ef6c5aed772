"""Names and formats of delivered files, and the readers of the public data sets.

A relation is lazy and streams, so that a file larger than the memory can be read. Every mistake in a file is a
`UsageError` of one line that names the file. Files of the raw contract are read by `records`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.sql import quote_text

COMPRESSIONS = ("", ".gz", ".zst")
FORMATS = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".ndjson")
"""File formats of the raw data contract."""
SUFFIXES = tuple(f"{kind}{packed}" for kind in FORMATS for packed in COMPRESSIONS if kind != ".parquet" or not packed)
"""Ends of the names of their files."""
OTHER_SUFFIXES = (
    ".json", ".gz", ".zst", ".bz2", ".xz", ".zip", ".7z", ".tar", ".tgz", ".xlsx", ".xls", ".ods", ".xml", ".avro",
    ".orc", ".feather", ".arrow", ".pq", ".dat", ".tab", ".psv", ".db", ".sqlite", ".duckdb",
)  # fmt: skip
"""Ends of the names of other files of data."""
_MAX_MESSAGE = 500  # characters; DuckDB quotes the whole line that it cannot read


def find_file(folder: Path, stem: str, suffixes: Iterable[str] = SUFFIXES) -> Path | None:
    """Return the only file of the folder with this stem and one of the suffixes, or None if there is none.

    Raises:
        UsageError: there is more than one such file.
    """
    return only_file([path for path in (folder / f"{stem}{suffix}" for suffix in suffixes) if path.is_file()])


def only_file(paths: Sequence[Path]) -> Path | None:
    """Return the only path of a list, or None if the list is empty.

    Raises:
        UsageError: the list has more than one path.
    """
    if len(paths) > 1:
        raise UsageError(f"{paths[0]} and {paths[1]} hold the same table; keep one of them")
    return paths[0] if paths else None


def kind_of(path: Path) -> Literal["parquet", "jsonl", "csv"]:
    """Return how a file is read, by its suffix: what is neither Parquet nor JSON is delimited text."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        return "parquet"
    return "jsonl" if name.endswith((".jsonl", ".ndjson", ".json")) else "csv"


def open_csv(connection: duckdb.DuckDBPyConnection, path: Path, columns: Iterable[str]) -> duckdb.DuckDBPyRelation:
    """Open a comma-separated file with a header, plain or compressed; every value is text as delivered.

    Raises:
        UsageError: the file cannot be read, holds no rows, or lacks one of `columns`.
    """
    check_compression(path)
    with read_errors(path):
        # Without skip, comment and quotes, DuckDB may take an unusual first row for a preamble and drop it, or rows
        # that begin with # for comments.
        relation = connection.sql(f"""
            SELECT * FROM READ_CSV(
              {quote_text(str(path))}, delim = ',', header = TRUE, all_varchar = TRUE, skip = 0, quote = '"',
              escape = '"', comment = '', hive_partitioning = FALSE
            )
        """)  # noqa: S608
    relation = _not_empty(relation, path)
    require_columns(relation.columns, columns, path)
    return relation


def open_json_lines(
    connection: duckdb.DuckDBPyConnection, path: Path, columns: dict[str, str], ids: Iterable[str]
) -> duckdb.DuckDBPyRelation:
    """Open a file with one JSON object per line, plain or compressed.

    A key that a line lacks is NULL; a line that is no JSON object becomes a row of NULLs.

    Args:
        connection: the connection of the relation.
        path: the file.
        columns: keys to read, with their DuckDB types.
        ids: some of the keys; the first line must have a value for at least one of them.

    Raises:
        UsageError: the file cannot be read, or its first line has none of the keys `ids`, so that it is a file of
            another kind.
    """
    check_compression(path)
    with read_errors(path):
        relation = connection.read_json(
            str(path), columns=columns, format="newline_delimited", ignore_errors=True, hive_partitioning=False
        )
        first = relation.project(", ".join(ids)).limit(1).fetchone()
    if first is None or all(value is None for value in first):
        raise UsageError(f"{path} does not begin with a JSON object that has the key {' or '.join(ids)}")
    return relation


def open_parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """Open a Parquet file. A folder named price=9 in its path adds no column."""
    return connection.read_parquet(str(path), hive_partitioning=False)


def compression_of(path: Path) -> Literal["gzip", "zstd"] | None:
    """Return how a file is compressed: by its first bytes, since browsers unpack what they load and keep its name.

    Where these are neither text nor known, the file is damaged, and its name counts.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    is_text = not any(byte < ord("\t") for byte in head)
    return None if is_text else "gzip" if path.suffix == ".gz" else "zstd" if path.suffix == ".zst" else None


def check_compression(path: Path) -> None:
    """Decompress a .gz or .zst file to its end, because DuckDB reads a truncated file without an error.

    Raises:
        UsageError: the file is damaged or truncated.
    """
    if path.suffix not in (".gz", ".zst"):
        return
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            while stream.read(1 << 20):
                pass
    except OSError as error:
        raise UsageError(f"{path} cannot be read to its end ({error}): is the download complete?") from None


def require_columns(columns: Iterable[str], required: Iterable[str], path: Path) -> None:
    """Check that `columns`, those of the file `path`, include the required ones.

    Raises:
        UsageError: a required column is missing; the message names the columns of the file.
    """
    present = list(columns)
    if absent := [name for name in required if name not in present]:
        raise UsageError(
            f"{path} has no column {', '.join(absent)}; it has {', '.join(present)}: rename one, or map it with"
            " `vlm4rec import generic --map`"
        )


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Raise each DuckDB error of the block as a `UsageError` of one line: `path` cannot be read."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, UnicodeError) as error:  # the last of names in a damaged Parquet file
        raise UsageError(f"{path} cannot be read: {_explain(str(error))}") from None


def broken_name(table: str) -> str:
    """Return the name of the file in a data folder that keeps what an import could not read of a table."""
    return f"{table}.broken.parquet"


def _not_empty(relation: duckdb.DuckDBPyRelation, path: Path) -> duckdb.DuckDBPyRelation:
    with read_errors(path):
        first = relation.limit(1).fetchone()
    if first is None:
        raise UsageError(f"{path} holds no rows")
    return relation


def _explain(message: str) -> str:
    if "not utf-8 encoded" in message:
        return "it is not UTF-8 text; convert it first, e.g. iconv -f latin1 -t utf-8"
    if "Invalid UTF8 payload" in message:  # of Arrow, which reads no such dictionary
        return "a text in a column of categories (a dictionary) is no UTF-8; save the column as plain texts"
    if "sniffing" in message:
        return (
            "its lines do not look like one CSV table; mixed line ends or rows of different lengths are common causes"
        )
    return ", ".join(message.splitlines()[:3])[:_MAX_MESSAGE]
