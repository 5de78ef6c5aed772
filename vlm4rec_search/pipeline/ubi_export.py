"""Copies what was served and the events that came back to a server, in the shape of User Behavior Insights 1.3.

Dashboards and the search relevance workbench of OpenSearch read these indices. Each document has the id of its answer
or event, so that a second copy changes nothing. The journal and the log of events number what they keep, and each has a
table `copies` with the number up to which an index of a server has it: the next copy begins behind it. A lost index, a
restored backup and an interrupted copy only make the next one begin earlier.
"""

import json
import sqlite3
from collections.abc import Container, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
from opensearchpy import OpenSearch
from opensearchpy.helpers import scan, streaming_bulk

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.paths import write_lock
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.sql import quote_text
from vlm4rec_search.common.sqlite import open_shared
from vlm4rec_search.datasets.declarations import load_declarations
from vlm4rec_search.datasets.events.compaction import INTERACTIONS, OTHERS, compact, event_files
from vlm4rec_search.indexes.opensearch.bulk import delete_documents
from vlm4rec_search.indexes.opensearch.connection import connect, server_errors

QUERIES, EVENTS = "ubi_queries", "ubi_events"
_KEYWORD, _DATE = {"type": "keyword", "ignore_above": 512}, {"type": "date"}
_BOTH = {**dict.fromkeys(("application", "query_id", "client_id", "user_id"), _KEYWORD), "timestamp": _DATE}
_POSITION = {"properties": {"ordinal": {"type": "integer"}}}
_ATTRIBUTES = {"object": {"properties": {"object_id": _KEYWORD}}, "position": _POSITION}
FIELDS: Mapping[str, Mapping[str, Any]] = {  # other keys are kept and not indexed
    QUERIES: {**_BOTH, "user_query": _KEYWORD, "query_response_id": _KEYWORD, "query_response_hit_ids": _KEYWORD}
    | {"query_attributes": {"properties": dict.fromkeys(("tier", "release", "ranking", "scenario"), _KEYWORD)}},
    EVENTS: {**_BOTH, "action_name": _KEYWORD, "session_id": _KEYWORD, "event_attributes": {"properties": _ATTRIBUTES}},
}
_PAGES = """
SELECT recommendation_id, served_at, user_id, query, tier, release, ranking, scenario, items
FROM recommendations WHERE recommendation_id IN (SELECT recommendation_id FROM changes WHERE sequence > ?)
ORDER BY recommendation_id, page
"""
_NEW_EVENTS = """
SELECT event_id, CAST(CAST(timestamp AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS TIMESTAMP), user_id, client_id, content
FROM READ_PARQUET([{files}]) WHERE sequence > ?
"""
_NUMBER = "SELECT seq FROM sqlite_sequence WHERE name = ?"  # the largest one ever, also where its row is gone
_COPIES = "CREATE TABLE IF NOT EXISTS copies (index_uuid TEXT PRIMARY KEY, newest INTEGER NOT NULL) WITHOUT ROWID"
_REMEMBER = """
INSERT INTO copies VALUES (?, ?) ON CONFLICT (index_uuid) DO UPDATE SET newest = MAX(newest, excluded.newest)
"""
_PATIENCE = 10.0  # seconds to wait for a process that writes the journal or the log
_APPLICATION = "vlm4rec"


@dataclass(frozen=True)
class UbiExport:
    """What was copied: documents by index, and what the server refused, with the first one and the reason."""

    copied: Mapping[str, int]
    refused: int
    reason: str | None


def export_ubi(settings: Settings, url: str, everything: bool = False) -> UbiExport:
    """Copy answers and events to the indices `ubi_queries` and `ubi_events`, which are created where missing.

    Args:
        settings: name the files of the service, and the credentials.
        url: of the server.
        everything: not only what is new since the last copy to these indices.

    Raises:
        UsageError: the URL or the credentials cannot be read, or are refused.
        RunError: the server does not answer, or a file of the service cannot be read or written.
    """
    client, copied, refusals = connect(url, settings), dict.fromkeys(FIELDS, 0), []
    sources = (
        (QUERIES, settings.served_file, "changes", partial(_queries, settings.served_file)),
        (EVENTS, settings.events_file, "events", partial(_events, settings)),
    )
    with server_errors(), closing(client), _copy_lock(settings.served):
        for index, path, numbered, read in sources:
            uuid = _create(client, index)
            with _copying(path, numbered, uuid) if path.is_file() else nullcontext(_Copy(0)) as copy:
                documents = read(0 if everything else copy.begin)
                actions = ({"_index": index, "_id": name, "_source": content} for name, content in documents)
                for is_ok, outcome in streaming_bulk(client, actions, raise_on_error=False):
                    copied[index] += is_ok
                    if not is_ok:
                        refusals.append(_refusal(outcome["index"]))
                        copy.is_whole &= outcome["index"]["status"] == 400  # refused again each time
    return UbiExport(copied, len(refusals), refusals[0] if refusals else None)


@contextmanager
def _copy_lock(served: Path) -> Iterator[None]:
    """Keep other processes from copying what is in a folder while the block runs, and from removing from the copy.

    Raises:
        RunError: the folder cannot be written.
    """
    with write_lock(served / ".copy.lock", f"in {served}"):
        yield


@dataclass
class _Copy:
    """A copy of a file to an index.

    Attributes:
        begin: number up to which the index had the file before.
        is_whole: whether the index has what it can take; else the next copy begins here once more.
    """

    begin: int
    is_whole: bool = True


@contextmanager
def _copying(path: Path, numbered: str, index_uuid: str) -> Iterator[_Copy]:
    """Yield where a copy begins, and note behind the block up to which number the index has the file.

    Args:
        path: of a SQLite file.
        numbered: the table whose column `sequence`, which never falls, counts what the file keeps.
        index_uuid: of the index; one that is deleted and made anew has another one.

    Raises:
        RunError: the file cannot be read or written.
    """
    try:
        with closing(open_shared(path, _PATIENCE, "NORMAL")) as connection:
            connection.execute(_COPIES)
            counted = connection.execute(_NUMBER, (numbered,)).fetchone()
            before = connection.execute("SELECT newest FROM copies WHERE index_uuid = ?", (index_uuid,)).fetchone()
            copy = _Copy(before[0] if before else 0)
            yield copy
            if copy.is_whole and counted:
                connection.execute(_REMEMBER, (index_uuid, counted[0]))
    except sqlite3.Error as error:
        raise RunError(f"cannot read or write {path} ({error})") from None


def _refusal(outcome: Mapping[str, Any]) -> str:
    """Return which document was refused, and why."""
    error = outcome["error"]
    cause = (error.get("caused_by") or {}).get("reason")
    return f"{outcome['_id']}: {error['reason']}{f' ({cause})' if cause else ''}"


def forget_ubi(settings: Settings, url: str, users: Container[str], dry_run: bool = False) -> Mapping[str, int]:
    """Delete the documents of shoppers in the copy, and return how many each index had; a missing index has none.

    All ids are read, since the list of the forgotten has hashes alone. A call can be repeated. It waits for a copy
    that is being made, which may have read rows of the shoppers before the files lost them.

    Raises:
        UsageError: the URL or the credentials cannot be read, or are refused.
        RunError: the server does not answer, or keeps a document.
    """
    client, found = connect(url, settings), {}
    with server_errors(), closing(client), nullcontext() if dry_run else _copy_lock(settings.served):
        for index in (QUERIES, EVENTS):
            if not client.indices.exists(index=index):
                continue
            client.indices.refresh(index=index)  # what was written just now is found too
            hits = scan(client, index=index, query={"_source": ["user_id", "client_id"]})
            names = [hit["_id"] for hit in hits if any(user in users for user in hit["_source"].values())]
            if names:
                found[index] = len(names)
            if names and not dry_run:
                delete_documents(client, index, names)
                client.indices.refresh(index=index)
    return found


def _create(client: OpenSearch, index: str) -> str:
    """Create an index where it is missing, and return its UUID; of an alias those of all its indices."""
    if not client.indices.exists(index=index):
        client.indices.create(index=index, body={"mappings": {"dynamic": False, "properties": FIELDS[index]}})
    found = client.indices.get(index=index)
    return " ".join(sorted(body["settings"]["index"]["uuid"] for body in found.values()))


def _queries(path: Path, begin: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id and the document of each answer that has a page behind a number, with the items of all its pages."""
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path)) as connection:
            for name, rows in groupby(connection.execute(_PAGES, (begin,)), lambda row: row[0]):
                pages = list(rows)
                _, served_at, user, query, *made_by, _ = pages[0]
                text = json.loads(query).get("text")
                yield (
                    name,
                    {
                        **{"application": _APPLICATION, "query_id": name, "query_response_id": name},
                        **({"client_id": user, "user_id": user} if user else {}),
                        "user_query": text or "",
                        "timestamp": datetime.fromtimestamp(served_at, UTC).isoformat(timespec="milliseconds"),
                        "query_attributes": dict(zip(("tier", "release", "ranking", "scenario"), made_by, strict=True)),
                        "query_response_hit_ids": [item for page in pages for item, _ in json.loads(page[-1])],
                    },
                )
    except sqlite3.Error as error:
        raise RunError(f"cannot read the journal {path} ({error})") from None


def _events(settings: Settings, begin: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id and the document of each event behind a number."""
    compact(settings.events_file, settings.events_folder, load_declarations(settings.data_dir).values.events)
    files = [path for kind in (INTERACTIONS, OTHERS) for path in event_files(settings.events_folder, kind)]
    if not files:
        return
    with duckdb.connect() as connection:
        names = ", ".join(quote_text(str(path)) for path in files)
        rows = connection.execute(_NEW_EVENTS.format(files=names), [begin])
        while found := rows.fetchmany(10_000):
            for name, happened_at, user, client, content in found:
                moment = happened_at.replace(tzinfo=UTC).isoformat(timespec="milliseconds")
                known = {"event_id": name, "timestamp": moment, "user_id": user, "client_id": client or user}
                yield name, {"application": _APPLICATION, **json.loads(content), **known}
