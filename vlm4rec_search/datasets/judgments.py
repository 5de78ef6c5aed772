"""Judgments of people who looked at answers: a CSV file that grows by one line for each click.

The page of the service writes it, and `vlm4rec evaluate --judgments` reads it.
"""

import csv
import fcntl
import io
import logging
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

from vlm4rec_search.common.csv_records import csv_records
from vlm4rec_search.common.errors import RunError

logger = logging.getLogger(__name__)


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


COLUMNS = tuple(each.name for each in fields(Judgment))
"""The first line of the file."""


@dataclass(frozen=True)
class JudgmentsRead:
    """What a file of judgments says.

    Attributes:
        latest: the last judgment of each shopper, query and item.
        unread: numbers of the lines that are no judgment, such as half a line that a full disk has left.
    """

    latest: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    unread: tuple[int, ...] = ()

    def describe_unread(self, path: Path) -> str | None:
        """Return a sentence about the lines that are no judgment, None without any."""
        if not self.unread:
            return None
        numbers = ", ".join(map(str, self.unread[:5])) + (", ..." if len(self.unread) > 5 else "")
        where = f"line {numbers}" if len(self.unread) == 1 else f"{len(self.unread):,} lines ({numbers})"
        return f"no judgment can be read in {where} of {path}"


def read_judgments(path: Path) -> JudgmentsRead:
    """Read a file of judgments; a missing one has none.

    The first line names the columns: `item_id`, `judgment` (a whole number, 0 for not relevant), and `user_id`, `query`
    or both. A line that is no judgment costs no other one. Without a first line of names the columns are those of
    `Judgment`.

    Raises:
        RunError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            records = list(csv_records(list(file)))
    except FileNotFoundError:
        return JudgmentsRead()
    except (OSError, csv.Error) as error:
        raise RunError(f"cannot read the judgments in {path} ({error})") from None
    names = records[0][1] if records else []
    is_header = {"item_id", "judgment"} <= set(names) and not {"user_id", "query"}.isdisjoint(names)
    columns = names if is_header else COLUMNS
    latest: dict[tuple[str, str, str], int] = {}
    unread, line = [], 1
    for number, (text, row) in enumerate(records):
        values = dict(zip(columns, row, strict=False))
        if number == 0 and is_header:
            pass
        elif len(row) == len(columns) and values["item_id"] and re.fullmatch("[0-9]{1,3}", values["judgment"]):
            key = (values.get("user_id", ""), values.get("query", ""), values["item_id"])
            latest[key] = int(values["judgment"])
        elif row:
            unread.append(line)
        line += text.count("\n")
    return JudgmentsRead(latest, tuple(unread))


class Judgments:
    """Appends to a CSV file with the columns of `Judgment`; several threads and processes may write at once.

    A later judgment of the same shopper, query and item stands for an earlier one.
    """

    def __init__(self, path: Path) -> None:
        """Write to a file, which is created by the first judgment."""
        self.path = path
        self._lock = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._read = JudgmentsRead()

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
                    rows.insert(0, COLUMNS)
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
        """Return the latest judgment of each item for a shopper and a query.

        Raises:
            RunError: the file cannot be read.
        """
        known = self.read().latest
        return {item: value for (user, text, item), value in known.items() if (user, text) == (user_id, query)}

    def read(self) -> JudgmentsRead:
        """Return what the file says; it is read again where it has changed.

        Raises:
            RunError: the file cannot be read.
        """
        with self._lock:
            try:
                stat = self.path.stat()
            except OSError:
                self._read_at, self._read = None, JudgmentsRead()
                return self._read
            state = (stat.st_mtime_ns, stat.st_size)
            if self._read_at != state:
                before, self._read = self._read.unread, read_judgments(self.path)
                self._read_at = state
                if self._read.unread != before and (problem := self._read.describe_unread(self.path)):
                    logger.warning("%s", problem)
            return self._read
