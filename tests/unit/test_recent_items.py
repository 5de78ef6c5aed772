"""What a shopper did since the release was made: recent items speak and leave, hidden ones leave and push away."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.six_items import ENCODER, RANKING, VECTORS, publish

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes import Searcher, open_index
from vlm4rec_search.search.model import Item
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.retrievers import session_profile, without_hidden


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    folder = tmp_path_factory.mktemp("index")
    publish(folder)
    with open_index(str(folder), ENCODER, Path(RANKING)) as opened:
        yield opened


def item(name: str) -> Item:
    return Item(name, name, None, None, np.array(VECTORS[name], dtype=np.float32))


def test_a_hidden_item_counts_as_an_average_one_against_the_profile() -> None:
    profile = session_profile([item("a"), item("c")])
    turned = without_hidden(profile, [item("e")])
    expected = np.array(VECTORS["a"]) + np.array(VECTORS["c"]) - np.array(VECTORS["e"])
    assert turned.vector == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    total = sum((weight * np.array(VECTORS[name]) for name, weight in turned.history.items()), np.zeros(4))
    assert total == pytest.approx(turned.vector, abs=1e-6), "the vector is the weighted sum of the history"
    assert profile.history.keys() == {"a", "c"}, "the old profile stays as it was"


def test_all_hidden_items_together_count_half_of_the_history() -> None:
    profile = session_profile([item("a")])
    turned = without_hidden(profile, [item("c"), item("e")])
    expected = np.array(VECTORS["a"]) - 0.25 * np.array(VECTORS["c"]) - 0.25 * np.array(VECTORS["e"])
    assert turned.vector == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    without_likes = replace(profile, vector=None, history={})
    assert without_hidden(without_likes, [item("c")]).vector is None
    assert "a" not in without_hidden(profile, [item("a")]).behaviour


def test_shares_of_the_history_add_up_with_a_hidden_item(index: Searcher) -> None:
    query = Query(user="u1", mode="semantic", hidden=["e"], explain=True, k=6)
    plain = {hit.item_id: hit.score for hit in index.search(replace(query, hidden=())).hits}
    hits = index.search(query).hits
    assert "e" in plain
    assert "e" not in {hit.item_id for hit in hits}
    for hit in hits:
        assert hit.explanation is not None
        (leg,) = [each for each in hit.explanation.legs if each.name == "profile"]
        shares = sum(part.share for part in hit.explanation.history) + hit.explanation.rest
        assert shares == pytest.approx(leg.score, abs=1e-4)


def test_what_was_turned_down_is_no_reason(index: Searcher) -> None:
    query = Query(user="u1", mode="semantic", explain=True, k=6)
    assert any("red dress" in hit.explanation.sentence for hit in index.search(query).hits if hit.explanation)
    for hit in index.search(replace(query, hidden=["a"])).hits:
        assert hit.explanation is not None
        assert "red dress" not in hit.explanation.sentence
        assert "a" not in {part.item_id for part in hit.explanation.history}
        shares = sum(part.share for part in hit.explanation.history) + hit.explanation.rest
        assert shares == pytest.approx(hit.explanation.legs[0].score, abs=1e-4)


def test_recent_items_leave_unless_seen_ones_are_wanted(index: Searcher) -> None:
    query = Query(user="u2", mode="semantic", recent=["b", "gone"], k=6)
    answer = index.search(query)
    assert ("b" in {hit.item_id for hit in answer.hits}, answer.missing) == (False, ())
    seen = index.search(replace(query, include_seen=True))
    assert {hit.item_id for hit in seen.hits} == set("abcdef")
    visit = index.search(replace(query, items=["b"], include_seen=True))
    assert "b" not in {hit.item_id for hit in visit.hits}, "the caller's own items are never an answer"
    hidden = index.search(replace(query, hidden=["b"]))
    assert hidden.hits != answer.hits, "what was chosen and then hidden does not speak"
    with pytest.raises(UsageError, match="recent is a list of at most 100 item ids"):
        Query(user="u", recent=["a"] * 101)
