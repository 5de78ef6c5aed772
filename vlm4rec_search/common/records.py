"""DuckDB files of records, which several commands write in turn: adds rows, and waits for those who write."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

import duckdb
import pyarrow as pa
from tenacity import Retrying, retry_if_exception, retry_if_exception_type, stop_after_delay, wait_random

from vlm4rec_search.common.errors import RunError, first_line

PATIENCE = 30.0  # seconds to wait while another process has the file open
_CURE = (
    "it is damaged: move it away, and take it from a backup, which is a zip file; without one the command begins a new"
    " file, and no table or release is lost"
)
_DAMAGE = ("not a valid DuckDB database", "Corrupt database file", "Could not read enough bytes", "replaying WAL")

T = TypeVar("T")

Rows: TypeAlias = list[dict[str, object]] | pa.Table


Create: TypeAlias = str | Callable[[duckdb.DuckDBPyConnection], object]
Tables: TypeAlias = Mapping[str, Rows] | Callable[[], Iterable[tuple[str, Rows]]]


def append_rows(path: Path, create: Create, tables: Tables, setting: str) -> None:
    """Create or change tables of a file and add rows to them, in one transaction.

    Args:
        path: the DuckDB file, created where it is missing.
        create: statements that create the tables where they are missing, or a function that runs them.
        tables: rows by name of the table; columns are matched by name. A function yields rows that need not be in
            memory at once, from the beginning each time that it is called.
        setting: environment variable that names the file, for the message of an error.

    Raises:
        RunError: the file or its folder cannot be written.
    """
    locked = retry_if_exception_type(duckdb.IOException)  # another process has the file open for a moment
    retrying = Retrying(retry=locked, stop=stop_after_delay(PATIENCE), wait=wait_random(0.1, 0.5), reraise=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        retrying(_insert, path, create, tables)
    except (OSError, duckdb.Error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        cure = _CURE if _is_damaged(error) else f"close it elsewhere, or set {setting}"
        raise RunError(f"cannot write {path} ({reason}): {cure}") from None


def check_undamaged(path: Path) -> None:
    """Refuse a file that `append_rows` could not write; a missing one, and one that another process has open, pass.

    Raises:
        RunError: the file is damaged.
    """
    try:
        if path.is_file():
            duckdb.connect(str(path), read_only=True).close()
    except duckdb.Error as error:
        if _is_damaged(error):
            raise RunError(f"cannot write {path} ({first_line(error)}): {_CURE}") from None


def is_in_use(error: BaseException) -> bool:
    """Return whether another process had a DuckDB file open that this one was to open."""
    return isinstance(error, duckdb.IOException) and "Could not set lock on file" in str(error)


def _is_damaged(error: BaseException) -> bool:
    return isinstance(error, duckdb.Error) and any(text in str(error) for text in _DAMAGE)


def when_free(read: Callable[[], T]) -> T:
    """Return what a function reads of a DuckDB file; while another process writes the file, wait up to `PATIENCE`."""
    in_use = retry_if_exception(is_in_use)
    return Retrying(retry=in_use, stop=stop_after_delay(PATIENCE), wait=wait_random(0.1, 0.5), reraise=True)(read)


def _insert(path: Path, create: Create, tables: Tables) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("BEGIN")
        if callable(create):
            create(connection)
        else:
            connection.execute(create)
        for name, rows in tables() if callable(tables) else tables.items():
            if len(rows):
                table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
                connection.register("incoming", table)
                connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM incoming")  # noqa: S608  our own names
                connection.unregister("incoming")
        connection.execute("COMMIT")
