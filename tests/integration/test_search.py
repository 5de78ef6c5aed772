"""Profile queries end to end: legs, tiers, what is left out, explanations and JSON."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pandas as pd
import pytest
from helpers.backends import Backend
from helpers.six_items import RANKING, documents, given, popularity, users

from vlm4rec_search import Query
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.searcher import Searcher


def ids(index: Searcher, query: Query) -> str:
    return "".join(hit.item_id for hit in index.search(query).hits)


def test_each_mode_uses_its_legs(index: Searcher) -> None:
    assert ids(index, Query(user="u1", mode="semantic")) == "becf"  # by cosine; c and f tie at 0
    assert ids(index, Query(user="u1", mode="lexical")) == "b"  # the only unseen item with "red" or "dress"
    assert ids(index, Query(user="u1")) == "becf"
    assert ids(index, Query(text="lamps", mode="lexical")) == "ed"


@pytest.mark.parametrize(
    ("query", "tier", "legs"),
    [
        (Query(user="u1"), "profile", ["profile", "words"]),
        (Query(user="u1", mode="semantic"), "profile", ["profile"]),
        (Query(user="u1", mode="lexical"), "profile", ["words"]),
        (Query(user="u2"), "profile", ["profile"]),  # without words
        (Query(user="u2", mode="lexical"), "popularity", ["popularity"]),
        (Query(user="u1", text="blue"), "profile", ["profile", "text", "words"]),
        (Query(user="u1", text="blue", mode="lexical"), "text", ["words"]),
        (Query(text="red"), "text", ["text", "words"]),
        (Query(text="red", mode="semantic"), "text", ["text"]),
        (Query(user="nobody", text="red"), "text", ["text", "words"]),
        (Query(user="nobody"), "popularity", ["popularity"]),
        (Query(user="u1", weights={"behaviour": 1.0}), "profile", ["profile", "words", "co-purchase"]),
        (Query(user="u1", mode="behaviour"), "profile", ["co-purchase"]),
        (Query(user="u1", weights={"popularity": 0.1}), "profile", ["profile", "words", "popularity"]),
        (Query(user="u1", weights={"semantic": 0.0}), "profile", ["words"]),
        (Query(user="nobody", items=["a", "e"]), "session", ["session", "words"]),
        (Query(items=["a"], mode="behaviour"), "session", ["co-purchase"]),
        (Query(user="u1", items=["c"]), "profile", ["profile", "words", "session", "words"]),
        (Query(items=["a"], text="blue"), "session", ["session", "text", "words"]),
        (Query(user="u3"), "segment", ["popularity", "popularity"]),
        (Query(user="u4"), "category", ["popularity", "popularity"]),
        (Query(user="nobody", filters=["category=lamps"]), "category", ["popularity"]),
    ],
)
def test_tiers_and_legs(index: Searcher, query: Query, tier: str, legs: list[str]) -> None:
    answer = index.search(replace(query, explain=True))
    assert answer.tier == tier
    assert answer.hits[0].explanation is not None
    assert [leg.name for leg in answer.hits[0].explanation.legs] == legs


def test_unknown_user_gets_what_is_popular_and_is_told(index: Searcher) -> None:
    answer = index.search(Query(user="nobody"))
    assert [hit.item_id for hit in answer.hits] == list("bcaedf")  # 7, 7, 3, 1, then the rest by id
    assert answer.note == "user nobody is not known, so the answer is what is popular with all shoppers"
    assert ids(index, Query(user="nobody", filters=["category=dresses"])) == "ba"


def test_seen_items_are_left_out_in_every_tier(index: Searcher) -> None:
    assert set(ids(index, Query(user="u1"))).isdisjoint("ad")
    assert set(ids(index, Query(user="u1", include_seen=True))) == set("abcdef")
    assert "a" not in ids(index, Query(user="u1", text="red dress"))
    assert ids(index, Query(user="u2", mode="lexical")) == "baedf"  # from popularity, without c


def test_shares_hold_when_an_item_of_the_history_is_not_in_the_release(backend: Backend) -> None:
    backend.publish(given(documents().drop(index=[3])))
    with backend.open(ranking=RANKING) as index:
        (hit,) = index.search(Query(user="u1", mode="semantic", k=1, explain=True)).hits
    reason = hit.explanation
    assert reason is not None
    length = np.hypot(0.75 + 0.25 * 0.6, 0.25 * 0.8)
    assert [(part.item_id, part.share) for part in reason.history] == [("a", pytest.approx(0.75 * 0.8 / length))]
    assert reason.rest == pytest.approx(0.25 * 0.48 / length, abs=2e-6)


def test_nothing_left_is_told_apart_from_nothing_there(backend: Backend) -> None:
    backend.publish(given(documents().iloc[[0, 3]]))
    with backend.open(ranking=RANKING) as index:
        answer = index.search(Query(user="u1"))
        assert answer.hits == ()
        assert answer.note == "user u1 has seen every item that fits: include seen items"
        filtered = index.search(Query(user="u1", filters=["price=1.."])).note
        assert filtered == "user u1 has seen every item that fits: include seen items, or use fewer filters"
        nothing = {
            "nothing fits": Query(user="nobody", exclude=["a", "d"]),
            "nothing fits: use other words": Query(text="lamp", exclude=["a", "d"]),
            "nothing fits: use another mode": Query(items=["a"], mode="semantic", exclude=["d"]),
            "nothing fits: use other words or another mode": Query(text="coat", mode="lexical"),
        }
        for note, query in nothing.items():
            assert (index.search(query).note or "").split("; ")[-1] == note
        dear = ["price=1000.."]
        assert index.search(Query(user="u1", filters=dear)).note == "nothing fits price=1000..: use fewer filters"
        assert index.search(Query(text="lamp", filters=dear)).note == "nothing fits price=1000..: use fewer filters"
        many = Query(text="lamp", filters=[f"brand={number}" for number in range(5)])
        assert index.search(many).note == "no item has brand=0, brand=1, brand=2 and 2 more (values are Alder)"
        misspelt = Query(user="u1", filters=["category=Dreses", "price=1.."])
        assert index.search(misspelt).note == "no item has category=Dreses (did you mean 'dresses'?)"
        unknown = index.search(Query(user="nobody", filters=dear)).note or ""
        assert ("is not known" in unknown, "nothing fits price=1000.." in unknown) == (True, True)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="the user id is not UTF-8"):
        Query(user="\udcff")


def test_a_text_in_place_of_the_profile_needs_no_note(index: Searcher) -> None:
    answer = index.search(Query(user="u1", text="dress", mode="lexical"))
    assert (answer.tier, answer.note) == ("text", None)


def test_history_shares_add_up_to_the_cosine(index: Searcher) -> None:
    hit = index.search(Query(user="u1", explain=True)).hits[0]
    reason = hit.explanation
    assert (hit.item_id, reason is not None) == ("b", True)
    assert reason is not None
    # |0.75 a + 0.25 d| with a.d = 0.6
    length = sqrt(0.75**2 + 0.25**2 + 2 * 0.75 * 0.25 * 0.6)
    shares = [(part.item_id, part.share) for part in reason.history]
    assert shares == [("a", pytest.approx(0.75 * 0.8 / length)), ("d", pytest.approx(0.25 * 0.48 / length))]
    assert sum(share for _, share in shares) + reason.rest == pytest.approx(reason.legs[0].score, abs=2e-6)
    assert sum(part.share for part in reason.words) == pytest.approx(reason.legs[1].score, abs=2e-6)
    assert [part.word for part in reason.words] == ["dress"]
    assert [(leg.rank, leg.contribution) for leg in reason.legs] == [(1, pytest.approx(1 / 61))] * 2
    assert hit.score == pytest.approx(2 / 61)
    assert reason.sentence == (
        'Partly because it resembles "red dress" and "red lamp" from the history; '
        'also because it shares the word "dress" with items of the history.'
    )


def test_a_leg_that_misses_a_hit_has_no_rank(index: Searcher) -> None:
    hits = index.search(Query(user="u1", explain=True)).hits
    reason = hits[1].explanation
    assert reason is not None
    assert (reason.legs[1].rank, reason.legs[1].score, reason.legs[1].contribution) == (None, 0.0, 0.0)


def test_co_purchases_are_explained_by_what_they_were_bought_with(index: Searcher) -> None:
    hits = index.search(Query(user="u1", mode="behaviour", explain=True)).hits
    # a weighs 1 and d 0.5: c has 0.25 + 0.25, b 0.5, e 0.125; equal scores by id
    assert [(hit.item_id, hit.score) for hit in hits] == [("b", 0.5), ("c", 0.5), ("e", 0.125)]
    reason = hits[1].explanation
    assert reason is not None
    assert [(part.item_id, part.share) for part in reason.bought_with] == [("a", 0.25), ("d", 0.25)]
    assert reason.bought_rest == 0.0
    assert reason.sentence == 'It was chosen together with "red dress" or "red lamp".'


def test_500_seen_items_still_leave_k_hits(backend: Backend) -> None:
    draw = np.random.default_rng(3)
    vectors = draw.standard_normal((520, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"i{place:03d}" for place in range(520)]
    frame = pd.concat([documents()[:1]] * 520, ignore_index=True)
    frame = frame.assign(item_id=names, vector=list(vectors.astype(np.float32)))
    best = np.argsort(-vectors[:, 0])
    people = users()[:1].assign(vector=[np.float32([1, 0, 0, 0])], seen=[[names[place] for place in best[:500]]])
    backend.publish(given(frame, people, popularity()))
    with backend.open(ranking=RANKING) as opened:
        for mode in ("semantic", "lexical", "hybrid"):
            hits = opened.search(Query(user="u1", mode=mode, k=10)).hits  # type: ignore[arg-type]
            assert len(hits) == 10
            assert {hit.item_id for hit in hits} <= {names[place] for place in best[500:]}
        semantic = opened.search(Query(user="u1", mode="semantic", k=10)).hits
        assert [hit.item_id for hit in semantic] == [names[place] for place in best[500:510]]


def test_the_json_shape(index: Searcher) -> None:
    plain = index.search(Query(user="u1", k=2)).to_json()
    assert set(plain) >= {"user", "mode", "tier", "release", "took_ms", "hits"}
    hits = plain["hits"]
    assert isinstance(hits, list)
    assert set(hits[0]) == {"rank", "item_id", "score", "title", "category", "price"}
    explained = index.search(Query(user="u1", k=2, explain=True)).to_json()["hits"]
    assert isinstance(explained, list)
    names = {"sentence", "legs", "history", "rest", "words", "bought_with", "bought_rest", "rules"}
    more = {"goes_with", "goes_rest", "boosted", "reasons", "learned", "learned_rest"}
    assert set(explained[0]["explanation"]) == names | more
    leg = explained[0]["explanation"]["legs"][0]
    assert set(leg) == {"name", "kind", "score", "rank", "contribution", "share", "origin"}
