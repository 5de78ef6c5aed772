"""Copies what was served and the events that came back to a server, in the shape of User Behavior Insights 1.3.

Dashboards and the search relevance workbench of OpenSearch read these indices. Each document has the id of its answer
or event, so that a second copy changes nothing.
"""

import json
import sqlite3
from collections.abc import Container, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
from opensearchpy import OpenSearch
from opensearchpy.helpers import scan, streaming_bulk

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.connection import connect, server_errors
from vlm4rec_search.pipeline.served_log import create_served_tables

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
FROM recommendations ORDER BY recommendation_id, page
"""
_APPLICATION = "vlm4rec"


@dataclass(frozen=True)
class UbiExport:
    """What was copied: documents by index, and what the server refused, with the first reason."""

    copied: Mapping[str, int]
    refused: int
    reason: str | None


def export_ubi(settings: Settings, url: str) -> UbiExport:
    """Copy all answers and events to the indices `ubi_queries` and `ubi_events`, which are created where missing.

    Raises:
        UsageError: the URL or the credentials cannot be read, or are refused.
        RunError: the server does not answer, or a file of the service cannot be read.
    """
    client, copied, refusals = connect(url, settings), dict.fromkeys(FIELDS, 0), []
    with server_errors(), closing(client):
        for index, documents in ((QUERIES, _queries(settings.served_file)), (EVENTS, _events(settings))):
            _create(client, index)
            actions = ({"_index": index, "_id": name, "_source": content} for name, content in documents)
            for is_ok, outcome in streaming_bulk(client, actions, raise_on_error=False):
                copied[index] += is_ok
                if not is_ok:
                    refusals.append(outcome["index"]["error"]["reason"])
    return UbiExport(copied, len(refusals), refusals[0] if refusals else None)


def forget_ubi(settings: Settings, url: str, users: Container[str], dry_run: bool = False) -> Mapping[str, int]:
    """Delete the documents of shoppers in the copy, and return how many each index had; a missing index has none.

    All ids are read, since the list of the forgotten has hashes alone. A call can be repeated.

    Raises:
        UsageError: the URL or the credentials cannot be read, or are refused.
        RunError: the server does not answer, or keeps a document.
    """
    client, found = connect(url, settings), {}
    with server_errors(), closing(client):
        for index in (QUERIES, EVENTS):
            if not client.indices.exists(index=index):
                continue
            client.indices.refresh(index=index)  # what was written just now is found too
            hits = scan(client, index=index, query={"_source": ["user_id", "client_id"]})
            names = [hit["_id"] for hit in hits if any(user in users for user in hit["_source"].values())]
            if names:
                found[index] = len(names)
            if names and not dry_run:
                actions = ({"_op_type": "delete", "_index": index, "_id": name} for name in names)
                outcomes = [outcome["delete"] for _, outcome in streaming_bulk(client, actions, raise_on_error=False)]
                kept = sum(outcome["status"] not in (200, 404) for outcome in outcomes)
                if kept:
                    raise RunError(f"{index} keeps {kept:,} documents of them: run `vlm4rec forget` again")
                client.indices.refresh(index=index)
    return found


def _create(client: OpenSearch, index: str) -> None:
    if not client.indices.exists(index=index):
        client.indices.create(index=index, body={"mappings": {"dynamic": False, "properties": FIELDS[index]}})


def _queries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id and the document of each answer, with the items of all its pages."""
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path)) as connection:
            for name, rows in groupby(connection.execute(_PAGES), lambda row: row[0]):
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


def _events(settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id and the document of each event."""
    with duckdb.connect() as connection:
        create_served_tables(connection, settings)
        rows = connection.execute("SELECT event_id, happened_at, user_id, client_id, content FROM served.events")
        while found := rows.fetchmany(10_000):
            for name, happened_at, user, client, content in found:
                moment = happened_at.replace(tzinfo=UTC).isoformat(timespec="milliseconds")
                known = {"event_id": name, "timestamp": moment, "user_id": user, "client_id": client or user}
                yield name, {"application": _APPLICATION, **json.loads(content), **known}
