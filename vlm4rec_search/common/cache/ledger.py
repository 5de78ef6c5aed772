"""What each run of model calls did and cost: one row for each run, in the cache's SQLite file."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

_SCHEMA = """
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
    connection.execute(_SCHEMA)
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
