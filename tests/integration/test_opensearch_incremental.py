"""An incremental release gives the same answers as a full release of the same tables.

The search of neighbours is approximate, so only lists that are deeper than the catalogue are compared exactly; the top
ten have to overlap by 95% on average.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from helpers import search_tables
from helpers.backends import Server
from helpers.opensearch_server import prefixed
from helpers.server_releases import Window
from helpers.six_items import documents, ease, given, meta

from vlm4rec_search import Query
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.search.searcher import Searcher

SHOPPERS = [f"u{number:02d}" for number in range(0, search_tables.SHOPPERS, 2)]
TEXTS = ["striped bag", "warm jacket for the winter", "blue cotton dress", "a gift", "velvet hoodie of the year"]


class Pair(NamedTuple):
    """The incremental and the full release of the same tables; `changed` and `gone` are items."""

    step: Searcher
    whole: Searcher
    changed: str
    gone: str

    def tops(self, query: Query) -> tuple[list[str], list[str]]:
        one, other = ([hit.item_id for hit in index.search(query).hits] for index in (self.step, self.whole))
        return one, other

    def overlap(self, queries: list[Query]) -> float:
        tops = [self.tops(query) for query in queries]
        assert [len(one) for one, _ in tops] == [len(other) for _, other in tops]
        return float(np.mean([len(set(one) & set(other)) / len(one) for one, other in tops if one]))


def one_percent_changed(catalogue: pd.DataFrame) -> pd.DataFrame:
    """Return the items with one added, one changed, and one removed."""
    frame = pd.concat([catalogue[1:], catalogue[5:6].assign(item_id="new")], ignore_index=True)
    place = frame.index[frame["item_id"] == catalogue["item_id"][2]][0]
    frame.loc[place, ["title", "content_hash"]] = ["Velvet hoodie of the year", "changed"]
    text = " ".join(filter(None, frame.loc[place, ["title", "description", "caption"]]))
    frame.at[place, "vector"] = load_sentence_encoder(search_tables.ENCODER).encode([text])[0]
    return frame


@pytest.fixture(scope="module")
def pair(opensearch_url: str) -> Iterator[Pair]:
    before = search_tables.tables(search_tables.shop())
    assert isinstance(before.documents, pd.DataFrame)
    ids = before.documents["item_id"]
    after: SearchTables[Frame] = replace(before, documents=one_percent_changed(before.documents))
    with prefixed(opensearch_url) as one, prefixed(opensearch_url) as other:
        places = Server(opensearch_url, one), Server(opensearch_url, other)
        places[0].publish(before, search_tables.made())
        step = places[0].releases.publish(after, search_tables.made(), True, False)
        assert (step.summary.added, step.summary.changed, step.summary.deleted) == (1, 1, 1)
        # the deleted item; the new and the changed one
        assert (step.loads[0].deleted, step.loads[0].indexed) == (1, 2)
        places[1].publish(after, search_tables.made())
        with places[0].open() as changed, places[1].open() as whole:
            yield Pair(changed, whole, ids[2], ids[0])


def test_items_whose_ease_weights_changed_are_sent_again(window: Window) -> None:
    window.publish()
    before = given(documents())
    after = replace(before, ease=ease().assign(weight=ease()["weight"] * 0.9))
    publication = publish_release(window.catalogue, after, meta(), incremental=True)
    assert [load.indexed for load in publication.loads] == [2, 0, 0]  # a and d have weights
    assert window.documents()["a"]["ease"]["weight"] == pytest.approx([0.45, -0.225])


def with_attributes(version: int, count: int) -> pd.DataFrame:
    """Return the six items with so many attributes each, whose names follow from the version."""
    frame = documents()
    names = [[f"a{version}_{item}_{number}" for number in range(count)] for item in frame["item_id"]]
    hashes = [f"{item}{version}" for item in frame["item_id"]]
    return frame.assign(attributes=[json.dumps(dict.fromkeys(each, "x")) for each in names], content_hash=hashes)


def test_filters_of_an_incremental_release_know_only_attributes_that_items_have(window: Window) -> None:
    window.publish(with_attributes(0, 2))
    live = window.publish(with_attributes(1, 2), incremental=True).meta.name
    with window.releases.open(live) as index:
        assert index.search(Query(text="dress", filters=("a1_a_0=x",))).hits
        with pytest.raises(UsageError, match="no item has the field 'a0_a_0'") as caught:
            index.search(Query(text="dress", filters=("a0_a_0=x",)))
    assert "a1_a_0" in str(caught.value)


def test_attributes_that_change_their_names_end_in_a_whole_release(
    window: Window, caplog: pytest.LogCaptureFixture
) -> None:
    fields, modes = [], []
    for version in range(4):
        modes.append(window.publish(with_attributes(version, 20), incremental=True).mode)
        (index,) = window.client.indices.get_mapping(index=f"{window.catalogue.prefix}items").values()
        fields.append(len(index["mappings"]["properties"]["facets"]["properties"]))
    assert fields[0] == fields[2] < fields[1] == fields[3]  # at most as many without an item as with one
    assert modes == ["full", "incremental", "full", "incremental"]
    assert "attributes that no item has any more: a whole release is built" in caplog.text


def words(version: int) -> pd.DataFrame:
    """Return 24 items of few words: the price and hash of the two red ones follow from the version."""
    frame = pd.concat([documents()] * 4, ignore_index=True)
    titles = ["red"] * 2 + ["wool"] * 3 + ["plain thing"] * 19
    ids, versions = [f"i{row}" for row in frame.index], [version if row < 2 else 0 for row in frame.index]
    hashes = [f"{item}-{each}" for item, each in zip(ids, versions, strict=True)]
    return frame.assign(
        item_id=ids, title=titles, description="made of stuff", caption=None, price=versions, content_hash=hashes
    )


def test_replaced_items_do_not_count_in_the_weights_of_words(window: Window) -> None:
    query = Query(text="red wool", mode="lexical", k=5)

    def scores() -> dict[str, float]:
        with window.releases.open(str(window.releases.live())) as index:
            return {hit.item_id: hit.score for hit in index.search(query).hits}

    window.publish(words(0))
    for version in (1, 2):
        window.publish(words(version), incremental=True)
    step = scores()
    window.publish(words(2))
    assert step == pytest.approx(scores(), abs=1e-5)
    assert set(list(step)[:2]) == {"i0", "i1"}  # red is rarer than wool


def test_complete_semantic_lists_are_equal(pair: Pair) -> None:
    queries = [Query(user=user, mode="semantic", depth=1_000) for user in SHOPPERS]
    for query in [*queries, *(Query(text=text, mode="semantic", depth=1_000) for text in TEXTS)]:
        one, other = pair.tops(query)
        assert one == other


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid", "behaviour"])
def test_the_top_ten_overlap(pair: Pair, mode: str) -> None:
    queries = [Query(user=user, mode=mode) for user in SHOPPERS]  # type: ignore[arg-type]
    if mode != "behaviour":
        queries += [Query(text=text, mode=mode) for text in TEXTS]  # type: ignore[arg-type]
    assert pair.overlap(queries) >= 0.95


def test_changed_items_are_found_and_removed_items_are_not(pair: Pair) -> None:
    for mode in ("lexical", "hybrid"):
        one, other = pair.tops(Query(text="velvet hoodie of the year", mode=mode))  # type: ignore[arg-type]
        assert one[0] == other[0] == pair.changed
    assert list(pair.step.backend.reader().items([pair.gone, "new", pair.changed])) == ["new", pair.changed]
    everything = Query(text="a dress", mode="semantic", k=1_000)
    assert {hit.item_id for hit in pair.step.search(everything).hits} == {
        hit.item_id for hit in pair.whole.search(everything).hits
    }
