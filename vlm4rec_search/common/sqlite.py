"""SQLite files in WAL mode that several processes and threads share."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from vlm4rec_search.common.errors import RunError

Synchronous = Literal["NORMAL", "FULL"]
"""With NORMAL a power cut may undo the last commits, a killed process does not; with FULL a commit is on the disk."""


def open_shared(path: Path, patience: float, synchronous: Synchronous) -> sqlite3.Connection:
    """Open or create a file, whose transactions the caller begins and ends.

    Args:
        path: of the file.
        patience: seconds to wait for another process that writes.
        synchronous: when a commit is on the disk.

    Raises:
        sqlite3.Error: the file cannot be opened, or is no SQLite file.
    """
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    deadline = time.monotonic() + patience
    while True:  # SQLite does not wait when several processes open a new file at once
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


class SharedFile:
    """A file of `open_shared` with a connection for each thread that uses it.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, label: str, patience: float, synchronous: Synchronous, schema: str) -> None:
        """Open or create a file.

        Args:
            path: its folder is created.
            label: what the file is in messages, such as "the journal".
            patience, synchronous: as in `open_shared`.
            schema: statements that create what is missing.

        Raises:
            RunError: its folder cannot be written, or the file is no such file.
        """
        self.path, self._label, self._patience, self._synchronous = path, label, patience, synchronous
        self._local = threading.local()
        with self.explained("write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection.executescript(schema)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        if not hasattr(self._local, "connection"):
            self._local.connection = open_shared(self.path, self._patience, self._synchronous)
        connection: sqlite3.Connection = self._local.connection
        return connection

    def wait_at_most(self, seconds: float) -> None:
        """Wait no longer than this for another process that writes, from now on.

        Raises:
            RunError: the file cannot be opened.
        """
        with self.explained("read"):
            self.connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
        self._patience = seconds

    @contextmanager
    def explained(self, verb: Literal["read", "write"]) -> Iterator[None]:
        """Turn an error of the file in the block into a RunError of one line."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise RunError(f"cannot {verb} {self._label} {self.path} ({error})") from None
