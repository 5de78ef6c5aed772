"""Overhead of a search over its bare requests; the shop is that of `benchmarks.search`."""

import http.client
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from opensearchpy import OpenSearch

from benchmarks.loading import running_server
from benchmarks.measure import Contest
from benchmarks.search import DIMENSION, draw_tables
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.aliases import ReleaseCatalogue
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.search.backend import SentRequest
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.searcher import Searcher

USERS, SEARCHES = 500, 25
ASKED: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "semantic": {"mode": "semantic"},
    "lexical": {"mode": "lexical"},
}

Send = Callable[[SentRequest], object]


def bare(url: str) -> Send:
    """Return a sender that posts over a plain connection for each thread, and reads the answer without parsing it."""
    parts, own = urlsplit(url), threading.local()

    def send(sent: SentRequest) -> None:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        own.connection.request(sent.method, sent.path, sent.body.encode(), {"content-type": kind_of(sent)})
        answer = own.connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{sent.path}: status {answer.status}")

    return send


def sent_by(client: OpenSearch) -> Send:
    """Return a sender that uses opensearch-py, which parses the answer."""

    def send(sent: SentRequest) -> object:
        headers = {"content-type": kind_of(sent)}
        return client.transport.perform_request(sent.method, sent.path, body=sent.body, headers=headers)

    return send


def alike(send: Send, pool: ThreadPoolExecutor) -> Callable[[list[SentRequest]], None]:
    """Return a function that sends requests like a search: those that belong together at the same time."""

    def replay(requests: list[SentRequest]) -> None:
        beside: list[Future[object]] = []
        for sent in requests:
            if sent.together:
                beside.append(pool.submit(send, sent))
                continue
            send(sent)
            while beside:
                beside.pop().result()

    return replay


def in_turn(send: Send) -> Callable[[list[SentRequest]], None]:
    """Return a function that sends requests one after the other."""

    def replay(requests: list[SentRequest]) -> None:
        for sent in requests:
            send(sent)

    return replay


def kind_of(sent: SentRequest) -> str:
    """Return the content type of a request."""
    return "application/x-ndjson" if "_msearch" in sent.path else "application/json"


@contextmanager
def over_requests(documents: int) -> Iterator[Contest]:
    """Publish a release under a prefix of its own; searches and their requests take turns."""
    with running_server() as url, ThreadPoolExecutor(1) as pool:
        place = ReleaseCatalogue(connect(url, Settings(), timeout=600), f"benchmark-{uuid4().hex[:8]}-")
        made = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
        publish_release(place, draw_tables(documents, USERS), made)
        try:
            index, client = Searcher(OpenSearchBackend(place, made.name)), sent_by(place.client)
            contest = Contest(rounds=(5, 9), seconds=25.0)
            replays = {
                "two at once": alike(client, pool),
                "in turn": in_turn(client),
                "bytes": alike(bare(url), pool),
            }
            for name, options in ASKED.items():
                queries = [Query(user=f"u{number * 37 % USERS:06d}", **options) for number in range(SEARCHES)]
                requests = [index.requests(query) for query in queries]
                contest.ours(name, lambda q=queries: [index.search(each) for each in q], per=SEARCHES)  # type: ignore[misc]
                for way, replay in replays.items():
                    contest.rival(
                        f"{name}: {len(requests[-1])} requests, {way}",
                        lambda r=requests, s=replay: lambda: [s(each) for each in r],  # type: ignore[misc]
                        [name],
                        per=SEARCHES,
                    )
            yield contest
        finally:
            place.delete(made.name)
