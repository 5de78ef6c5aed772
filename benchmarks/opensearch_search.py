"""What a search costs beside its bare requests: `python -m benchmarks.opensearch_search URL` (40,000 x 384, 1 minute).

The catalogue of `benchmarks.search` is published on a server under a prefix of its own, which is removed in the end.
Then `Index.search` and the very requests that it sends (`Index.requests`), as bytes over one plain connection that
reads the answers as bytes, take turns, another shopper each time, so that whatever else the machine does falls on both.
"""

import argparse
import http.client
import os
import time
from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import pandas as pd

from benchmarks.search import DIMENSION, catalogue, neighbours, shoppers
from vlm4rec_search.indexes.base import Index
from vlm4rec_search.indexes.meta import new_release
from vlm4rec_search.indexes.sent import Sent
from vlm4rec_search.indexes.staging import Frame, SearchTables
from vlm4rec_search.opensearch.catalogue import Catalogue
from vlm4rec_search.opensearch.connection import connect
from vlm4rec_search.opensearch.index import OpenSearchIndex
from vlm4rec_search.opensearch.publishing import publish_release
from vlm4rec_search.queries.query import Query
from vlm4rec_search.settings import Settings


def tables(documents: int, users: int) -> SearchTables[Frame]:
    """Draw a catalogue with shoppers."""
    draw = np.random.default_rng(7)
    items = catalogue(documents, draw)
    counts = draw.integers(1, 999, len(items))
    popular = pd.DataFrame({"item_id": items["item_id"], "interactions": counts, "recent": counts // 10})
    segments = pd.DataFrame({"segment": ["s"], "item_id": ["i000000"], "interactions": [1]})
    return SearchTables[Frame](items, shoppers(items, users, draw), popular, neighbours(items, draw), segments)


def bare(url: str) -> Callable[[list[Sent]], None]:
    """Return what posts requests over one connection and reads the answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def send(requests: list[Sent]) -> None:
        for sent in requests:
            kind = "application/x-ndjson" if "_msearch" in sent.path else "application/json"
            connection.request(sent.method, sent.path, sent.body.encode(), {"content-type": kind})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{sent.path}: status {answer.status}")

    return send


def milliseconds(act: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000.0


def compare(index: Index, send: Callable[[list[Sent]], None], queries: list[Query]) -> None:
    """Print p50 and p95 of both and the ratio of their medians; the first tenth warms up."""
    asked = [(query, index.requests(query)) for query in queries]
    times = []
    for number, (query, requests) in enumerate(asked):
        acts = [lambda q=query: index.search(q), lambda r=requests: send(r)]  # type: ignore[misc]
        first = number % 2  # neither always finds what the other has warmed
        pair = {place: milliseconds(acts[place]) for place in (first, 1 - first)}
        times.append((pair[0], pair[1]))
    kept = np.array(times[len(times) // 10 :])
    (ours, raw), (slow, slow_raw) = np.percentile(kept, 50, axis=0), np.percentile(kept, 95, axis=0)
    row = f"{queries[0].mode:<10}{len(asked[-1][1]):>9}{ours:>10.2f}{slow:>8.2f}{raw:>10.2f}{slow_raw:>8.2f}"
    print(f"{row}{ours / raw:>8.3f}", flush=True)


def main() -> None:
    """Publish, compare, and delete what was published."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="an OpenSearch server with k-NN, such as `vlm4rec opensearch start` gives")
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--searches", type=int, default=200)
    asked = parser.parse_args()
    place = Catalogue(connect(asked.url, Settings(), timeout=600), f"benchmark-{uuid4().hex[:8]}-")
    made = new_release("hashing-384@1", DIMENSION, "none@1", "none@1", None)
    publish_release(place, tables(asked.documents, asked.users), made)
    try:
        index, send = OpenSearchIndex(place, made.name), bare(asked.url)
        print(f"{asked.documents:,} documents x {DIMENSION}, {asked.searches} searches, {os.cpu_count()} cores, ms")
        print(f"{'mode':<10}{'requests':>9}{'search':>10}{'p95':>8}{'bare':>10}{'p95':>8}{'ratio':>8}")
        for mode in ("hybrid", "semantic", "lexical"):
            users = (f"u{number * 37 % asked.users:06d}" for number in range(asked.searches))
            compare(index, send, [Query(user=user, mode=mode) for user in users])  # type: ignore[arg-type]
    finally:
        place.delete(made.name)


if __name__ == "__main__":
    main()
