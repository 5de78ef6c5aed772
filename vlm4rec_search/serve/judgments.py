"""Judgments of people who looked at answers: a CSV file that grows by one line for each click."""

import csv
import fcntl
import io
import os
import threading
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from vlm4rec_search.common.errors import RunError


@dataclass(frozen=True)
class Judgment:
    """What somebody thinks of an item as the answer to a query.

    Attributes:
        user_id: the shopper, "" for none.
        query: the text, "" for none.
        item_id: the item.
        judgment: 1 for relevant, 0 for not relevant.
        judged_at: in UTC, ISO 8601.
        release: that answered.
        ranking: version of the ranking that answered.
    """

    user_id: str
    query: str
    item_id: str
    judgment: int
    judged_at: str
    release: str
    ranking: str


class Judgments:
    """Appends to a CSV file with the columns of `Judgment`; several threads and processes may write at once.

    A later judgment of the same shopper, query and item stands for an earlier one.
    """

    def __init__(self, path: Path) -> None:
        """Write to a file, which is created by the first judgment."""
        self.path = path
        self._lock = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._latest: dict[tuple[str, str, str], int] = {}

    def add(self, judgment: Judgment) -> None:
        """Append a judgment; it is on the disk when this returns.

        Raises:
            RunError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                rows = [astuple(judgment)]
                size = os.fstat(descriptor).st_size
                if size == 0:
                    rows.insert(0, tuple(field.name for field in fields(Judgment)))
                text = io.StringIO()
                if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a full disk, or an editor, left half a line
                    text.write("\n")
                csv.writer(text, lineterminator="\n").writerows(rows)
                os.write(descriptor, text.getvalue().encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RunError(f"the judgment cannot be written to {self.path} ({error.strerror})") from None

    def latest(self, user_id: str, query: str) -> dict[str, int]:
        """Return the latest judgment of each item for a shopper and a query."""
        with self._lock:
            self._refresh()
            return {
                item: value for (user, text, item), value in self._latest.items() if (user, text) == (user_id, query)
            }

    def _refresh(self) -> None:
        """Read the file where it has changed."""
        try:
            stat = self.path.stat()
        except OSError:
            self._read_at, self._latest = None, {}
            return
        if self._read_at == (stat.st_mtime_ns, stat.st_size):
            return
        with self.path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("judgment") in ("0", "1")]
        keys = ("user_id", "query", "item_id")
        self._latest = {
            (user, query, item): int(row["judgment"])
            for row in rows
            for user, query, item in [[row.get(key) or "" for key in keys]]
        }
        self._read_at = (stat.st_mtime_ns, stat.st_size)
