"""Removes the rows of shoppers from a DuckDB, SQLite, Parquet or CSV file.

The rows are those with such an id in a column `user_id`, or in a column `id` beside a column `kind` that says user.
"""

import csv
import fcntl
import os
import sqlite3
from collections.abc import Container, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from vlm4rec_search.common.csv_records import csv_records
from vlm4rec_search.common.errors import RunError, first_line
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.common.sql import quote_name, quote_text
from vlm4rec_search.common.warehouse import detach, replacing_database

USER = "user_id"
ERASING = ".erasing-"
"""How the names of folders begin in which a file is made anew."""
_PATIENCE = 30.0  # seconds to wait for another process that uses a SQLite file
_CHUNK = 1_000  # rows of a transaction: a service writes between two of them
ERASABLE = {".duckdb": "duckdb", ".db": "duckdb", ".sqlite": "sqlite", ".parquet": "parquet", ".csv": "csv"}
"""The kinds of files, by the suffixes of their names."""
_TABLES = """
SELECT columns.schema_name, columns.table_name, LIST(columns.column_name)
FROM duckdb_columns() AS columns INNER JOIN duckdb_tables() AS tables USING (database_name, schema_name, table_name)
WHERE columns.database_name = ? GROUP BY ALL ORDER BY ALL
"""


def erase_rows(path: Path, users: Container[str], dry_run: bool = False) -> int:
    """Remove the rows of shoppers from a file, and return how many there are; 0 for a missing file.

    A DuckDB or Parquet file is replaced in one step by one that never held the rows: open readers keep the old one. In
    a SQLite or CSV file the rows are overwritten.

    Args:
        path: its suffix says what it is.
        users: contains the ids of the shoppers.
        dry_run: only count.

    Raises:
        RunError: the file cannot be read or written, for example because another process writes it.
    """
    if not path.is_file():
        return 0
    kind = ERASABLE.get(path.suffix.lower())
    if kind is None:
        raise RunError(f"cannot remove rows from {path}: the name of the file has to end with {', '.join(ERASABLE)}")
    erase = {"duckdb": erase_from_duckdb, "sqlite": _erase_sqlite, "parquet": _erase_parquet, "csv": _erase_csv}[kind]
    with _errors(path):
        return erase(path, users, dry_run)


def erase_from_duckdb(path: Path, users: Container[str], dry_run: bool, then: str = "") -> int:
    """Remove the rows of shoppers from a DuckDB file as `erase_rows` does, and run the SQL `then` in a changed file."""
    with _errors(path), duckdb.connect() as connection:
        connection.execute(f"ATTACH {quote_text(str(path))} AS old (READ_ONLY)")
        conditions: dict[str, tuple[str, list[str]]] = {}
        rows = 0
        for schema, table, columns in connection.execute(_TABLES, ["old"]).fetchall():
            column, scope = (USER, "TRUE") if USER in columns else ("id", "kind = 'user'")
            if USER not in columns and not {"id", "kind"} <= set(columns):
                continue
            name = f"{quote_name(schema)}.{quote_name(table)}"
            source = f"FROM old.{name} WHERE {scope}"
            ids = connection.execute(f"SELECT {column}, COUNT(*) {source} GROUP BY ALL").fetchall()
            if found := [(user, count) for user, count in ids if user in users]:
                conditions[name] = f"{column} IN (SELECT UNNEST(?)) AND {scope}", [user for user, _ in found]
                rows += sum(count for _, count in found)
        if dry_run or not rows:
            return rows
        # A deletion leaves the rows in free pages of the file: the second copy is made of what is left.
        with TemporaryDirectory(dir=path.parent, prefix=ERASING) as folder, replacing_database(path) as second:
            for part, name in ((Path(folder) / path.name, "first"), (second, "second")):
                connection.execute(f"ATTACH {quote_text(str(part))} AS {name}")
            connection.execute("COPY FROM DATABASE old TO first; USE first")
            for name, (condition, found_ids) in conditions.items():
                connection.execute(f"DELETE FROM {name} WHERE {condition}", [found_ids])  # noqa: S608  quoted
            connection.execute(f"{then}; CHECKPOINT first" if then else "CHECKPOINT first")
            connection.execute("COPY FROM DATABASE first TO second; USE memory; DETACH first; DETACH old")
            detach(connection, "second")
            second.chmod(path.stat().st_mode)
    return rows


def _erase_sqlite(path: Path, users: Container[str], dry_run: bool) -> int:
    rows, is_user = 0, cache(users.__contains__)
    with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            name = quote_name(table)
            columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
            if USER not in [column[1] for column in columns]:
                continue
            key = [quote_name(column[1]) for column in columns if column[5]] or ["rowid"]
            selected = f"SELECT {USER}, {', '.join(key)} FROM {name}"  # noqa: S608  quoted
            found = [place for user, *place in connection.execute(selected) if is_user(user)]
            rows += len(found)
            deletion = f"DELETE FROM {name} WHERE {' AND '.join(f'{column} IS ?' for column in key)}"  # noqa: S608
            for start in range(0, 0 if dry_run else len(found), _CHUNK):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(deletion, found[start : start + _CHUNK])
                connection.execute("COMMIT")
        # Also without rows: those that an earlier call has deleted may still be in the file, or in its log.
        if not dry_run and connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise RunError(f"{path} is busy, and its log may still have removed rows: run `vlm4rec forget` again")
    return rows


def _erase_parquet(path: Path, users: Container[str], dry_run: bool) -> int:
    with pq.ParquetFile(path) as file:
        if USER not in file.schema_arrow.names:
            return 0
        rows = sum(
            count
            for batch in file.iter_batches(columns=[USER])
            for user, count in _counts(batch.column(0))
            if user in users
        )
        if dry_run or not rows:
            return rows
        with replacing_file(path) as part, pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as writer:
            for batch in file.iter_batches():
                column = batch.column(batch.schema.get_field_index(USER))
                kept = [user not in users for user in column.cast(pa.string()).to_pylist()]
                writer.write_batch(batch.filter(pa.array(kept, pa.bool_())))
    return rows


def _erase_csv(path: Path, users: Container[str], dry_run: bool) -> int:
    with path.open("r+", encoding="utf-8", errors="surrogateescape", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as those who append to the file do
        lines = list(file)
        records = list(csv_records(lines))
        header = records[0][1] if records else []
        if USER not in header:
            return 0
        column = header.index(USER)
        kept = [text for text, row in records if row[column : column + 1] == [] or row[column] not in users]
        if len(kept) < len(records) and not dry_run:
            file.seek(0)
            file.writelines(kept)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    return len(records) - len(kept)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, sqlite3.Error, pa.ArrowException, csv.Error, UnicodeError, OSError) as error:
        raise RunError(f"cannot remove rows from {path}: {first_line(error)}") from None


def _counts(column: pa.Array) -> Iterable[tuple[str, int]]:
    counted = column.cast(pa.string()).value_counts()
    return zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
