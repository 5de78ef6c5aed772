"""A catalogue published in a folder and on a server, side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import pytest
from opensearchpy import OpenSearch

from helpers import search_tables
from helpers.backends import Embedded, Server
from helpers.opensearch_server import prefixed
from vlm4rec_search import Query
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.search.searcher import Searcher

SHOPPERS = [f"u{number:02d}" for number in range(0, search_tables.SHOPPERS, 3)]
TEXTS = ["striped bag", "warm jacket for the winter", "women's running shoes", "blue cotton dress", "a gift", "hoodie"]
LEFT_OUT = {"took_ms", "release"}


class Pair(NamedTuple):
    embedded: Searcher
    server: Searcher

    def both(self, query: Query) -> tuple[dict[str, object], dict[str, object]]:
        one, other = (
            {name: value for name, value in index.search(query).to_json().items() if name not in LEFT_OUT}
            for index in self
        )
        return one, other

    @property
    def client(self) -> OpenSearch:
        assert isinstance(self.server.backend, OpenSearchBackend)
        return self.server.backend._catalogue.client

    @contextmanager
    def by(self, profile: Literal["mean", "interests"]) -> Iterator[None]:
        """Let profiles be searched with the leg of their mean, or with one for each interest."""
        before = self.embedded.ranking
        for index in self:
            index.ranking = before.model_copy(update={"profile": profile})
        try:
            yield
        finally:
            for index in self:
                index.ranking = before

    def tops(self, query: Query) -> tuple[list[str], list[str]]:
        one, other = ([hit.item_id for hit in index.search(query).hits] for index in self)
        return one, other


@pytest.fixture(scope="module", params=["shop", "luma"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, opensearch_url: str
) -> Iterator[Pair]:
    if request.param == "luma" and not search_tables.LUMA.exists():
        pytest.skip("shared/data is not there")
    tables = search_tables.tables(getattr(search_tables, request.param)())
    with prefixed(opensearch_url) as prefix:
        places = Embedded(tmp_path_factory.mktemp("index")), Server(opensearch_url, prefix)
        for place in places:
            place.publish(tables, search_tables.made())
        with places[0].open() as one, places[1].open() as other:
            yield Pair(one, other)
