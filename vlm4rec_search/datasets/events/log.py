"""The log of events: a SQLite file that several processes share. What `record` has returned for is on the disk."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vlm4rec_search.common.sqlite import SharedFile
from vlm4rec_search.datasets.events.event import Event, meaning

LIVE_SECONDS = 7 * 86_400.0
"""How long an event counts in answers without a release that has it."""
_PATIENCE = 10.0  # seconds to wait for another process's write
_NEWEST = 1_000  # events of a shopper that are looked at
COLUMNS = (
    "sequence", "event_id", "received_at", "timestamp", "action_name", "user_id", "client_id", "session_id",
    "query_id", "item_id", "position", "value", "content",
)  # fmt: skip
_CREATE = """
CREATE TABLE IF NOT EXISTS known (event_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, received_at REAL NOT NULL,
    timestamp TEXT NOT NULL, action_name TEXT NOT NULL, user_id TEXT NOT NULL, client_id TEXT, session_id TEXT,
    query_id TEXT, item_id TEXT, position INTEGER, value REAL, content TEXT NOT NULL,
    is_compacted INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_id, sequence);
CREATE INDEX IF NOT EXISTS events_by_receipt ON events (received_at);
CREATE INDEX IF NOT EXISTS events_to_compact ON events (sequence) WHERE NOT is_compacted;
"""
_KNOW = "INSERT OR IGNORE INTO known VALUES (?)"
_INSERT = f"INSERT INTO events ({', '.join(COLUMNS[1:])}) VALUES ({', '.join('?' * (len(COLUMNS) - 1))})"  # noqa: S608
_OF_USER = """
SELECT item_id, action_name, timestamp, received_at, is_compacted FROM events
WHERE user_id = ? AND item_id IS NOT NULL AND received_at > ? ORDER BY sequence DESC LIMIT ?
"""
_WAITING = f"SELECT {', '.join(COLUMNS)} FROM events WHERE NOT is_compacted AND sequence <= ? ORDER BY sequence"  # noqa: S608

_LACKING = """
SELECT action_name, MIN(received_at) FROM events WHERE received_at > ?1 AND item_id IS NOT NULL GROUP BY action_name
UNION ALL
SELECT action_name, MIN(received_at) FROM events INDEXED BY events_to_compact
WHERE NOT is_compacted AND received_at <= ?1 AND item_id IS NOT NULL GROUP BY action_name
"""


@dataclass(frozen=True)
class Recent:
    """What a shopper did since the release that answers was made; the newest items first.

    Attributes:
        liked: items whose last event speaks for them.
        hidden: items whose last event speaks against them.
        others: items that were merely seen, such as those taken out of the cart.
    """

    liked: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class EventLog:
    """Keeps events; several threads and processes may write at once."""

    def __init__(self, path: Path, declared: Mapping[str, str] = {}) -> None:
        """Open or create a file.

        Args:
            path: of the file.
            declared: kinds of the shop's own words for actions, see `Values.events`.

        Raises:
            RunError: its folder cannot be written, or the file is not such a log.
        """
        self.path, self._declared = path, declared
        self._file = SharedFile(path, "the events in", _PATIENCE, "FULL", _CREATE)

    def record(self, events: Sequence[tuple[Event, str]], as_happened: bool = False) -> int:
        """Keep the events whose ids are new, in one transaction that is on the disk on return; return their number.

        Args:
            events: with their content as JSON, see `parse_event`.
            as_happened: take the time of each event as that of its receipt, for events of earlier days.

        Raises:
            RunError: the file cannot be written; no event is kept.
        """
        kept = 0
        with self._file.explained("write"):
            connection = self._file.connection
            connection.execute("BEGIN IMMEDIATE")
            now = time.time()  # once no other process writes: later events in the log were received later
            try:
                for event, content in events:
                    if connection.execute(_KNOW, (event.event_id,)).rowcount:
                        received = event.happened_at.timestamp() if as_happened else now
                        connection.execute(_INSERT, _row(event, content, received))
                        kept += 1
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself has ended it where the disk is full
                    connection.execute("ROLLBACK")
                raise
        return kept

    def recent(self, user_id: str, as_of: datetime | None, events_until: datetime | None) -> Recent:
        """Return what a shopper did that a release does not know, of the last `LIVE_SECONDS`.

        An event counts where the tables of the release were made without it, or it happened after the moment up to
        which they count events.

        Args:
            user_id: as tables have it.
            as_of: of the release, in UTC without a zone.
            events_until: of the release, see `ReleaseMeta`.

        Raises:
            RunError: the file cannot be read.
        """
        read, until = _seconds(events_until), as_of.isoformat(timespec="microseconds") if as_of else ""
        with self._file.explained("read"):
            rows = self._file.connection.execute(_OF_USER, (user_id, time.time() - LIVE_SECONDS, _NEWEST)).fetchall()
        last: dict[str, str] = {}
        for item_id, action, happened_at, received_at, is_compacted in rows:
            # A plan reads files alone: what still waits is in no table. Other commands fill them as well.
            is_known = is_compacted and received_at <= read and happened_at <= until
            meant = meaning(action, self._declared)
            if not is_known and meant != "shown":
                last.setdefault(item_id, meant)
        by = {each: tuple(item for item, of_item in last.items() if of_item == each) for each in ("for", "against")}
        others = tuple(item for item, of_item in last.items() if of_item == "seen")
        return Recent(by["for"], by["against"], others)

    def oldest_after(self, events_until: datetime | None) -> float | None:
        """Return when the oldest event that a release lacks was received, in seconds since 1970, None without any.

        Impressions, and events without an item, do not count: no release has them.

        Args:
            events_until: of the release, see `ReleaseMeta`.

        Raises:
            RunError: the file cannot be read.
        """
        with self._file.explained("read"):
            rows = self._file.connection.execute(_LACKING, (_seconds(events_until),)).fetchall()
        return min(
            (float(oldest) for action, oldest in rows if meaning(action, self._declared) != "shown"), default=None
        )

    def newest_waiting(self) -> int:
        """Return the number of the newest event that no Parquet file has, 0 without any.

        Raises:
            RunError: the file cannot be read.
        """
        with self._file.explained("read"):
            row = self._file.connection.execute("SELECT MAX(sequence) FROM events WHERE NOT is_compacted").fetchone()
        return row[0] or 0

    def waiting(self, newest: int) -> list[tuple[object, ...]]:
        """Return the events up to a number that no Parquet file has, in their order; the columns are `COLUMNS`.

        Raises:
            RunError: the file cannot be read.
        """
        with self._file.explained("read"):
            return self._file.connection.execute(_WAITING, (newest,)).fetchall()

    def forget_compacted(self, newest: int) -> None:
        """Note that Parquet files have the events up to a number, and drop those that no answer needs any more.

        Their ids stay.

        Raises:
            RunError: the file cannot be written.
        """
        with self._file.explained("write"):
            connection = self._file.connection
            connection.execute("UPDATE events SET is_compacted = 1 WHERE NOT is_compacted AND sequence <= ?", (newest,))
            oldest = time.time() - LIVE_SECONDS
            connection.execute("DELETE FROM events WHERE is_compacted AND received_at < ?", (oldest,))


def _row(event: Event, content: str, now: float) -> tuple[object, ...]:
    attributes = event.event_attributes
    position = attributes.position.ordinal if attributes and attributes.position else None
    value = attributes.value if attributes else None
    who = (event.shopper, event.client_id, event.session_id, event.query_id)
    happened_at = event.happened_at.replace(tzinfo=None).isoformat(timespec="microseconds")
    return (
        *(event.event_id, now, happened_at, event.action_name),
        *(*who, event.item_id, position, value, content),
    )


def _seconds(events_until: datetime | None) -> float:
    """Return the end of the microsecond, since files keep whole ones; 0 for a release without events."""
    return 0.0 if events_until is None else (events_until - datetime(1970, 1, 1)).total_seconds() + 0.000_001
