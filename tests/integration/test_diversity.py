"""Diversity and caps over the fused ranking, on both backends, and what explanations say of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.six_items import RANKING, documents, publish

from vlm4rec_search import Query, UsageError, open_index
from vlm4rec_search.search.searcher import Searcher


def test_a_cap_leaves_room_for_other_categories(index: Searcher) -> None:
    free, capped = (index.search(Query(user="nobody", per_category=most)).hits for most in (None, 1))
    assert [hit.category for hit in free[:3]] == ["dresses", "shoes", "dresses"]
    assert [hit.item_id for hit in capped] == list("bcef")


def test_diversity_prefers_what_is_unlike_the_first(index: Searcher) -> None:
    near = index.search(Query(user="u1", mode="semantic", include_seen=True, k=3)).hits
    far = index.search(Query(user="u1", mode="semantic", include_seen=True, k=3, diversity=0.6)).hits
    assert [hit.item_id for hit in near] == list("abd")
    assert far[0].item_id == "a"
    assert [hit.item_id for hit in far[1:]] == list("ec")


def test_what_diversity_and_caps_did_is_explained(index: Searcher) -> None:
    query = Query(user="u1", mode="semantic", include_seen=True, k=3, explain=True)
    told = [hit.explanation.rules for hit in index.search(replace(query, diversity=0.6)).hits if hit.explanation]
    # cosines with a: e 0, c 0; with e: c 0. The order was a, b, d, e, c, f.
    assert told[0] == ()
    assert told[1:] == [("was hit 4 before diversity and caps",), ("was hit 5 before diversity and caps",)]
    close = [hit.explanation for hit in index.search(replace(query, diversity=0.3)).hits]
    assert [found.rules[0] for found in close[1:] if found] == [
        "counts 0.1800 less for likeness to a hit above",  # d: 0.3 x its cosine with a
        "counts 0.2400 less for likeness to a hit above",  # b
    ]
    capped = index.search(replace(query, per_category=1)).hits[1].explanation
    assert capped is not None
    assert capped.rules == ("was hit 3 before diversity and caps",)
    assert capped.sentence.endswith("was hit 3 before diversity and caps.")


def test_a_minimum_score_leaves_out_weak_hits_and_says_so_where_none_is_left(index: Searcher) -> None:
    query = Query(user="u1", mode="semantic", include_seen=True)
    hits = index.search(query).hits
    bound = hits[2].score
    assert index.search(replace(query, min_score=bound)).hits == hits[:3]
    nothing = index.search(replace(query, min_score=hits[0].score + 1.0))
    assert nothing.hits == ()
    assert nothing.note == f"no hit reaches the minimum score {hits[0].score + 1:g}: the best has {hits[0].score:.4f}"


def test_of_items_with_one_value_only_the_best_is_a_hit(index: Searcher) -> None:
    query = Query(user="u1", mode="semantic", include_seen=True, explain=True)
    assert [hit.item_id for hit in index.search(query).hits] == list("abdecf")
    hits = index.search(replace(query, collapse="brand")).hits
    assert [hit.item_id for hit in hits] == list("abdef"), "a and c are of the brand Alder"
    assert hits[4].explanation is not None
    assert hits[4].explanation.rules == ("was hit 6 before diversity and caps",)


def test_what_is_collapsed_takes_no_place_of_its_category(tmp_path: Path) -> None:
    frame = documents().assign(attributes=None)
    for item, model in {"a": "Y", "b": "X", "c": "X"}.items():
        frame.loc[frame["item_id"] == item, ["category", "attributes"]] = "dresses", f'{{"model": "{model}"}}'
    publish(tmp_path, frame)
    with open_index(str(tmp_path), ranking=RANKING) as opened:
        plain = Query(user="nobody", filters=["category=dresses"])
        assert [hit.item_id for hit in opened.search(plain).hits] == list("bca")
        query = replace(plain, per_category=2, collapse="model")
        assert [hit.item_id for hit in opened.search(query).hits] == list("ba")


def test_excluded_items_are_no_hits(index: Searcher) -> None:
    query = Query(user="u1", mode="semantic", include_seen=True, exclude=["a", "e", "unknown"])
    assert [hit.item_id for hit in index.search(query).hits] == list("bdcf")


def test_values_of_candidates_are_counted_beside_the_hits(index: Searcher) -> None:
    query = Query(user="u1", mode="semantic", include_seen=True, k=1, count=["category", "tags"], exclude=["e"])
    answer = index.search(query)
    assert answer.counts == {
        "category": {"dresses": 2, "lamps": 1, "shoes": 1},
        "tags": {"new": 1, "sale": 1, "silk": 1},
    }
    assert list(answer.counts["category"]) == ["dresses", "lamps", "shoes"]
    assert "counts" not in index.search(replace(query, count=[])).to_json()


@pytest.mark.parametrize("options", [{"collapse": "colour"}, {"count": ["colour"]}])
def test_a_field_that_no_item_has_is_named(index: Searcher, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no item has the field 'colour': the fields are available, brand, category"):
        index.search(Query(user="u1", **options))
