"""What top lists show together, by hand and against a plain count."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm4rec_search.pipeline.shown import POPULAR, most_popular
from vlm4rec_search.search.exposure import Exposure, long_tail, measure_exposure

ITEMS = [f"i{number}" for number in range(40)]


def test_hand_counted_lists() -> None:
    lists = np.array([[0, 1, 2], [0, 3, -1], [4, 0, -1], [-1, -1, -1]])
    popularity = np.array([9, 5, 2, 1, 0, 0] + [0] * 34)  # 0 and 1 are the popular half of four items
    exposure = measure_exposure(lists, ITEMS, popularity)
    assert (exposure.shoppers, exposure.documents, exposure.hits) == (3, 40, 7)
    assert (exposure.first_item, exposure.same_first, exposure.first_share) == ("i0", 2, 2 / 3)
    assert exposure.ubiquitous == ("i0", "i1", "i2", "i3", "i4")  # one list of three is more than 30%
    assert (exposure.shown, exposure.coverage, exposure.attainable) == (5, 5 / 40, 7 / 40)
    assert (exposure.tail_hits, exposure.tail_share) == (3, 3 / 7)
    assert exposure.hidden == ("i5", "i6", "i7", "i8", "i9")


def test_nobody_and_nothing() -> None:
    exposure = measure_exposure(np.full((2, 10), -1), ITEMS, np.zeros(40))
    assert (exposure.first_item, exposure.first_share, exposure.tail_share, exposure.shown) == (None, 0.0, 0.0, 0)
    assert exposure.verdict == "too little to judge: 0 shoppers with a profile, 40 documents"
    assert measure_exposure(np.full((0, 10), -1), [], np.zeros(0)).coverage == 0.0


def test_in_a_small_catalogue_every_item_has_a_large_share() -> None:
    lists = np.array([np.arange(start, start + 10) % 20 for start in range(20)])  # each item in half of the lists
    assert measure_exposure(lists, ITEMS[:20], np.ones(20)).ubiquitous == ()
    lists = np.array([[0, *(np.arange(start, start + 9) % 39 + 1)] for start in range(20)])
    verdict = measure_exposure(lists, ITEMS, np.ones(40)).verdict
    assert "1 item is in more than 75% of top tens" in verdict  # three times ten of forty


def test_the_tail_is_all_but_the_popular_half_of_what_was_taken() -> None:
    assert long_tail(np.array([3, 0, 7, 1, 0])).tolist() == [False, True, False, True, True]
    assert long_tail(np.zeros(3)).all()


@given(seed=st.integers(0, 10**6), shoppers=st.integers(1, 30), k=st.integers(1, 10))
def test_agrees_with_a_plain_count(seed: int, shoppers: int, k: int) -> None:
    draw = np.random.default_rng(seed)
    lists = np.array([draw.permutation(40)[:k] for _ in range(shoppers)])
    lists[draw.random(shoppers) < 0.2, draw.integers(0, k) :] = -1
    exposure = measure_exposure(lists, ITEMS, draw.integers(0, 4, 40))
    full = [[ITEMS[item] for item in row if item >= 0] for row in lists.tolist()]
    full = [row for row in full if row]
    audiences = Counter(item for row in full for item in row)
    firsts = Counter(row[0] for row in full)
    assert exposure.shoppers == len(full)
    assert exposure.same_first == max(firsts.values(), default=0) == firsts[str(exposure.first_item)]
    assert (exposure.shown, exposure.hits) == (len(audiences), sum(audiences.values()))
    limit = max(0.3, min(3 * k / 40, 1.0)) * len(full)
    assert set(exposure.ubiquitous) == {item for item, count in audiences.items() if count > limit}


def make_exposure(same_first: int, shown: int) -> Exposure:
    """Return the exposure of 400 items in ten hits of each of 200 shoppers."""
    return Exposure(
        shoppers=200,
        documents=400,
        first_item="i1",
        same_first=same_first,
        ubiquitous=(),
        hits=2000,
        tail_hits=600,
        shown=shown,
        hidden=(),
    )


@pytest.mark.parametrize(
    ("same_first", "shown", "verdict"),
    [
        (20, 200, "the ranking tells shoppers apart: 10% of 200 shoppers get the same first hit (i1), 0 items are in "
                  "more than 30% of top tens, top tens show 50% of the documents (100% could be), 30% of hits are long "
                  "tail"),
        (22, 200, "11% of 200 shoppers get the same first hit (i1), 0 items are"),
        (20, 199, "the ranking shows too little of the catalogue: 10% of"),
    ],
)  # fmt: skip
def test_the_verdict_says_what_the_numbers_mean(same_first: int, shown: int, verdict: str) -> None:
    exposure = make_exposure(same_first, shown)
    assert exposure.verdict.startswith(verdict)


def test_the_verdict_advises_what_can_help() -> None:
    same = make_exposure(22, 200)
    assert same.verdict.endswith(" of hits are long tail")
    assert replace(same, has_popularity=True).verdict.endswith("long tail; lower the weight of popularity")
    assert replace(same, is_pinned=True).verdict.endswith("long tail; let `vlm4rec index` choose the ranking")
    narrow = replace(same, same_first=2, shown=100, has_popularity=True)
    assert narrow.verdict.endswith("long tail; raise the diversity, or lower the weight of popularity")


def test_equally_popular_items_stand_in_the_order_of_a_search() -> None:
    documents = [{"item_id": f"i{n:03}", "title": "t", "popularity": 9.0 if n == 150 else n % 2} for n in range(300)]
    popular = most_popular(documents)
    assert [row["rank"] for row in popular] == list(range(1, POPULAR + 1))
    assert [row["item_id"] for row in popular[:3]] == ["i150", "i001", "i003"]
    assert popular[-1]["item_id"] == "i197"
