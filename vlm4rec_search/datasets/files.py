"""Tables in files (csv, csv.gz, parquet, jsonl), read by DuckDB, which streams them; mistakes told in one line."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import UsageError

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".jsonl")
COMPRESSIONS = ("", ".gz", ".zst")
LONGEST_MESSAGE = 500  # of DuckDB's, which quotes the whole line that it cannot read


def quoted(name: str) -> str:
    """Return a column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def find_table(folder: Path, stem: str) -> Path | None:
    """Return the one file of the folder that holds a table, e.g. `items.csv` for the stem `items`, or None.

    Raises:
        UsageError: there are two.
    """
    files = [folder / f"{stem}{suffix}" for suffix in SUFFIXES if (folder / f"{stem}{suffix}").is_file()]
    if len(files) > 1:
        raise UsageError(f"{folder} holds {' and '.join(path.name for path in files)}; keep one of them")
    return files[0] if files else None


def open_table(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """Open a file as a lazy relation.

    Columns of csv and jsonl are text as delivered, so that "00001" stays "00001" (nested JSON values are JSON text);
    columns of parquet keep their types.

    Raises:
        UsageError: the file is missing, empty, of another format, or cannot be read.
    """
    if not path.name.endswith(SUFFIXES):
        raise UsageError(f"{path} is none of {', '.join(suffix[1:] for suffix in SUFFIXES)}")
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    with reading(path):
        relation = _relation(connection, path)
        if relation.limit(1).fetchone() is None:
            raise UsageError(f"{path} holds no rows")
    return relation


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what DuckDB says about a file that it cannot read into one line."""
    try:
        yield
    except duckdb.Error as error:
        raise UsageError(f"{path} cannot be read: {_in_one_line(str(error))}") from None


def check_whole(path: Path) -> None:
    """Decompress a .gz or .zst file to its end: DuckDB takes a truncated one for a shorter one, without a word.

    Raises:
        UsageError: the file is damaged, or ends too early.
    """
    if path.suffix not in COMPRESSIONS:
        return
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            while stream.read(1 << 20):
                pass
    except OSError as error:
        raise UsageError(f"{path} cannot be read to its end ({error}): is the download complete?") from None


def require(columns: Iterable[str], wanted: Iterable[str], path: Path) -> None:
    """Check that the columns are there.

    Raises:
        UsageError: one is not; the message names those that are.
    """
    there = list(columns)
    if absent := [name for name in wanted if name not in there]:
        raise UsageError(
            f"{path} has no column {', '.join(absent)}; it has {', '.join(there)}: rename one, or map it with"
            " `vlm4rec import generic --map`"
        )


def read_parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """Open a Parquet file; a folder named price=9 is a folder, and adds no column."""
    return connection.read_parquet(str(path), hive_partitioning=False)


def read_csv(
    connection: duckdb.DuckDBPyConnection, path: Path, separator: str | None = None
) -> duckdb.DuckDBPyRelation:
    """Open a CSV file as text; a folder named price=9 is a folder, and adds no column.

    Args:
        connection: of the relation.
        path: the file, its first line the names of the columns.
        separator: None lets DuckDB find it.
    """
    # Without these the sniffer may take a first row that it does not like for a preamble, and drop it.
    return connection.read_csv(
        str(path),
        sep=separator,
        header=True,
        all_varchar=True,
        skiprows=0,
        quotechar='"',
        escapechar='"',
        hive_partitioning=False,
    )


def _relation(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    if path.suffix == ".parquet":
        return read_parquet(connection, path)
    if path.suffix == ".jsonl":
        # One level deep every column is JSON, whatever a sample of the rows suggests.
        values = connection.read_json(
            str(path), format="newline_delimited", maximum_depth=1, sample_size=-1, hive_partitioning=False
        )
        return values.project(", ".join(f"{quoted(name)} ->> '$' AS {quoted(name)}" for name in values.columns))
    return read_csv(connection, path)


def _in_one_line(message: str) -> str:
    if "not utf-8 encoded" in message:
        return "it is not UTF-8 text; convert it first, e.g. iconv -f latin1 -t utf-8"
    if "sniffing" in message:
        return (
            "its lines do not look like one CSV table; mixed line ends or rows of different lengths are common causes"
        )
    return ", ".join(message.splitlines()[:3])[:LONGEST_MESSAGE]


# Files of public data sets, plain or compressed (gz, zst), as lazy relations that DuckDB streams.


def find_file(folder: Path, name: str) -> Path | None:
    """Return the one file `name`, `name.gz` or `name.zst` of the folder, or None.

    Raises:
        UsageError: there is more than one of them.
    """
    files = [path for path in (folder / f"{name}{end}" for end in COMPRESSIONS) if path.is_file()]
    return only(files)


def only(files: list[Path]) -> Path | None:
    """Return the one file of a list, or None when it is empty.

    Raises:
        UsageError: there is more than one.
    """
    if len(files) > 1:
        raise UsageError(f"{files[0]} and {files[1]} hold the same table; keep one of them")
    return files[0] if files else None


def open_csv(connection: duckdb.DuckDBPyConnection, path: Path, columns: Iterable[str]) -> duckdb.DuckDBPyRelation:
    """Open a comma-separated file with a header; every value is text as delivered.

    Raises:
        UsageError: the file cannot be read, holds no rows, or lacks one of `columns`.
    """
    check_whole(path)
    with reading(path):
        relation = read_csv(connection, path, ",")
        first = relation.limit(1).fetchone()
    if first is None:
        raise UsageError(f"{path} holds no rows")
    require(relation.columns, columns, path)
    return relation


def open_lines(
    connection: duckdb.DuckDBPyConnection, path: Path, columns: dict[str, str], ids: Iterable[str]
) -> duckdb.DuckDBPyRelation:
    """Open a file of one JSON object a line; `columns` are the keys to read, with their types.

    A key that a line lacks is NULL; a line that is no JSON object becomes a row of NULLs.

    Raises:
        UsageError: the file cannot be read, or its first line has none of the keys `ids`: it is another kind of file.
    """
    check_whole(path)
    with reading(path):
        relation = connection.read_json(
            str(path), columns=columns, format="newline_delimited", ignore_errors=True, hive_partitioning=False
        )
        first = relation.project(", ".join(ids)).limit(1).fetchone()
    if first is None or all(value is None for value in first):
        raise UsageError(f"{path} does not begin with a JSON object that has the key {' or '.join(ids)}")
    return relation
