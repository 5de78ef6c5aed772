"""Files of public data sets, plain or compressed (gz, zst), as lazy relations that DuckDB streams."""

from collections.abc import Iterable
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.files import COMPRESSIONS, check_whole, read_csv, reading, require


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
