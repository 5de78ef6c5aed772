"""What was served: one row for each page of each recommendation, in a SQLite file that several processes share."""

import json
import logging
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.sqlite import SharedFile
from vlm4rec_search.search.query import Tier

logger = logging.getLogger(__name__)
_DAY = 86_400.0  # seconds
_BATCH = 200  # recommendations that are removed in one transaction, far within `WAIT`
_PAUSE = 0.05  # seconds between two transactions, in which answers are recorded
_PATIENCE = 5.0  # seconds to wait for another process's write when the file is opened
WAIT = 0.25  # and while a shopper waits for an answer, which is given also where it cannot be recorded
_CREATE = """
CREATE TABLE IF NOT EXISTS recommendations (
    recommendation_id TEXT NOT NULL, page INTEGER NOT NULL, served_at REAL NOT NULL, user_id TEXT, query TEXT NOT NULL,
    tier TEXT NOT NULL, release TEXT NOT NULL, ranking TEXT NOT NULL, scenario TEXT, items TEXT NOT NULL,
    experiment TEXT, arm TEXT, teams TEXT, remarks TEXT, PRIMARY KEY (recommendation_id, page)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (sequence INTEGER PRIMARY KEY AUTOINCREMENT, recommendation_id TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS note_change AFTER INSERT ON recommendations
BEGIN INSERT INTO changes (recommendation_id) VALUES (NEW.recommendation_id); END;
"""
"""`changes` numbers the pages in the order in which they were recorded, so that a copy can go on where it has ended."""
_INSERT = """
INSERT OR IGNORE INTO recommendations (
    recommendation_id, page, served_at, user_id, query, tier, release, ranking, scenario, items, experiment, arm, teams,
    remarks)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_BY_MOMENT = "CREATE INDEX IF NOT EXISTS recommendations_by_moment ON recommendations (served_at)"
_TRIM = """
DELETE FROM recommendations WHERE recommendation_id IN (
    SELECT recommendation_id FROM recommendations WHERE served_at < :before ORDER BY served_at LIMIT :batch)
"""
_TRIM_CHANGES = """
DELETE FROM changes WHERE sequence IN (
    SELECT sequence FROM (SELECT * FROM changes ORDER BY sequence LIMIT :batch) AS oldest
    WHERE NOT EXISTS (SELECT 1 FROM recommendations WHERE recommendation_id = oldest.recommendation_id))
"""
_PAGES = """
SELECT query, items, tier, release, ranking, experiment, arm, teams, remarks
FROM recommendations WHERE recommendation_id = ? ORDER BY page
"""


@dataclass(frozen=True)
class ServedPage:
    """A page as it was served: item ids with their scores, best first, and what answered.

    Attributes:
        experiment: name of the live comparison in which it took part.
        arm: a or b; None where both are mixed.
        teams: where both are mixed, a letter for each item that a variant chose, which are the first of the page.
        remarks: what the answer says beside its items, where it says it: `note`, `missing` and `counts` as JSON values.
    """

    items: Sequence[tuple[str, float]]
    tier: Tier
    release: str
    ranking: str
    experiment: str | None = None
    arm: Literal["a", "b"] | None = None
    teams: str | None = None
    remarks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """The pages of a recommendation.

    Attributes:
        query: the arguments of the search, as JSON values.
        pages: in their order.
    """

    query: Mapping[str, Any]
    pages: Sequence[ServedPage]


class Journal:
    """Records what was served; several threads and processes may write at once."""

    def __init__(self, path: Path) -> None:
        """Open or create a file.

        Raises:
            RunError: its folder cannot be written, or the file is not such a journal.
        """
        self._file = SharedFile(path, "the journal", _PATIENCE, "NORMAL", _CREATE)
        self._file.wait_at_most(WAIT)

    def record(
        self,
        recommendation_id: str,
        page: int,
        query: Mapping[str, Any],
        served: ServedPage,
    ) -> bool:
        """Record a page of a recommendation, unless it is recorded already; return whether it was not.

        Args:
            recommendation_id: see `new_id`.
            page: from 1.
            query: the arguments of the search, as JSON values.
            served: the page.

        Raises:
            RunError: the file cannot be written, or another process has written for longer than `WAIT`.
        """
        user, scenario = query.get("user"), query.get("scenario")
        row = (recommendation_id, page, time.time(), user, json.dumps(query), served.tier, served.release)
        made_by = (served.ranking, scenario, json.dumps(list(served.items)))
        compared = (served.experiment, served.arm, served.teams, json.dumps(served.remarks) if served.remarks else None)
        with self._file.explained("write"):
            return self._file.connection.execute(_INSERT, (*row, *made_by, *compared)).rowcount == 1

    def find(self, recommendation_id: str) -> Served | None:
        """Return what was served under an id, None for an unknown one.

        Raises:
            RunError: the file cannot be read.
        """
        with self._file.explained("read"):
            rows = self._file.connection.execute(_PAGES, (recommendation_id,)).fetchall()
        pages = [
            ServedPage([(item, score) for item, score in json.loads(items)], *(*made_by, json.loads(remarks or "{}")))
            for _, items, *made_by, remarks in rows
        ]
        return Served(json.loads(rows[0][0]), pages) if rows else None

    def trim(self, days: float, stopped: threading.Event) -> int:
        """Remove the recommendations with a page that is older than some days, whole; return how many pages went.

        They are removed a few at a time, so that no answer waits long. Their space is used again: the file does not
        shrink.

        Args:
            days: age from which they go; infinity keeps all.
            stopped: ends the work early where it is set.

        Raises:
            RunError: the file cannot be written; the next call goes on.
        """
        removed, values = 0, {"before": time.time() - days * _DAY, "batch": _BATCH}
        with self._file.explained("write"):
            connection = self._file.connection
            connection.execute(f"PRAGMA busy_timeout = {round(1000 * _PATIENCE)}")  # no shopper waits for this thread
            connection.execute("PRAGMA secure_delete = ON")  # nothing of a shopper stays in the free space
            connection.execute(_BY_MOMENT)
            for statement in (_TRIM, _TRIM_CHANGES):
                while count := connection.execute(statement, values).rowcount:
                    removed += count if statement is _TRIM else 0
                    if stopped.wait(_PAUSE):
                        return removed
        return removed


class Trimming:
    """Trims a journal in a background thread: at once, and then each day, until it is stopped."""

    def __init__(self, journal: Journal, days: float) -> None:
        """Start to remove what is older than some days."""
        self._journal, self._days, self._stopped = journal, days, threading.Event()
        self._thread = threading.Thread(target=self._run, name="trimming", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                if removed := self._journal.trim(self._days, self._stopped):
                    logger.info("%s pages older than %g days left the journal", f"{removed:,}", self._days)
            except RunError as error:
                logger.warning("the journal is not trimmed, which is tried again in a day: %s", error)
            if self._stopped.wait(_DAY):
                return

    def stop(self) -> None:
        """Wait for the transaction in progress, and trim no more."""
        self._stopped.set()
        self._thread.join()


def new_id() -> str:
    """Return an id for a recommendation that nobody can guess."""
    return uuid.uuid4().hex
