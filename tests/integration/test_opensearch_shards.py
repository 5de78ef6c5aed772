"""Several shards answer as one: words are counted over all of them, and every shard gives its nearest vectors."""

from collections.abc import Iterator

import pytest
from helpers import search_tables
from helpers.backend_pair import SHOPPERS, TEXTS, Pair
from helpers.backends import Embedded, Server
from helpers.opensearch_server import prefixed

from vlm4rec_search import Query
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.opensearch.storage import Storage

EVERYTHING = 1_000  # candidates: more than documents
BOUND = 2e-6  # what float32 leaves of six decimals


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, opensearch_url: str) -> Iterator[Pair]:
    """The built-in shop in a folder, and on a server in three shards."""
    tables = search_tables.tables(search_tables.shop())
    with prefixed(opensearch_url) as prefix:
        folder, server = Embedded(tmp_path_factory.mktemp("index")), Server(opensearch_url, prefix)
        client = connect(opensearch_url, Settings())
        server.releases = OpenSearchReleases(client, prefix, opensearch_url, Storage(shards=3, replicas=0))
        for place in (folder, server):
            place.publish(tables, search_tables.made())
        with folder.open() as one, server.open() as other:
            yield Pair(one, other)


def test_the_release_has_the_shards_and_copies_that_were_asked_for(sharded: Pair) -> None:
    index = sharded.server.release.name
    (found,) = sharded.client.indices.get_settings(index=f"*{index}", flat_settings=True).values()
    assert found["settings"]["index.number_of_shards"] == "3"
    assert found["settings"]["index.number_of_replicas"] == "0"


@pytest.mark.parametrize("mode", ["lexical", "semantic", "hybrid"])
def test_scores_are_those_of_one_index(sharded: Pair, mode: str) -> None:
    # Scores differ in their last digits, so that two that nearly tie may exchange their ranks: not fused by ranks.
    queries = [
        Query(user=user, mode=mode, k=EVERYTHING, depth=EVERYTHING, fusion="minmax")  # type: ignore[arg-type]
        for user in SHOPPERS
    ]
    queries += [Query(text=text, mode=mode, k=EVERYTHING, depth=EVERYTHING) for text in TEXTS]  # type: ignore[arg-type]
    compared = 0
    for query in queries:
        one, other = ({hit.item_id: hit.score for hit in index.search(query).hits} for index in sharded)
        assert one == pytest.approx(other, abs=BOUND, rel=BOUND), query
        compared += len(one)
    assert compared > 1_000


def test_shares_of_words_are_those_of_one_index(sharded: Pair) -> None:
    query = Query(text="blue cotton dress", mode="lexical", explain=True)
    told = [[hit.explanation for hit in index.search(query).hits] for index in sharded]
    one, other = ([share for each in found if each for share in each.words] for found in told)
    assert len(one) == len(other) > 0
    for mine, theirs in zip(one, other, strict=True):
        assert vars_of(mine) == pytest.approx(vars_of(theirs), abs=1e-5)


def vars_of(share: object) -> dict[str, object]:
    return {name: getattr(share, name) for name in type(share).__slots__}  # type: ignore[attr-defined]
