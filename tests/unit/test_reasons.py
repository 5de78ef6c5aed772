"""The sentence of an explanation, as a shopper reads it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.six_items import RANKING, documents, publish
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm4rec_search import Query, open_index
from vlm4rec_search.search.explanation import Explainer
from vlm4rec_search.search.fusion import fuse
from vlm4rec_search.search.model import Facts, Plan, Request, Retriever
from vlm4rec_search.search.query import KINDS, Explanation, HistoryPart, WordPart
from vlm4rec_search.search.reasons import (
    Reason,
    chosen_before,
    chosen_with,
    goes_with,
    is_popular,
    rank_reasons,
    resembles,
    shares_words,
    shorten,
    tell,
)
from vlm4rec_search.search.reranking import rerank


def told(reasons: Iterable[Reason], notes: Sequence[str] = ()) -> str:
    return tell(rank_reasons(reasons), notes)


def test_what_added_most_is_told_first() -> None:
    reasons = [Reason("it shares a word", 0.1), Reason("it is red", 0.24), Reason("it is popular", 0.66)]
    assert told(reasons) == "Mostly because it is popular; also because it is red; a little because it shares a word."


def test_equal_reasons_are_told_together() -> None:
    reasons = [Reason(f"it is {quality}", 1 / 61) for quality in ("red", "round", "new", "blue")]
    assert told(reasons) == "Partly because it is red; also because it is round, and because it is new."


def test_what_made_a_hit_alone_is_told_alone() -> None:
    assert told([Reason("it is popular", 0.97), Reason("it is red", 0.03)]) == "It is popular."
    assert told([Reason("it is red", 0.5), Reason("it is red", 0.4), Reason("it is blue", -0.3)]) == "It is red."


def test_a_reason_without_words_still_counts_in_the_shares() -> None:
    assert told([Reason("", 0.9), Reason("it is red", 0.07), Reason("it is new", 0.03)]) == "It is red."
    some = [Reason("", 0.7), Reason("it is red", 0.16), Reason("it is new", 0.14)]
    assert told(some) == "Partly because it is red; a little because it is new."
    assert told([Reason("", 0.9)], ["is put last by a rule"]) == "It is put last by a rule."
    assert told([Reason("it is red", -0.2)]) == "Nothing better is left."


@given(added=st.lists(st.integers(-1000, 1000), min_size=1, max_size=9))
@settings(max_examples=200, deadline=None)
def test_reasons_stand_in_the_order_of_their_shares_and_none_is_too_small(added: list[int]) -> None:
    sentence = told(Reason(f"it is reason {place}", value) for place, value in enumerate(added))
    shown = [added[int(place)] for place in re.findall(r"reason (\d)", sentence)]
    total = sum(value for value in added if value > 0)
    assert shown == sorted([value for value in added if value > 0 and value >= total / 20], reverse=True)[:3]
    assert sentence.count("because") == (len(shown) if len(shown) > 1 else 0)
    assert sentence.startswith("Mostly") == (len(shown) > 1 and shown[0] >= total * 3 / 5)


@pytest.mark.parametrize(
    ("score", "is_top", "clause"),
    [
        (1234.9, True, "it is popular (1,234 shoppers chose it)"),
        (3.0, True, "it is popular (3 shoppers chose it)"),
        (3.5, False, "3 shoppers chose it"),
        (2.9, True, "2 shoppers chose it"),
        (1.2, True, "1 shopper chose it"),
        (0.4, True, "it was chosen before"),
        (0.0, True, ""),
    ],
)
def test_few_choices_are_not_called_popular(score: float, is_top: bool, clause: str) -> None:
    assert is_popular(score, is_top) == clause


@pytest.mark.parametrize(
    ("days", "clause"),
    [
        (30.0, "it is popular (7 shoppers first chose it in the last 30 days)"),
        (13.2, "it is popular (7 shoppers first chose it in the last 14 days)"),
        (90.0, "it is popular (7 shoppers first chose it in the last 90 days)"),
        (36_500.0, "it is popular (7 shoppers chose it)"),
        (None, "it is popular (7 shoppers chose it)"),
    ],
)
def test_the_days_that_popularity_counts_are_told_where_they_are_few(days: float | None, clause: str) -> None:
    assert is_popular(7.0, True, days=days) == clause


def test_a_group_counts_each_choice_and_all_shoppers_together_their_first() -> None:
    assert is_popular(2.0, False, days=30.0) == "2 shoppers first chose it in the last 30 days"
    in_group = is_popular(7.0, True, "in its category", 60.0)
    assert in_group == "it is popular in its category (7 shoppers chose it in the last 60 days)"


def parts(*shares: float, title: str = "item") -> list[HistoryPart]:
    return [HistoryPart(str(place), f"{title} {place}", share) for place, share in enumerate(shares)]


def test_items_are_named_without_their_shares() -> None:
    assert resembles(parts(0.4, 0.3, 0.2), True, "this visit") == 'it resembles "item 0" and "item 1" from this visit'
    assert resembles(parts(0.4, 0.05), False) == 'it somewhat resembles "item 0"'
    assert chosen_with(parts(0.4, 0.3)) == 'it was chosen together with "item 0" or "item 1"'
    assert goes_with(parts(0.4), "the history") == 'it goes with "item 0"'
    assert goes_with([], "the history") == "it goes with items of the history"
    assert goes_with([]) == "it goes with the item"
    assert chosen_with([], "the history") == "it was chosen together with items of the history"
    assert resembles([], True) == shares_words([]) == ""


@pytest.mark.parametrize(
    ("times", "clause"),
    [
        (1, "you chose it once, on 9 February 2025"),
        (2, "you chose it twice, most recently on 9 February 2025"),
        (3, "you chose it 3 times, most recently on 9 February 2025"),
    ],
)
def test_what_was_chosen_before_is_told_with_count_and_date(times: int, clause: str) -> None:
    assert chosen_before(times, date(2025, 2, 9)) == clause


def test_items_with_the_same_title_are_named_once() -> None:
    twice = [HistoryPart("1", "Bag", 0.5), HistoryPart("2", "Bag", 0.5)]
    assert resembles(twice, True, "the history") == 'it resembles "Bag" from the history'


def test_one_word_is_a_word() -> None:
    words = [WordPart("bag", 2.0), WordPart("stripe", 1.0)]
    assert shares_words(words, "the history") == 'it shares the words "bag" and "stripe" with items of the history'
    assert shares_words(words[:1]) == 'it shares the word "bag"'


@pytest.mark.parametrize(
    ("title", "short"),
    [
        ("Striped bag", "Striped bag"),
        ("Striped\n  bag", "Striped bag"),
        ("Wireless noise cancelling headphones, over-ear, black", "Wireless noise cancelling headphones…"),
        ("x" * 60, "x" * 39 + "…"),
        ("a " + "字" * 60, "a " + "字" * 37 + "…"),
        ("y" * 40, "y" * 40),
        ("Wireless noise cancelling headphone over ear", "Wireless noise cancelling headphone…"),
    ],
)
def test_long_titles_are_shortened_behind_a_word(title: str, short: str) -> None:
    assert shorten(title) == short
    assert len(shorten(title)) <= 40


def explain(
    folder: Path,
    retrievers: Sequence[Retriever],
    weights: Sequence[float],
    frame: pd.DataFrame | None = None,
    text: str | None = None,
) -> list[Explanation]:
    """Return the explanations of u1 for retrievers that a plan may have."""
    publish(folder, frame)
    query = Query(user="u1", text=text, explain=True)
    with open_index(str(folder), ranking=RANKING) as index:
        reader = index.backend.reader()
        facts = Facts(reader.user("u1"))
        plan = Plan(query, "profile", Request(retrievers, (), facts.user, (), 10), weights, "minmax", 0.0)
        retrieved = reader.retrieve(plan.request)
        ranked = rerank(retrieved, fuse(retrieved.candidates, weights, "minmax"), plan)
        return Explainer(reader, facts, plan, retrieved).explain(ranked)


def test_the_interest_that_added_most_is_told(tmp_path: Path) -> None:
    dresses = Retriever("interest", "semantic", np.float32([1, 0, 0, 0]), sources=("a",), origin="profile")
    lamps = Retriever("interest", "semantic", np.float32([0.6, 0, 0.8, 0]), sources=("d",), origin="profile")
    b = explain(tmp_path, [dresses, lamps], [0.1, 0.9])[1]
    # b is nearer to a (0.8) than to d (0.48), but lamps weigh nine times as much
    assert [part.item_id for part in b.history] == ["a"]
    assert b.sentence == 'It somewhat resembles "red lamp" from the history.'


def test_what_is_only_nearer_than_others_resembles_nothing(tmp_path: Path) -> None:
    frame = documents()
    for item, cosine in {"b": 0.3, "f": 0.13}.items():
        vector = np.float32([cosine, (1.0 - cosine**2) ** 0.5, 0, 0])
        frame.at["abcdef".index(item), "vector"] = vector
    told = explain(
        tmp_path,
        [Retriever("interest", "semantic", np.float32([1, 0, 0, 0]), sources=("a",), origin="profile")],
        [1.0],
        frame,
    )
    assert [each.sentence for each in told[:2]] == [
        "It is among the nearest to items of the history.",
        "Nothing better is left.",
    ]
    assert [part.item_id for part in told[0].history] == ["a"], "the numbers are told whatever the sentence says"


def test_what_is_far_from_a_text_is_not_called_near_to_it(tmp_path: Path) -> None:
    frame = documents()
    for item, cosine in {"b": 0.9, "c": 0.5, "e": 0.13, "f": 0.1}.items():
        frame.at["abcdef".index(item), "vector"] = np.float32([cosine, (1.0 - cosine**2) ** 0.5, 0, 0])
    told = explain(tmp_path, [Retriever("text", "semantic", np.float32([1, 0, 0, 0]))], [1.0], frame, "red silk")
    assert [each.sentence for each in told] == [
        'It is among the nearest to "red silk" in meaning.',
        'It is somewhat near to "red silk" in meaning.',
        "Nothing better is left.",
        "Nothing better is left.",
    ]


def test_an_item_does_not_resemble_itself(tmp_path: Path) -> None:
    publish(tmp_path)
    with open_index(str(tmp_path), ranking=RANKING) as index:
        query = Query(user="u1", mode="semantic", include_seen=True, explain=True)
        told = {hit.item_id: hit.explanation for hit in index.search(query).hits}
        alone = index.search(Query(user="u2", mode="semantic", include_seen=True, explain=True)).hits[0].explanation
        (by_words,) = index.search(replace(query, mode="lexical", k=1)).hits
    a, d = told["a"], told["d"]
    assert a is not None and d is not None and alone is not None and by_words.explanation is not None
    assert a.sentence == by_words.explanation.sentence == "It is in the history."
    assert d.sentence == "You chose it 3 times, most recently on 9 February 2025."
    assert [part.item_id for part in d.history] == ["a"]
    assert a.rest + sum(part.share for part in a.history) == pytest.approx(a.legs[0].score, abs=1e-5)
    assert (alone.sentence, alone.history) == ("It is in the history.", ())


def test_collaborative_retrievers_give_reasons(tmp_path: Path) -> None:
    ease = Retriever("ease", "behaviour", items={"b": 0.9, "c": 0.3})
    shoppers = Retriever("shoppers", "behaviour", items={"b": 0.5, "c": 0.1})
    first = explain(tmp_path, [ease, shoppers], [0.7, 0.3])[0]
    assert first.sentence == (
        "Mostly because it goes with items of the history; also because similar shoppers chose it."
    )
    assert [leg.share for leg in first.legs] == pytest.approx([0.7, 0.3])
    assert first.goes_rest == pytest.approx(0.9)


def test_an_item_that_co_purchases_name_is_not_named_again(tmp_path: Path) -> None:
    publish(tmp_path)
    both = {**dict.fromkeys(KINDS, 0.0), "behaviour": 0.9, "ease": 0.1}
    with open_index(str(tmp_path), ranking=RANKING) as index:
        told, turned, alone = (
            index.search(Query(user="u1", explain=True, fusion="minmax", weights=weights)).hits[0].explanation
            for weights in (both, {**both, "behaviour": 0.1, "ease": 0.9}, {**both, "behaviour": 0.0})
        )
    assert told is not None and turned is not None and alone is not None
    assert [part.item_id for part in told.bought_with] == [part.item_id for part in told.goes_with] == ["a"]
    assert told.sentence == (
        'Mostly because it was chosen together with "red dress"; a little because it goes with items of the history.'
    )
    assert turned.sentence == (
        'Mostly because it goes with "red dress"; a little because it was chosen together with items of the history.'
    )
    assert [reason.share for reason in told.reasons] == [leg.share for leg in told.legs], "as the bar of the page"
    assert alone.sentence == 'It goes with "red dress".'


def test_an_item_that_may_be_bought_again_is_a_hit_and_says_why(tmp_path: Path) -> None:
    publish(tmp_path)
    with open_index(str(tmp_path), ranking=RANKING) as index:
        usual = index.search(Query(user="u1")).hits
        hits = index.search(Query(user="u1", buy_again=True, explain=True)).hits
    assert {hit.item_id for hit in hits} - {hit.item_id for hit in usual} == {"d"}
    again = next(hit.explanation for hit in hits if hit.item_id == "d")
    assert again is not None
    assert again.sentence == "You chose it 3 times, most recently on 9 February 2025.", "and not that it is like itself"
    assert [leg.rank for leg in again.legs if leg.name == "buy-again"] == [1]


def test_a_retriever_of_another_name_is_told_by_its_name(tmp_path: Path) -> None:
    first = explain(tmp_path, [Retriever("two-tower", "behaviour", items={"b": 0.9})], [1.0])[0]
    assert first.sentence == "The retriever two-tower found it."
