"""Documents per second into OpenSearch: `python -m benchmarks.loading URL` (40,000 documents x 384, 5 rounds).

Three loaders put the same bytes into equal new indexes (one shard, no replicas, otherwise default settings):

- `streaming_bulk` of opensearch-py with 500 documents per chunk, as its documentation shows it;
- `load` of this package inside `loading`, from arrow batches;
- bare posts of chunks that were encoded before the clock starts, over 4 connections and without refreshes. They show
  how fast the server takes documents.

The clock stops when the documents are searchable. The loaders take turns, so that other load on the machine affects
all of them, and the ratios are medians over the rounds. The table also shows for how many seconds the server's cores
worked; divided by their number it is a lower bound for every loader. Most of that work builds Lucene's graph of
neighbours; `--without-graph` stores the vectors as plain numbers and so compares the loaders alone.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
from opensearchpy import OpenSearch
from opensearchpy.helpers import streaming_bulk

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.bulk import Line, Rejection, documents, encode, post
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.loader import CHUNK_BYTES, CONNECTIONS, load, loading

DIMENSION, WORDS = 384, (6, 18, 16)  # words of title, description and caption
OURS = "vlm4rec load"
TEXTS = ("title", "description", "caption")
SETTINGS = {"knn": True, "number_of_shards": 1, "number_of_replicas": 0}
VECTOR = {"type": "knn_vector", "dimension": DIMENSION, "space_type": "cosinesimil"}
PROPERTIES = {
    **{name: {"type": "keyword"} for name in ("item_id", "category")},
    **{name: {"type": "text", "analyzer": "english"} for name in TEXTS},
    "price": {"type": "double"},
    "vector": {**VECTOR, "method": {"name": "hnsw", "engine": "lucene"}},
}
NUMBERS = {"type": "float", "index": False, "doc_values": False}

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

    def ours(index: str) -> int:
        with loading(client, index):
            operations = documents(rows.to_batches(1_000), "item_id", ["vector"])
            return load(client, index, operations, len(rows), refuse).indexed

    def bare(index: str) -> int:
        client.indices.put_settings(index=index, body={"index": {"refresh_interval": "-1"}})
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            replies = pool.map(lambda chunk: (len(chunk), post(client, index, chunk)), posts)
            return sum(size - len(reply.refused) for size, reply in replies)

    return {"streaming_bulk": stream, OURS: ours, "bare posts": bare}


def cut_into_chunks(lines: list[Line]) -> Iterator[list[Line]]:
    """Yield chunks of about the size that `load` sends."""
    step = max(1, CHUNK_BYTES * len(lines) // sum(len(line.data) for line in lines))
    for start in range(0, len(lines), step):
        yield lines[start : start + step]


def refuse(rejection: Rejection) -> None:
    """Stop: every document of the benchmark is good."""
    raise RunError(rejection.reason)


def measure(client: OpenSearch, loader: Loader, graph: bool) -> tuple[float, float]:
    """Load a new index; return the seconds until all documents are searchable, and the seconds of CPU time."""
    index, properties = f"benchmark-loading-{uuid4().hex}", PROPERTIES if graph else {**PROPERTIES, "vector": NUMBERS}
    client.indices.create(index=index, body={"settings": {"index": SETTINGS}, "mappings": {"properties": properties}})
    try:
        started, worked = time.perf_counter(), cpu_seconds(client)
        loaded = loader(index)
        client.indices.refresh(index=index)
        seconds, work = time.perf_counter() - started, cpu_seconds(client) - worked
        count = client.count(index=index)["count"]
        if loaded != count:
            raise RunError(f"{loaded} documents loaded, {count} in the index")
        return seconds, work
    finally:
        client.indices.delete(index=index)


def cpu_seconds(client: OpenSearch) -> float:
    """Return the CPU time that the server has used since it started."""
    nodes = client.nodes.stats(metric="process")["nodes"].values()
    return sum(float(node["process"]["cpu"]["total_in_millis"]) for node in nodes) / 1000.0


def main() -> None:
    """Run the loaders in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "url", help="an OpenSearch server with k-NN on this machine, such as that of `vlm4rec opensearch start`"
    )
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-graph", action="store_true", help="store the vectors as plain numbers")
    options = parser.parse_args()
    client, cores, graph = connect(options.url, Settings(), timeout=600), os.cpu_count() or 1, not options.without_graph
    loaders = make_loaders(client, draw_documents(options.documents))
    suffix = "" if graph else ", no graph"
    print(f"{options.documents:,} documents x {DIMENSION}, {options.rounds} rounds, {cores} cores{suffix}")
    measure(client, loaders["bare posts"], graph)  # the first load of a server is always slow
    rounds = [{name: measure(client, loader, graph) for name, loader in loaders.items()} for _ in range(options.rounds)]
    print(f"{'documents/s, median':<22}{'loaded':>9}{'server CPU s':>14}   each round")
    for name in loaders:
        rates = [options.documents / times[name][0] for times in rounds]
        work = median(times[name][1] for times in rounds)
        print(f"{name:<22}{median(rates):>9,.0f}{work:>14.1f}   {', '.join(f'{rate:,.0f}' for rate in rates)}")
    for other in [name for name in loaders if name != OURS]:
        ratios = [times[other][0] / times[OURS][0] for times in rounds]
        print(f"{OURS} / {other}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    if not all(times["bare posts"][1] for times in rounds):
        print("The server's CPU time was too short to measure: load more documents for the bound")
        return
    most = median(times["streaming_bulk"][0] / (times["bare posts"][1] / cores) for times in rounds)
    print(f"{cores} cores without other work could be {most:.2f} times as fast as streaming_bulk")


if __name__ == "__main__":
    main()
