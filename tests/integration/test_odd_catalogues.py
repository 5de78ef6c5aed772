"""Catalogues with hardly anything to go by are published and searched in both backends, with the same answers."""

from pathlib import Path
from typing import get_args

from helpers import search_tables
from helpers.backends import Embedded, Server
from helpers.opensearch_server import prefixed

from vlm4rec_search import Query
from vlm4rec_search.search.query import Mode


def answers(history: int, items: int, folder: Path, opensearch_url: str, queries: list[Query]) -> list[list[list[str]]]:
    """Return the hits of each query in both backends, of shoppers with so many interactions and so many items."""
    tables = search_tables.tables(search_tables.shop()[:items], history)
    found = []
    with prefixed(opensearch_url) as prefix:
        for place in Embedded(folder), Server(opensearch_url, prefix):
            place.publish(tables, search_tables.made())
            with place.open() as index:
                found.append([[hit.item_id for hit in index.search(query).hits] for query in queries])
    return found


def test_one_interaction_for_each_shopper(tmp_path: Path, opensearch_url: str) -> None:
    modes = get_args(Mode)
    queries = [Query(user=f"u{number:02d}", mode=mode, depth=300) for mode in modes for number in range(0, 40, 5)]
    one, other = answers(1, 300, tmp_path, opensearch_url, queries)
    assert one == other
    assert {len(hits) for hits in one} == {10}  # behaviour knows no neighbours, and popularity answers


def test_one_item(tmp_path: Path, opensearch_url: str) -> None:
    item = search_tables.shop()["item_id"][0]
    queries = [Query(user="u00"), Query(user="u00", include_seen=True), Query(user="nobody"), Query(items=[item])]
    one, other = answers(1, 1, tmp_path, opensearch_url, queries)
    assert one == other == [[], [item], [item], []]
