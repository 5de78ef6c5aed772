"""Content-addressed results of model calls, paid for once, in SQLite (WAL) outside the warehouse.

A result is found again by what made it: the hash of everything that decides it (`result_key`). Results are committed
with every batch, so that a killed run resumes; failures are not kept, so that the next run tries them again.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from vlm4rec_search.errors import RunError
from vlm4rec_search.progress import lines

FILE = "results.sqlite"

Result = bytes | Exception
Compute = Callable[[Sequence[int]], Sequence[Result]]

T = TypeVar("T")

_READ_CHUNK = 1000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, maker TEXT NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
    run INTEGER PRIMARY KEY, kind TEXT NOT NULL, maker TEXT NOT NULL, computed INTEGER NOT NULL,
    cached INTEGER NOT NULL, failed INTEGER NOT NULL, seconds REAL NOT NULL, started_at TEXT NOT NULL,
    finished BOOLEAN NOT NULL
);
"""
_LEDGER = "SELECT run, kind, maker, computed, cached, failed, seconds, started_at, finished FROM ledger ORDER BY run"


@dataclass
class LedgerRow:
    """What one fill did, in distinct keys; `finished` is false while it runs and after it was killed.

    `seconds` is wall time; `started_at` is UTC in ISO 8601.
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


@dataclass(frozen=True)
class Filled:
    """The results of a fill, one for each key in the caller's order, and the counts of distinct keys."""

    values: list[Result]
    computed: int
    cached: int
    failed: int


def result_key(*parts: str) -> str:
    """Return the sha256 (hex) of the parts as a JSON list, which no two different lists share."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Cache:
    """The results and the ledger in `folder/results.sqlite`; several processes may use it at once.

    Raises:
        RunError: the file cannot be opened, read or written, now or later.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        with self._explained():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def fill(
        self,
        kind: str,
        maker: str,
        keys: Sequence[str],
        compute: Compute,
        *,
        batch_size: int = 64,
        label: str | None = None,
        recorded: bool = True,
    ) -> Filled:
        """Return a result for each key, computing the missing ones once each, batch by batch.

        `compute` gets positions in `keys` (at most `batch_size`, one for each missing key) and returns as many
        results; an exception among them is a failure, which is returned but not kept. Only a `recorded` fill gets a
        row in the ledger, which is brought up to date with every batch.

        Raises:
            RunError: the cache cannot be used, or `compute` returned the wrong number of results.
        """
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        found: dict[str, Result] = dict(self._read(list(first)))
        missing = [position for key, position in first.items() if key not in found]
        row = self._start(kind, maker, cached=len(found)) if recorded else LedgerRow(0, kind, maker, cached=len(found))
        start = time.monotonic()
        with lines(label or f"{kind} by {maker}", len(missing)) as advance:
            for batch in _batches(missing, batch_size):
                results = _checked(compute(batch), len(batch), maker)
                fresh = dict(zip((keys[position] for position in batch), results, strict=True))
                self._commit(row, fresh, time.monotonic() - start)
                found |= fresh
                advance(len(batch))
        row.finished = True
        self._commit(row, {}, time.monotonic() - start)
        return Filled([found[key] for key in keys], row.computed, row.cached, row.failed)

    def ledger(self) -> list[LedgerRow]:
        """Return one row for each recorded fill, oldest first."""
        with self._explained():
            rows = self._db.execute(_LEDGER).fetchall()
        return [replace(LedgerRow(*row), finished=bool(row[-1])) for row in rows]

    def _read(self, keys: list[str]) -> Iterator[tuple[str, bytes]]:
        query = "SELECT key, value FROM results WHERE key IN (SELECT value FROM json_each(?))"
        for chunk in _batches(keys, _READ_CHUNK):
            with self._explained():
                yield from self._db.execute(query, [json.dumps(chunk)]).fetchall()

    def _start(self, kind: str, maker: str, cached: int) -> LedgerRow:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        insert = "INSERT INTO ledger VALUES (NULL, ?, ?, 0, ?, 0, 0, ?, FALSE)"
        with self._explained():
            run = self._db.execute(insert, [kind, maker, cached, started]).lastrowid
        return LedgerRow(run or 0, kind, maker, cached=cached, started_at=started)

    def _commit(self, row: LedgerRow, fresh: dict[str, Result], seconds: float) -> None:
        """Keep the results of one batch and bring its ledger row up to date, in one transaction."""
        kept = [(key, row.kind, row.maker, value) for key, value in fresh.items() if isinstance(value, bytes)]
        row.computed += len(kept)
        row.failed += len(fresh) - len(kept)
        row.seconds = seconds
        update = "UPDATE ledger SET computed = ?, failed = ?, seconds = ?, finished = ? WHERE run = ?"
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", kept)
            self._db.execute(update, [row.computed, row.failed, row.seconds, row.finished, row.run])
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


def _batches(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))


def _checked(results: Sequence[Result], expected: int, maker: str) -> Sequence[Result]:
    if len(results) != expected:
        raise RunError(f"{maker} returned {len(results)} results for a batch of {expected}: this is a defect in it")
    return results
