"""An index for tests of the loader on the real server, and documents to load into it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.connection import connect

MAPPING = {
    "dynamic": "strict",
    "_meta": {"encoder": "hashing-4@1"},
    "properties": {
        "title": {"type": "text"},
        "price": {"type": "double"},
        "vector": {"type": "knn_vector", "dimension": 4, "method": {"name": "hnsw", "engine": "lucene"}},
    },
}


def item(number: int, title: str = "shoe") -> tuple[str, bytes]:
    """Return an operation that indexes one item."""
    body = {"title": f"{title} {number}", "price": number, "vector": [1.0, 0.0, 0.0, number / 2]}
    return f"i{number:05d}", json.dumps(body).encode()


class LoadingIndex:
    """An index with a unique name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"test-loading-{uuid4().hex}"
        self.client: OpenSearch = connect(url, Settings())

    def create(self, **settings: object) -> None:
        index = {"knn": True, "number_of_shards": 1, "number_of_replicas": 0, **settings}
        self.client.indices.create(index=self.name, body={"settings": {"index": index}, "mappings": MAPPING})

    def settings(self) -> dict[str, Any]:
        ((_, body),) = self.client.indices.get_settings(index=self.name, flat_settings=True).items()
        return {name.removeprefix("index."): value for name, value in body["settings"].items()}

    def meta(self) -> Any:
        ((_, body),) = self.client.indices.get_mapping(index=self.name).items()
        return body["mappings"]["_meta"]

    def titles(self) -> dict[str, str]:
        """Return the title of every document by id."""
        body = {"size": 10_000, "query": {"match_all": {}}, "_source": ["title"]}
        hits = self.client.search(index=self.name, body=body)["hits"]["hits"]
        return {hit["_id"]: hit["_source"]["title"] for hit in hits}


@contextmanager
def loading_index(url: str, **settings: object) -> Iterator[LoadingIndex]:
    """Yield a new index, and delete it afterwards."""
    own = LoadingIndex(url)
    own.create(**settings)
    try:
        yield own
    finally:
        with suppress(exceptions.NotFoundError):
            own.client.indices.delete(index=own.name)
