"""Documents into OpenSearch by this package, by opensearch-py's helpers, and by bare posts of bytes encoded before.

The clock stops when the documents are searchable. Most of the server's work builds Lucene's graph of neighbours.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
from opensearchpy import OpenSearch
from opensearchpy.helpers import parallel_bulk, streaming_bulk

from benchmarks.measure import Contest, Value
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.bulk import Line, Rejection, documents, encode, post
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.loader import CHUNK_BYTES, CONNECTIONS, load, loading
from vlm4rec_search.indexes.opensearch.local import server

DIMENSION, WORDS = 384, (6, 18, 16)  # words of title, description and caption
OURS, HEAP_MB = "load", 1024
TEXTS = ("title", "description", "caption")
SETTINGS = {"knn": True, "number_of_shards": 1, "number_of_replicas": 0}
VECTOR = {"type": "knn_vector", "dimension": DIMENSION, "space_type": "cosinesimil"}
PROPERTIES = {
    **{name: {"type": "keyword"} for name in ("item_id", "category")},
    **{name: {"type": "text", "analyzer": "english"} for name in TEXTS},
    "price": {"type": "double"},
    "vector": {**VECTOR, "method": {"name": "hnsw", "engine": "lucene"}},
}

Loader = Callable[[str], int]  # loads an index and returns the number of documents


def draw_documents(size: int) -> pa.Table:
    """Draw documents around 100 cluster centres, with texts of 40 words and vectors as lists of float32."""
    draw = np.random.default_rng(7)
    vectors = draw.standard_normal((100, DIMENSION))[draw.integers(0, 100, size)]
    vectors += 0.7 * draw.standard_normal(vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = {"item_id": [f"i{number:06d}" for number in range(size)]}
    for name, words in zip(TEXTS, WORDS, strict=True):
        columns[name] = [" ".join(f"w{word}x" for word in row) for row in draw.zipf(1.2, (size, words)) % 20_000]
    columns["category"] = [f"c{number}" for number in draw.integers(0, 20, size)]
    prices = draw.uniform(1, 100, size).round(2)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), DIMENSION)
    return pa.table({**columns, "price": prices, "vector": lists})


def make_loaders(client: OpenSearch, rows: pa.Table) -> dict[str, Loader]:
    """Return the loaders by name; each starts from the rows as a warehouse gives them, or from encoded bytes."""
    bodies = {name: body for name, body in documents(rows.to_batches(), "item_id", ["vector"]) if body}
    # float64 values that print like the float32 ones, so that both loaders send equally many bytes
    dictionaries: list[dict[str, Any]] = [orjson.loads(body) for body in bodies.values()]
    lines = [encode(operation) for operation in bodies.items()]
    posts = list(cut_into_chunks(lines))

    def stream(index: str) -> int:
        actions = ({"_index": index, "_id": row["item_id"], "_source": row} for row in dictionaries)
        return sum(done for done, _ in streaming_bulk(client, actions, chunk_size=500))

    def parallel(index: str) -> int:
        actions = ({"_index": index, "_id": row["item_id"], "_source": row} for row in dictionaries)
        return sum(done for done, _ in parallel_bulk(client, actions, thread_count=CONNECTIONS, chunk_size=500))

    def ours(index: str) -> int:
        with loading(client, index):
            operations = documents(rows.to_batches(1_000), "item_id", ["vector"])
            return load(client, index, operations, len(rows), refuse).indexed

    def bare(index: str) -> int:
        client.indices.put_settings(index=index, body={"index": {"refresh_interval": "-1"}})
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            replies = pool.map(lambda chunk: (len(chunk), post(client, index, chunk)), posts)
            return sum(size - len(reply.refused) for size, reply in replies)

    return {OURS: ours, "streaming_bulk": stream, "parallel_bulk": parallel, "bare posts": bare}


def cut_into_chunks(lines: list[Line]) -> Iterator[list[Line]]:
    """Yield chunks of about the size that `load` sends."""
    step = max(1, CHUNK_BYTES * len(lines) // sum(len(line.data) for line in lines))
    for start in range(0, len(lines), step):
        yield lines[start : start + step]


def refuse(rejection: Rejection) -> None:
    """Stop: every document of the benchmark is good."""
    raise RunError(rejection.reason)


def measure(client: OpenSearch, loader: Loader) -> Value:
    """Load a new index; return the seconds until all documents are searchable."""
    index = f"benchmark-loading-{uuid4().hex}"
    client.indices.create(index=index, body={"settings": {"index": SETTINGS}, "mappings": {"properties": PROPERTIES}})
    try:
        started = time.perf_counter()
        loaded = loader(index)
        client.indices.refresh(index=index)
        seconds = time.perf_counter() - started
        count = client.count(index=index)["count"]
        if loaded != count:
            raise RunError(f"{loaded} documents loaded, {count} in the index")
        return Value(seconds)
    finally:
        client.indices.delete(index=index)


@contextmanager
def running_server() -> Iterator[str]:
    """Yield the URL of the server at `OPENSEARCH_URL`, or of one that runs in a temporary folder meanwhile."""
    if given := os.environ.get("OPENSEARCH_URL"):
        yield given.rstrip("/")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "server"
        try:
            server.start(folder, 0, heap_mb=HEAP_MB)
            yield server.status(folder).url
        finally:
            server.stop(folder)


@contextmanager
def putting(documents: int) -> Iterator[Contest]:
    """Load the same documents by each loader."""
    with running_server() as url:
        client = connect(url, Settings(), timeout=600)
        loaders = make_loaders(client, draw_documents(documents))
        measure(client, loaders["bare posts"])  # the first load of a server is always slow
        contest = Contest(rounds=(3, 5), seconds=30.0)
        contest.ours(OURS, lambda: measure(client, loaders[OURS]), per=documents, warm=False)
        for name in [name for name in loaders if name != OURS]:
            contest.rival(
                name,
                lambda n=name: lambda: measure(client, loaders[n]),
                [OURS],
                per=documents,
                warm=False,  # type: ignore[misc]
            )
        yield contest
