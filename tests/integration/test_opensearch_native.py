"""The server's own hybrid query: its body anywhere, and its answers where a server can fuse."""

import json
from collections.abc import Iterator
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from helpers.backend_pair import SHOPPERS, Pair
from helpers.backends import Server
from helpers.six_items import RANKING, documents, given

from vlm4rec_search import Query
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch import native, queries
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.sender import Sender
from vlm4rec_search.search.model import Retriever
from vlm4rec_search.search.searcher import Searcher


@pytest.fixture(scope="module")
def index(server: Server) -> Iterator[Searcher]:
    server.publish(given(documents()))
    with server.open(ranking=RANKING) as opened:
        yield opened


def test_hybrid_bodies_keep_the_rules_of_the_server(index: Searcher) -> None:
    query = Query(user="u1", filters=["category=dresses"], fusion="minmax", weights={"behaviour": 1, "popularity": 1})
    _, chosen = index.plan(index.backend.reader(), query)
    asked = chosen.request
    within = queries.allowed(asked, "profiles")
    body = json.loads(json.dumps(native.hybrid_body(asked, within, [1, 1, 2, 1], 200), default=np.ndarray.tolist))
    hybrid = body["query"]["hybrid"]
    assert (list(body["query"]), set(hybrid)) == (["hybrid"], {"queries", "pagination_depth"})
    assert (len(hybrid["queries"]), hybrid["pagination_depth"], body["size"]) == (4, 200, 200)
    (processor,) = body["search_pipeline"]["phase_results_processors"]
    combination = processor["normalization-processor"]["combination"]
    assert combination["parameters"]["weights"] == [0.2, 0.2, 0.4, 0.2]
    assert all(isinstance(weight, float) for weight in combination["parameters"]["weights"])
    assert json.dumps(hybrid["queries"]).count("facets.category") == 4  # the filter is inside of every leg
    assert native.can_answer(chosen)
    by_text = Query(text="blue dress")  # of few matches ours is another arithmetic
    others = (replace(query, explain=True), replace(query, diversity=0.5), replace(query, fusion="rrf"), by_text)
    for other in others:
        assert not native.can_answer(index.plan(index.backend.reader(), other)[1])
    lists = [Retriever("co-purchase", "behaviour", items={f"i{n}": 1.0 / (n + 1) for n in range(500)})] * 2
    long = replace(chosen, request=replace(asked, retrievers=lists))
    assert not native.can_answer(long)  # 1,000 clauses of one search and those of the filter
    assert native.best([(0.5, "b"), (0.7, "c"), (0.5, "a")], 2) == [(0.7, "c"), (0.5, "a")]
    with pytest.raises(RunError, match="negative scores"):
        native.best([(-9.5e9, "a")], 2)


@pytest.fixture(scope="module")
def fusing_server(opensearch_url: str) -> None:
    """A server with the plug-in; without it nothing is published for the test."""
    if not native.is_installed(Sender(connect(opensearch_url, Settings()))):
        pytest.xfail("no jar has the plug-in neural-search: let OPENSEARCH_URL name a full distribution")


@pytest.mark.usefixtures("fusing_server")
def test_a_server_that_fuses_by_itself_answers_as_we_do(pair: Pair) -> None:
    backend = copy(pair.server.backend)
    vars(backend)["_can_fuse"] = False
    here = Searcher(backend)
    queries = [Query(user=user, k=50, weights=weights) for user in SHOPPERS for weights in ({}, {"popularity": 0.0})]
    with pair.by("mean"):
        here.ranking = pair.server.ranking
        for query in queries:
            theirs, ours = (
                {hit.item_id: hit.score for hit in index.search(query).hits} for index in (pair.server, here)
            )
            assert [score for item, score in theirs.items() if abs(score - ours.get(item, score)) > 1e-5] == []
            assert len(theirs.keys() & ours.keys()) >= 0.96 * len(ours)  # near ties at the end
