"""Access to the DuckDB warehouse, which only `sqlmesh plan` writes.

DuckDB lets one process write, and a plan fails while any other process has the file open. So commands read in short
connections, and analysts get a copy of their own, which is replaced in one step.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError, first_line
from vlm4rec_search.common.paths import remove_stale, replacing_file
from vlm4rec_search.common.sql import quote_name

PUBLISHING = ".publishing-"
"""How the names of folders begin in which a copy is made."""


def connection_options(memory: str | None) -> dict[str, str]:
    """Return DuckDB's options for the connection of a plan.

    Numbers are not compressed by ALP, which takes a third of the time in which vectors are written and makes them no
    smaller.

    Args:
        memory: most memory of the database, such as 8GB; None for DuckDB's own limit, 80% of the machine's.
    """
    options = {"disabled_compression_methods": "alp,alprd"}
    return options | {"memory_limit": memory} if memory else options


def schema(layer: str, environment: str = "prod") -> str:
    """Return the schema of a layer in an environment: `search` in prod, `search__dev` in dev.

    The environment is normalised as in SQLMesh: lower case, and `_` for every character but letters, digits and `_`. So
    the name is safe inside double quotes.
    """
    name = re.sub(r"\W", "_", environment).lower()
    return layer if name == "prod" else f"{layer}__{name}"


def in_environment(query: str, environment: str = "prod") -> str:
    """Replace the schema of each `layer.table` in a DuckDB query by that of the environment.

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
def read(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a read-only connection to the warehouse for the block, which should be short.

    Raises:
        UsageError: the file is missing or no DuckDB database, or the block reads a table or a column that no
            plan has built.
        RunError: another process is writing the warehouse.
    """
    connection = _open(path)
    try:
        yield connection
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        detail = _first_line(error)
        if not detail.startswith(("Table with name", "Referenced column")):
            raise
        advice = "Run `sqlmesh plan` (or `sqlmesh plan ENVIRONMENT`) first, and `vlm4rec upgrade` after a new version"
        raise UsageError(f"{path}: {detail} {advice}") from None
    finally:
        connection.close()


def check_writable(path: Path) -> None:
    """Check that a plan can write the warehouse now. A file that does not exist yet passes.

    Raises:
        UsageError: the file is no DuckDB database.
        RunError: another process has the file open, for writing or reading.
    """
    if path.exists():
        try:
            duckdb.connect(path).close()
        except duckdb.Error as error:
            raise _open_error(path, error) from None


@contextmanager
def replacing_database(path: Path) -> Iterator[Path]:
    """Replace a DuckDB file as `replacing_file` does, and remove the write-ahead log of the old one just before.

    DuckDB would replay that log into the new file. A log that an error leaves beside the new file is removed, too.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing_file(path) as part:
        try:
            yield part
            _log_file(path).unlink(missing_ok=True)
        finally:
            _log_file(part).unlink(missing_ok=True)


def detach(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Write an attached DuckDB file whole to the disk and detach it; `memory` is the current database then.

    On a full disk a DETACH alone does not say why it fails, and the end of a connection leaves the rows in the
    write-ahead log without a word.

    Raises:
        duckdb.Error: the file cannot be written.
    """
    connection.execute(f"CHECKPOINT {quote_name(name)}; USE memory; DETACH {quote_name(name)}")


@contextmanager
def replacing(warehouse: Path, folder: Path) -> Iterator[Path]:
    """Yield the path of a new DuckDB file, which replaces `folder/<name of the warehouse>` after the block.

    The replacement is one step, and the new file is read-only. Readers that have the old file open can go on reading
    it. After an error in the block the old file stays.

    Raises:
        UsageError: `folder` is the folder of the warehouse.
        RunError: the folder cannot be written.
    """
    target = folder / warehouse.name
    if target.resolve() == warehouse.resolve():
        raise UsageError(f"{folder} is the folder of the warehouse itself: publish its copy to another one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # what another user's process has left stops no copy
            remove_stale(folder, f"{PUBLISHING}*")
        with TemporaryDirectory(dir=folder, prefix=PUBLISHING) as partial:
            path = Path(partial) / warehouse.name
            yield path
            path.chmod(0o444)  # `duckdb FILE` opens for writing by default, which would lock out all other readers
            with replacing_database(target) as part:
                path.rename(part)
    except OSError as error:
        raise RunError(f"cannot publish to {folder}: {error.strerror or error}") from None


def copy_warehouse(warehouse: Path, folder: Path) -> Path:
    """Replace the copy of the whole warehouse file in `folder` in one step, SQLMesh's state included; return its path.

    The copy has the same file name, because the views inside refer to their catalog by it. It is made while no plan can
    write, includes the write-ahead log, and is opened once as a test before it replaces the old copy.

    Raises:
        UsageError: there is no warehouse yet, or `folder` is the folder of the warehouse.
        RunError: a plan is writing the warehouse, or the copy cannot be written.
    """
    with read(warehouse), replacing(warehouse, folder) as path:
        _copy(warehouse, path)
    return folder / warehouse.name


def _copy(warehouse: Path, copy: Path) -> None:
    """Copy the database and its write-ahead log, and merge the log into the copy."""
    # The database is copied last: closing a handle of a file drops all POSIX locks of this process on that file.
    if _log_file(warehouse).exists():
        shutil.copyfile(_log_file(warehouse), _log_file(copy))
    shutil.copyfile(warehouse, copy)
    try:
        with duckdb.connect(copy) as connection:
            connection.execute("checkpoint")
    except duckdb.Error as error:
        raise RunError(f"the copy of {warehouse} cannot be opened, the old copy stays: {_first_line(error)}") from None


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    if not path.is_file():
        raise UsageError(f"no warehouse at {path}: run `sqlmesh plan` first, or set VLM4REC_WAREHOUSE")
    try:
        return duckdb.connect(path, read_only=True)
    except duckdb.Error as error:
        raise _open_error(path, error) from None


def _open_error(path: Path, error: Exception) -> Vlm4recError:
    text = str(error)
    if "Could not set lock" in text or "different configuration" in text:
        holder = re.search(r"PID \d+", text)
        owner = f"another process ({holder[0]})" if holder else "this process"
        return RunError(
            f"{path} is locked by {owner}, a `sqlmesh plan` or an open reader: try again when that has ended"
        )
    if "not a valid DuckDB" in text or "in-memory database" in text:
        return UsageError(f"{path} is not a DuckDB database: point VLM4REC_WAREHOUSE at the file of `sqlmesh plan`")
    return RunError(f"cannot open {path}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return re.sub(r"^\w+ Error: ", "", first_line(error))


def _log_file(database: Path) -> Path:
    return Path(f"{database}.wal")
