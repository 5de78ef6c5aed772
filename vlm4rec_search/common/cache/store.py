"""The file of results: what model calls gave, why others failed, and the ledger of the runs, in SQLite (WAL)."""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from vlm4rec_search.common.cache.policy import EarlierError, Effort, Result, batches, result_key
from vlm4rec_search.common.errors import RunError

# What each run of model calls did and cost: one row for each run, in the cache's SQLite file.

_LEDGER = """
CREATE TABLE IF NOT EXISTS ledger (
    run INTEGER PRIMARY KEY, kind TEXT NOT NULL, maker TEXT NOT NULL, computed INTEGER NOT NULL,
    cached INTEGER NOT NULL, failed INTEGER NOT NULL, seconds REAL NOT NULL, started_at TEXT NOT NULL,
    finished BOOLEAN NOT NULL
)
"""
_ADDED = {  # since caches exist that were made without them
    "origin": "TEXT NOT NULL DEFAULT 'plan'",
    "tokens_in": "INTEGER NOT NULL DEFAULT 0",
    "tokens_out": "INTEGER NOT NULL DEFAULT 0",
    "cost": "REAL NOT NULL DEFAULT 0",
}


@dataclass
class LedgerRow:
    """What one fill did, in distinct keys; `finished` is false while it runs and after it was killed.

    `seconds` is wall time; `started_at` is UTC in ISO 8601; `origin` is plan, or the command that filled ahead of it;
    `cost` is in the currency of the prices in the settings.
    """

    run: int
    kind: str
    maker: str
    computed: int = 0
    cached: int = 0
    failed: int = 0
    seconds: float = 0.0
    started_at: str = ""
    finished: bool = False
    origin: str = "plan"
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


_COLUMNS = ", ".join(field.name for field in fields(LedgerRow))
_CHANGING = ("computed", "cached", "failed", "seconds", "finished", "tokens_in", "tokens_out", "cost")


def define(connection: sqlite3.Connection) -> None:
    """Create the table, or bring that of an older version up to date."""
    connection.execute(_LEDGER)
    if _missing(connection):
        connection.execute("BEGIN IMMEDIATE")  # another process may be at it, too
        for column in _missing(connection):
            connection.execute(f"ALTER TABLE ledger ADD COLUMN {column} {_ADDED[column]}")
        connection.execute("COMMIT")


def _missing(connection: sqlite3.Connection) -> list[str]:
    there = {row[1] for row in connection.execute("PRAGMA table_info(ledger)")}
    return [column for column in _ADDED if column not in there]


def begin(connection: sqlite3.Connection, kind: str, maker: str, origin: str, cached: int) -> LedgerRow:
    """Write and return the row of a run that starts."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    row = LedgerRow(0, kind, maker, cached=cached, started_at=started, origin=origin)
    insert = f"INSERT INTO ledger ({_COLUMNS}) VALUES (NULL, {', '.join('?' * (len(fields(LedgerRow)) - 1))})"  # noqa: S608
    values = [getattr(row, field.name) for field in fields(LedgerRow)[1:]]
    return replace(row, run=connection.execute(insert, values).lastrowid or 0)


def update(connection: sqlite3.Connection, row: LedgerRow) -> None:
    """Bring the row of a run up to date."""
    assigned = ", ".join(f"{name} = ?" for name in _CHANGING)
    values = [getattr(row, name) for name in _CHANGING]
    connection.execute(f"UPDATE ledger SET {assigned} WHERE run = ?", [*values, row.run])  # noqa: S608  our own names


def total(connection: sqlite3.Connection, kind: str, maker: str) -> int:
    """Return how many results of this kind and maker runs other than plans have computed."""
    query = "SELECT COALESCE(SUM(computed), 0) FROM ledger WHERE kind = ? AND maker = ? AND origin <> 'plan'"
    return int(connection.execute(query, [kind, maker]).fetchone()[0])


def rows(connection: sqlite3.Connection) -> Iterator[LedgerRow]:
    """Yield one row for each recorded fill, oldest first."""
    for values in connection.execute(f"SELECT {_COLUMNS} FROM ledger ORDER BY run"):  # noqa: S608
        row = LedgerRow(*values)
        yield replace(row, finished=bool(row.finished))


FILE = "results.sqlite"

_READ_CHUNK = 1000
_PATIENCE = 60.0  # seconds to wait for another process that writes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, maker TEXT NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, maker TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL,
    text TEXT NOT NULL, origin TEXT NOT NULL
);
"""
_RESULTS = "SELECT key, value FROM results WHERE key IN (SELECT value FROM json_each(?))"
_TRIED = "SELECT key, rowid FROM failures WHERE key IN (SELECT value FROM json_each(?))"
_FAILURES = "SELECT key, status, message, text FROM failures WHERE key IN (SELECT value FROM json_each(?))"


class Results:
    """The results and the ledger in `folder/results.sqlite`; several processes may use it at once.

    Raises:
        RunError: the file cannot be opened, read or written, now or later.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        with self._explained():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            self._share()
            self._db.execute("PRAGMA synchronous = NORMAL")  # a commit waits for no disk; only a power cut undoes some
            self._db.executescript(_SCHEMA)
            define(self._db)

    def _share(self) -> None:
        """Switch to WAL; of processes that open a new file at once, SQLite refuses all but one without waiting."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def ledger(self) -> list[LedgerRow]:
        """Return one row for each recorded fill, oldest first."""
        with self._explained():
            return list(rows(self._db))

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield key and result of those keys that have one."""
        for chunk in batches(keys, _READ_CHUNK):
            with self._explained():
                yield from self._db.execute(_RESULTS, [json.dumps(chunk)]).fetchall()

    def failures(self, keys: Sequence[str]) -> Iterator[tuple[str, EarlierError]]:
        """Yield key and failure of those keys that failed when they were last tried."""
        for chunk in batches(keys, _READ_CHUNK):
            with self._explained():
                rows = self._db.execute(_FAILURES, [json.dumps(chunk)]).fetchall()
            yield from ((key, EarlierError(*values)) for key, *values in rows)

    def tried(self, keys: Sequence[str]) -> dict[str, int]:
        """Return a number for each key that failed when it was last tried, larger for those that failed later."""
        found: dict[str, int] = {}
        for chunk in batches(keys, _READ_CHUNK):
            with self._explained():
                found |= dict(self._db.execute(_TRIED, [json.dumps(chunk)]).fetchall())
        return found

    def trim(self, kind: str, used: Sequence[str], spare: int) -> None:
        """Remove the results of a kind that are not `used`, once there are more than `spare` of them."""
        with self._explained():
            (held,) = self._db.execute("SELECT COUNT(*) FROM results WHERE kind = ?", [kind]).fetchone()
            if held > len(used) + spare:
                unused = "DELETE FROM results WHERE kind = ? AND key NOT IN (SELECT value FROM json_each(?))"
                self._db.execute(unused, [kind, json.dumps(used)])

    def revision(self, kind: str, maker: str) -> str:
        """Return a text that changes when a run other than a plan adds results or failures of this kind and maker."""
        query = "SELECT key, message FROM failures WHERE kind = ? AND maker = ? AND origin <> 'plan' ORDER BY key"
        with self._explained():
            failed = self._db.execute(query, [kind, maker]).fetchall()
            computed = total(self._db, kind, maker)
        return f"{computed}-{result_key(*(part for row in failed for part in row))[:12]}" if failed else str(computed)

    def _commit(self, row: LedgerRow, fresh: dict[str, Result], seconds: float, effort: Effort) -> None:
        """Keep the results of one batch and bring its ledger row up to date, in one transaction."""
        kept = [(key, row.kind, row.maker, value) for key, value in fresh.items() if isinstance(value, bytes)]
        failed = [(key, EarlierError.of(value)) for key, value in fresh.items() if not isinstance(value, bytes)]
        row.computed += len(kept)
        row.failed += len(failed)
        row.seconds = seconds
        meter = effort.meter
        row.tokens_in, row.tokens_out, row.cost = meter.tokens_in, meter.tokens_out, meter.cost
        with self._explained(), self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", kept)
            if row.run:
                self._db.executemany("DELETE FROM failures WHERE key = ?", [(key,) for key, *_ in kept])
                self._db.executemany(
                    "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(key, row.kind, row.maker, one.status, str(one), one.text, effort.origin) for key, one in failed],
                )
                update(self._db, row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        yield
        self._db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a failure of the file into one line; an open transaction is rolled back."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if hasattr(self, "_db") and self._db.in_transaction:
                self._db.rollback()
            raise RunError(
                f"the cache {self.path} cannot be used ({error}): move it aside (it holds paid results), make it "
                "writable, or set VLM4REC_CACHE to another folder"
            ) from None
