"""Moves events into Parquet files, one for each day of receipt, from which a plan and analysts read them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from vlm4rec_search.common.errors import RunError, first_line
from vlm4rec_search.common.paths import file_lock, replacing_file
from vlm4rec_search.common.sql import quote_text
from vlm4rec_search.datasets.events.event import meaning
from vlm4rec_search.datasets.events.log import COLUMNS, EventLog

INTERACTIONS, OTHERS = "interactions", "others"
"""Folders: events about an item that a shopper chose, and all others: impressions, and events without an item."""
_KINDS = {"sequence": pa.int64(), "received_at": pa.float64(), "position": pa.int64(), "value": pa.float64()}
_SCHEMA = pa.schema([(name, _KINDS.get(name, pa.string())) for name in COLUMNS])
# Its columns have the names of the raw contract, so that a plan reads them as a log of the shop.
_AS_INTERACTIONS = """
    event_id, action_name AS event_type, user_id, item_id, timestamp || 'Z' AS timestamp, value, query_id, position,
    client_id, session_id, sequence, MAKE_TIMESTAMP(CAST(received_at * 1000000 AS BIGINT)) AS received, content
"""


def compact(log_file: Path, folder: Path, declared: Mapping[str, str] = {}) -> int:
    """Move the events of a log into `<folder>/interactions/<day>.parquet` and `<folder>/others/<day>.parquet`.

    The file of a day is written anew and replaced in one step, each event in it once; only then does the log take note.
    After a crash in between the next call writes the same events again, and they still are in the file once.

    Args:
        log_file: see `EventLog`; without it nothing is done.
        folder: created where it is missing.
        declared: kinds of the shop's own words for actions, see `Values.events`.

    Returns:
        Number of events that were moved.

    Raises:
        RunError: the log or a file cannot be read or written.
    """
    if not log_file.is_file():
        return 0
    log = EventLog(log_file)
    newest = log.newest_waiting()
    if not newest:
        return 0
    with events_lock(folder):
        waiting = log.waiting(newest)  # once more: another process may have moved them meanwhile
        days: dict[tuple[str, str], list[tuple[object, ...]]] = {}
        for row in waiting:
            days.setdefault(_place(dict(zip(COLUMNS, row, strict=True)), declared), []).append(row)
        for (kind, day), rows in days.items():
            _add(folder / kind / f"{day}.parquet", rows)
        log.forget_compacted(newest)
    return len(waiting)


@contextmanager
def events_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the files of a folder of `compact`, which is created where it is missing.

    Raises:
        RunError: the folder, or what the block does with its files, failed.
    """
    try:
        with file_lock(folder / ".lock"):
            yield
    except (OSError, duckdb.Error) as error:
        raise RunError(f"cannot write the events in {folder}: {first_line(error)}") from None


def event_files(folder: Path, kind: str) -> list[Path]:
    """Return the files of a kind of events, oldest first."""
    return sorted((folder / kind).glob("[0-9]*.parquet"))


def _place(event: dict[str, object], declared: Mapping[str, str]) -> tuple[str, str]:
    is_interaction = event["item_id"] is not None and meaning(str(event["action_name"]), declared) != "shown"
    day = datetime.fromtimestamp(float(str(event["received_at"])), UTC).date()
    return (INTERACTIONS if is_interaction else OTHERS), day.isoformat()


def _add(path: Path, rows: list[tuple[object, ...]]) -> None:
    """Add events to the file of a day, each id once, and make sure that the file is on the disk."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    with closing(duckdb.connect()) as connection, replacing_file(path) as part:
        connection.register("waiting", pa.table(arrays, _SCHEMA))
        added = f"SELECT {_AS_INTERACTIONS} FROM waiting"  # noqa: S608
        old = f"FROM READ_PARQUET({quote_text(str(path))}) UNION ALL BY NAME " if path.exists() else ""
        once = "QUALIFY ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY sequence) = 1 ORDER BY sequence"
        connection.sql(f"FROM ({old}{added}) {once}").write_parquet(str(part), compression="zstd")
        _sync(part)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
