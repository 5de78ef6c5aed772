"""The step `opensearch` of `benchmarks.million`: the tables go to a local OpenSearch and are searched there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from opensearchpy import OpenSearch

from benchmarks.million import USERS, Result, p50, peak_memory
from vlm4rec_search.common.logging import configure_logging
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.local import process, server
from vlm4rec_search.indexes.opensearch.mapping import read_meta
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.search_layer import read_search_layer
from vlm4rec_search.search.query import Query

ASKED, NEAREST = 50, 10  # shoppers whose nearest items are compared, and how many items of each
QUERIES: dict[str, dict[str, Any]] = {
    "semantic": {"mode": "semantic"},
    "lexical": {"mode": "lexical"},
    "hybrid": {},
    "hybrid, category and price": {"filters": ["category=c3", "price=10..50"]},
}


def load_and_search(warehouse: Path, folder: Path, heap_mb: int) -> Result:
    """Publish the tables on a server of a folder, as `vlm4rec index` does, and search. The server stops, data stay."""
    configure_logging()  # progress on stderr
    found: Result = {"heap_mb": heap_mb}
    with _running(folder, heap_mb, found) as url:
        client = connect(url, Settings(), timeout=600)
        releases = OpenSearchReleases(client, "million-", url)
        with peak_memory(found):
            with duckdb.connect(str(warehouse), read_only=True) as connection:
                layer = read_search_layer(connection)
            done = releases.publish(layer.tables, layer.new_release("benchmark"), incremental=False, force=False)
        items = releases.catalogue.index("items", done.meta.name)
        found |= {"publication_s": done.summary.seconds, "repeated": sum(load.repeated for load in done.loads)}
        found |= {f"{load.index.split('__')[0]} load_s": load.seconds for load in done.loads}
        found |= _describe(client, items)
        found |= _search(releases, done.meta.name)
    return found


@contextmanager
def _running(folder: Path, heap_mb: int, found: Result) -> Iterator[str]:
    """Yield the URL of a server that runs meanwhile; add the peaks of its memory in MB."""
    url = str(server.start(folder, 0, heap_mb=heap_mb, java_home=Settings().opensearch_java).url)
    node = process.find_running(folder / "node-1")
    peaks: Result = {}
    try:
        with peak_memory(peaks, str(node.pid) if node else "self"):
            yield url
    finally:
        found |= {f"server_{name}": value for name, value in peaks.items()}
        server.stop(folder)


def _describe(client: OpenSearch, items: str) -> Result:
    """Return the size of the index of items and what verification chose."""
    stats = client.indices.stats(index=items, metric="store,segments")["_all"]["primaries"]
    ((_, described),) = client.indices.get_mapping(index=items).items()
    meta = described["mappings"]["_meta"]
    found = {"documents": read_meta(meta).documents, "shards": meta["shards"], "ef_search": meta["ef_search"]}
    return {**found, "items_mb": stats["store"]["size_in_bytes"] / 1e6, "segments": stats["segments"]["count"]}


def _search(releases: OpenSearchReleases, name: str) -> Result:
    """Time searches of another shopper each, count degraded ones, and compare the nearest items with all cosines."""
    index, found, degraded = releases.open(name), {}, 0

    def ask(number: int, **options: Any) -> list[str]:
        nonlocal degraded
        answer = index.search(Query(user=_shopper(number), **options))
        degraded += bool(answer.degraded)
        return [hit.item_id for hit in answer.hits]

    for label, options in QUERIES.items():
        found[f"{label} p50_ms"] = p50(partial(ask, **options))
    found["degraded"] = degraded
    client = releases.catalogue.client
    items, profiles = releases.catalogue.index("items", name), releases.catalogue.index("profiles", name)
    recalls = []
    for number in range(ASKED):
        near = ask(number, mode="semantic", k=NEAREST)
        profile = client.get(index=profiles, id=_shopper(number))["_source"]
        recalls.append(len({*near} & {*_nearest(client, items, profile)}) / NEAREST)
    index.close()
    return {**found, "recall_10": float(np.mean(recalls)), "lowest recall_10": min(recalls)}


def _shopper(number: int) -> str:
    return f"u{number * 37 % USERS:05d}"


def _nearest(client: OpenSearch, items: str, profile: Mapping[str, Any]) -> list[str]:
    """Return the nearest items among all that the shopper has not seen, by comparing every vector."""
    parameters = {"field": "vector", "query_value": profile["vector"], "space_type": "cosinesimil"}
    unseen = {"bool": {"must_not": [{"terms": {"item_id": profile["seen"]}}]}}
    script = {"lang": "knn", "source": "knn_score", "params": parameters}
    query = {"script_score": {"query": unseen, "script": script}}
    answer = client.search(index=items, body={"size": NEAREST, "_source": False, "query": query}, request_timeout=300)
    return [hit["_id"] for hit in answer["hits"]["hits"]]
