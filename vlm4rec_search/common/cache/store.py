"""The SQLite file of the cache (WAL): results of model calls, failures, and the ledger of runs."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.sqlite import open_shared

T = TypeVar("T")

FILE = "results.sqlite"
RETRY = "retry"
"""Origin of a run that repeats earlier calls; the order of its attempts is kept."""
Attempt = tuple[int, int]
"""Numbers of the stored result and failure of a key, 0 for none; every later one has another number."""

_READ_CHUNK = 1000
_WRITE_TIMEOUT = 60.0  # seconds to wait for another process that writes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, maker TEXT NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, maker TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL,
    text TEXT NOT NULL, origin TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger (
    run INTEGER PRIMARY KEY, kind TEXT NOT NULL, maker TEXT NOT NULL, computed INTEGER NOT NULL,
    cached INTEGER NOT NULL, failed INTEGER NOT NULL, seconds REAL NOT NULL, started_at TEXT NOT NULL,
    finished BOOLEAN NOT NULL, origin TEXT NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
    cost REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS retries (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
"""
_RESULTS = "SELECT key, value FROM results WHERE key IN (SELECT value FROM json_each(?))"
_FAILURES = "SELECT key, status, message, text FROM failures WHERE key IN (SELECT value FROM json_each(?))"
_ATTEMPTS = """
SELECT key, MAX(result), MAX(failure) FROM (
    SELECT key, rowid AS result, 0 AS failure FROM results WHERE key IN (SELECT value FROM json_each(?1))
    UNION ALL SELECT key, 0, rowid FROM failures WHERE key IN (SELECT value FROM json_each(?1))
) GROUP BY key
"""
_RETRIES = "SELECT key, number FROM retries WHERE key IN (SELECT value FROM json_each(?))"


def result_key(*parts: str) -> str:
    """Return the sha256 (hex) of the parts as a JSON list, so that different parts never share a key."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def chunks(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the entries in order, at most `size` at a time."""
    return (entries[start : start + size] for start in range(0, len(entries), size))


def stored_result(folder: Path, key: str) -> bytes | None:
    """Return one result of the cache in a folder, None where it has none; no cache is created.

    Raises:
        RunError: the file cannot be read.
    """
    path = folder.absolute() / FILE
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT value FROM results WHERE key = ?", [key]).fetchone()
    except sqlite3.Error as error:
        raise RunError(f"the cache {path} cannot be read ({error})") from None
    return row and bytes(row[0])


@dataclass(frozen=True)
class Failure:
    """Why a result could not be computed.

    Attributes:
        status: kind of failure in one word, such as refused or unreachable; `failed` for an unexpected exception.
        message: the reason, in one line.
        text: the answer that could not be used; "" for none.
    """

    status: str
    message: str
    text: str = ""

    @classmethod
    def from_error(cls, error: Exception) -> Self:
        """Describe an exception; an exception with a `status` attribute keeps its status, message and `text`."""
        status = getattr(error, "status", None)
        if status:
            return cls(status, str(error), getattr(error, "text", ""))
        return cls("failed", f"{type(error).__name__}: {error}")


@dataclass
class LedgerRow:
    """Counts and cost of one run, in distinct keys.

    Attributes:
        run: number of the run; 0 for a run that the ledger does not record.
        kind: kind of result, such as caption.
        producer: id of the model or function that computed the results.
        seconds: wall time.
        started_at: UTC in ISO 8601.
        finished: false while the run goes on, and after it was killed.
        origin: plan, or the command that computed results ahead of a plan.
        cost: money, in the currency of the prices in the settings.
    """

    run: int
    kind: str
    producer: str
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


_FIELDS = [field.name for field in fields(LedgerRow)]
_COLUMNS = ", ".join(_FIELDS).replace("producer", "maker")  # the file keeps the column names of older versions
_UPDATED = ("computed", "cached", "failed", "seconds", "finished", "tokens_in", "tokens_out", "cost")


class ResultStore:
    """Reads and writes `folder/results.sqlite`; several processes may use it at once.

    Raises:
        RunError: the file cannot be opened, read or written, now or later.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        with self._explain_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = open_shared(self.path, _WRITE_TIMEOUT, "NORMAL")
            self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def ledger(self) -> list[LedgerRow]:
        """Return one row for each recorded run, oldest first."""
        with self._explain_errors():
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM ledger ORDER BY run").fetchall()  # noqa: S608
        return [replace(row, finished=bool(row.finished)) for row in (LedgerRow(*values) for values in rows)]

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the results of the keys that have one."""
        return dict(self._select(_RESULTS, keys))

    def failures(self, keys: Sequence[str]) -> dict[str, Failure]:
        """Return the failures of the keys whose last attempt failed."""
        return {key: Failure(*values) for key, *values in self._select(_FAILURES, keys)}

    def attempts(self, keys: Sequence[str]) -> dict[str, Attempt]:
        """Return the last attempt of each key that has a result or a failure."""
        return {key: (result, failure) for key, result, failure in self._select(_ATTEMPTS, keys)}

    def last_retries(self, keys: Sequence[str]) -> dict[str, int]:
        """Return a number for each key that a retry has tried; a later one has a larger number."""
        return dict(self._select(_RETRIES, keys))

    def note_retries(self, keys: Iterable[str]) -> None:
        """Note that a retry has tried these keys now; it notes those of its calls by itself."""
        with self._explain_errors(), self._transaction():
            self._insert_retries(keys)

    def _select(self, query: str, keys: Sequence[str]) -> Iterator[Any]:
        for chunk in chunks(keys, _READ_CHUNK):
            with self._explain_errors():
                yield from self._db.execute(query, [json.dumps(chunk)]).fetchall()

    def producers(self, kind: str) -> list[str]:
        """Return the producers that have results of this kind."""
        with self._explain_errors():
            rows = self._db.execute("SELECT DISTINCT maker FROM results WHERE kind = ?", [kind]).fetchall()
        return [maker for (maker,) in rows]

    def results_of(self, kind: str, producer: str, size: int) -> Iterator[dict[str, bytes]]:
        """Yield all results of a kind and producer, at most `size` at a time."""
        page = "SELECT key, value FROM results WHERE kind = ? AND maker = ? AND key > ? ORDER BY key LIMIT ?"
        last = ""
        while True:
            with self._explain_errors():
                rows = self._db.execute(page, [kind, producer, last, size]).fetchall()
            if not rows:
                return
            yield dict(rows)
            last = rows[-1][0]

    def failures_of(self, kind: str, origin: str | None = None) -> dict[str, dict[str, Failure]]:
        """Return the failures of a kind by producer and key; only those that runs of this `origin` stored, if given."""
        listed = (
            "SELECT maker, key, status, message, text FROM failures WHERE kind = ?1 AND origin = COALESCE(?2, origin)"
            " ORDER BY rowid"
        )
        found: dict[str, dict[str, Failure]] = {}
        with self._explain_errors():
            for maker, key, *values in self._db.execute(listed, [kind, origin]).fetchall():
                found.setdefault(maker, {})[key] = Failure(*values)
        return found

    def put(self, kind: str, producer: str, results: Mapping[str, bytes]) -> None:
        """Store results that cost nothing, without a row in the ledger."""
        self._commit(LedgerRow(0, kind, producer), results, {})

    def remove(self, keys: Sequence[str]) -> None:
        """Remove the results of these keys."""
        with self._explain_errors(), self._transaction():
            self._db.executemany("DELETE FROM results WHERE key = ?", [(key,) for key in keys])

    def put_failures(self, kind: str, producer: str, failures: Mapping[str, Failure], origin: str) -> None:
        """Store why these keys have no result now, without a row in the ledger."""
        with self._explain_errors(), self._transaction():
            self._insert_failures(LedgerRow(0, kind, producer, origin=origin), failures)

    def trim(self, kind: str, used: Sequence[str], spare: int) -> None:
        """Remove the results of a kind that are not `used`, once there are more than `spare` of them."""
        with self._explain_errors():
            (count,) = self._db.execute("SELECT COUNT(*) FROM results WHERE kind = ?", [kind]).fetchone()
            if count > len(used) + spare:
                unused = "DELETE FROM results WHERE kind = ? AND key NOT IN (SELECT value FROM json_each(?))"
                self._db.execute(unused, [kind, json.dumps(used)])

    def revision(self, kind: str, producer: str) -> str:
        """Return a text that changes when a run other than a plan adds results or failures of this kind and producer.

        The text is a variable of the SQLMesh project, so that a plan rebuilds the tables that show the results.
        """
        counted = "SELECT COALESCE(SUM(computed), 0) FROM ledger WHERE kind = ? AND maker = ? AND origin <> 'plan'"
        listed = "SELECT key, message FROM failures WHERE kind = ? AND maker = ? AND origin <> 'plan' ORDER BY key"
        with self._explain_errors():
            failed = self._db.execute(listed, [kind, producer]).fetchall()
            (computed,) = self._db.execute(counted, [kind, producer]).fetchone()
        return f"{computed}-{result_key(*(part for row in failed for part in row))[:12]}" if failed else str(computed)

    def _begin(self, row: LedgerRow) -> None:
        """Add a ledger row and set its `run` and `started_at`."""
        row.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        marks = ", ".join("?" * (len(_FIELDS) - 1))
        values = [getattr(row, name) for name in _FIELDS[1:]]
        with self._explain_errors():
            insert = f"INSERT INTO ledger ({_COLUMNS}) VALUES (NULL, {marks})"  # noqa: S608  our own names
            row.run = self._db.execute(insert, values).lastrowid or 0

    def _commit(self, row: LedgerRow, results: Mapping[str, bytes], failures: Mapping[str, Failure]) -> None:
        """Write the results of one batch and its ledger row in one transaction.

        Failures and the ledger row are written only for a recorded run.
        """
        stored = [(key, row.kind, row.producer, value) for key, value in results.items()]
        with self._explain_errors(), self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", stored)
            if row.run:
                self._db.executemany("DELETE FROM failures WHERE key = ?", [(key,) for key in results])
                self._insert_failures(row, failures)
                if row.origin == RETRY:
                    self._insert_retries([*results, *failures])
                assigned = ", ".join(f"{name} = ?" for name in _UPDATED)
                values = [getattr(row, name) for name in _UPDATED]
                self._db.execute(f"UPDATE ledger SET {assigned} WHERE run = ?", [*values, row.run])  # noqa: S608

    def _insert_failures(self, row: LedgerRow, failures: Mapping[str, Failure]) -> None:
        rows = [
            (key, row.kind, row.producer, failure.status, failure.message, failure.text, row.origin)
            for key, failure in failures.items()
        ]
        self._db.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def _insert_retries(self, keys: Iterable[str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO retries (key) VALUES (?)", [(key,) for key in keys])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        yield
        self._db.execute("COMMIT")

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        """Turn an error of the file into one line, and roll back an open transaction."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if hasattr(self, "_db") and self._db.in_transaction:
                self._db.rollback()
            raise RunError(
                f"the cache {self.path} cannot be used ({error}): move it aside (it holds paid results), make it "
                "writable, or set VLM4REC_CACHE to another folder"
            ) from None
