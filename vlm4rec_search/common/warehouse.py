"""The DuckDB warehouse: `sqlmesh plan` alone writes it, everybody else reads it in short connections.

DuckDB lets one process write, and an open read-only connection elsewhere makes a plan fail. So commands read and close
at once, and analysts get a copy of their own (`publish`) that is replaced in one step.
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_PARTIAL = ".publishing-"
_STALE_SECONDS = 3600.0


def schema(layer: str, environment: str = "prod") -> str:
    """Name the schema of a layer in an environment: `search` in prod, `search__dev` in dev.

    The environment is normalised as SQLMesh does it (lower case, other characters than letters, digits and `_`
    become `_`), so the name is safe inside double quotes.
    """
    name = re.sub(r"\W", "_", environment).lower()
    return layer if name == "prod" else f"{layer}__{name}"


def in_environment(query: str, environment: str = "prod") -> str:
    """Point every `layer.table` of a DuckDB query at the environment's schemas.

    Raises:
        sqlglot.errors.SqlglotError: the query is not valid SQL.
    """
    from sqlglot import exp, parse_one

    tree = parse_one(query, dialect="duckdb")
    for table in tree.find_all(exp.Table):
        if table.db:
            table.set("db", exp.to_identifier(schema(table.db, environment), quoted=True))
    return tree.sql(dialect="duckdb", comments=False)


@contextmanager
def read(path: Path) -> Iterator["DuckDBPyConnection"]:
    """Yield a read-only connection to the warehouse and close it at the end of the block; keep the block short.

    Raises:
        UsageError: the file is missing or no DuckDB database, or the block asks for a table that no plan has built.
        RunError: another process is writing the warehouse.
    """
    import duckdb

    connection = _open(path)
    try:
        yield connection
    except duckdb.CatalogException as error:
        detail = _first_line(error)
        if not detail.startswith("Table with name"):
            raise
        raise UsageError(f"{path}: {detail} Run `sqlmesh plan` (or `sqlmesh plan ENVIRONMENT`) first") from None
    finally:
        connection.close()


def check_writable(path: Path) -> None:
    """Make sure that a plan could write the warehouse now; a file that does not exist yet is fine.

    Raises:
        UsageError: the file is no DuckDB database.
        RunError: another process has it open, be it only to read.
    """
    import duckdb

    if path.exists():
        try:
            duckdb.connect(path).close()
        except duckdb.Error as error:
            raise _explain(path, error) from None


def publish(warehouse: Path, folder: Path) -> Path:
    """Replace the analysts' read-only copy of the warehouse in `folder` in one step and return its path.

    The copy keeps the file name, since the views inside name their catalog after it. It is taken while no plan can
    write, includes what is still in the write-ahead log, and has been opened once before it replaces the old copy.
    Readers that have the old copy open go on undisturbed.

    Raises:
        UsageError: no warehouse yet, or `folder` is the warehouse's own.
        RunError: a plan is writing the warehouse, or the copy cannot be written.
    """
    target = folder / warehouse.name
    if target.resolve() == warehouse.resolve():
        raise UsageError(f"{folder} is the folder of the warehouse itself: publish its copy to another one")
    try:
        with read(warehouse):
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            with TemporaryDirectory(dir=folder, prefix=_PARTIAL) as partial:
                copy = _copy(warehouse, Path(partial))
                # A log left by somebody who wrote into the old copy would be replayed into the new one.
                _log(target).unlink(missing_ok=True)
                copy.replace(target)
    except OSError as error:
        raise RunError(f"cannot publish to {folder}: {error.strerror or error}") from None
    return target


def _copy(warehouse: Path, folder: Path) -> Path:
    """Copy the database and its write-ahead log, and fold the log into the copy."""
    import duckdb

    copy = folder / warehouse.name
    # The database comes last: POSIX drops every lock this process holds on a file when it closes any handle of it.
    if _log(warehouse).exists():
        shutil.copyfile(_log(warehouse), _log(copy))
    shutil.copyfile(warehouse, copy)
    try:
        with duckdb.connect(copy) as connection:
            connection.execute("checkpoint")
    except duckdb.Error as error:
        raise RunError(f"the copy of {warehouse} cannot be opened, the old copy stays: {_first_line(error)}") from None
    copy.chmod(0o444)  # `duckdb FILE` opens for writing by default, which would lock every other reader out
    return copy


def _open(path: Path) -> "DuckDBPyConnection":
    import duckdb

    if not path.is_file():
        raise UsageError(f"no warehouse at {path}: run `sqlmesh plan` first, or set VLM4REC_WAREHOUSE")
    try:
        return duckdb.connect(path, read_only=True)
    except duckdb.Error as error:
        raise _explain(path, error) from None


def _explain(path: Path, error: "Exception") -> Vlm4recError:
    text = str(error)
    if "Could not set lock" in text or "different configuration" in text:
        holder = re.search(r"PID \d+", text)
        who = f"another process ({holder[0]})" if holder else "this process"
        return RunError(f"{path} is locked by {who}, a `sqlmesh plan` or an open reader: try again when that has ended")
    if "not a valid DuckDB" in text or "in-memory database" in text:
        return UsageError(f"{path} is not a DuckDB database: point VLM4REC_WAREHOUSE at the file of `sqlmesh plan`")
    return RunError(f"cannot open {path}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return re.sub(r"^\w+ Error: ", "", str(error).strip().splitlines()[0])


def _log(database: Path) -> Path:
    return Path(f"{database}.wal")


def _sweep(folder: Path) -> None:
    """Remove what killed runs left; a younger folder may belong to a run that is still copying."""
    for partial in folder.glob(f"{_PARTIAL}*"):
        if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(partial, ignore_errors=True)
