"""Overhead of a search over its bare requests: `python -m benchmarks.opensearch_search URL` (40,000 x 384, 1 minute).

The catalogue of `benchmarks.search` is published on a server under a prefix of its own, which is removed at the end.
Then a search and its own requests (`Index.requests`) take turns, another shopper each time, so that other load on the
machine affects all of them. The requests are sent in three ways:

- by opensearch-py, two at once like the search ("client");
- by opensearch-py, one after the other ("in turn");
- as bytes over plain connections, without parsing the answer, which is the lower bound ("bytes").
"""

import argparse
import http.client
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
from opensearchpy import OpenSearch

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

ASKED: dict[str, dict[str, Any]] = {
    "hybrid, 4 retrievers": {},
    "hybrid, vectors, words": {"weights": {"behaviour": 0, "popularity": 0}},
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


def milliseconds(act: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000.0


def compare(
    name: str, index: Searcher, replays: list[Callable[[list[SentRequest]], None]], queries: list[Query]
) -> None:
    """Print p50 and p95 of the search and of each replay, and the ratios of the medians; the first tenth warms up."""
    asked = [(query, index.requests(query)) for query in queries]
    times = np.zeros((len(asked), 1 + len(replays)))
    for number, (query, requests) in enumerate(asked):
        acts = [lambda q=query: index.search(q), *(lambda s=replay, r=requests: s(r) for replay in replays)]  # type: ignore[misc]
        for turn in range(len(acts)):
            place = (number + turn) % len(acts)  # so that none always profits from caches that another has filled
            times[number, place] = milliseconds(acts[place])
    p50, p95 = np.percentile(times[len(times) // 10 :], (50, 95), axis=0)
    parts = "".join(f"{middle:>9.2f}{slow:>8.2f}" for middle, slow in zip(p50, p95, strict=True))
    print(f"{name:<24}{len(asked[-1][1]):>9}{parts}" + "".join(f"{p50[0] / raw:>9.3f}" for raw in p50[1:]), flush=True)


def main() -> None:
    """Publish a release, compare, and delete the release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="an OpenSearch server with k-NN, such as `vlm4rec opensearch start` gives")
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--searches", type=int, default=200)
    asked = parser.parse_args()
    place = ReleaseCatalogue(connect(asked.url, Settings(), timeout=600), f"benchmark-{uuid4().hex[:8]}-")
    made = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
    publish_release(place, draw_tables(asked.documents, asked.users), made)
    try:
        index, pool = Searcher(OpenSearchBackend(place, made.name)), ThreadPoolExecutor(1)
        client = sent_by(place.client)
        replays = [alike(client, pool), in_turn(client), alike(bare(asked.url), pool)]
        print(f"{asked.documents:,} documents x {DIMENSION}, {asked.searches} searches, {os.cpu_count()} cores, ms")
        times = "".join(f"{who:>9}{'p95':>8}" for who in ("search", "client", "in turn", "bytes"))
        print(f"{'':<24}{'requests':>9}{times}{'/client':>9}{'/in turn':>9}{'/bytes':>9}")
        for name, options in ASKED.items():
            users = (f"u{number * 37 % asked.users:06d}" for number in range(asked.searches))
            compare(name, index, replays, [Query(user=user, **options) for user in users])
    finally:
        place.delete(made.name)


if __name__ == "__main__":
    main()
