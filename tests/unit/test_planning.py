"""Plans are made from facts alone: no index, no model."""

import numpy as np
import pytest

from vlm4rec_search import Query, Ranking, Rule
from vlm4rec_search.search.model import Facts, Item, User, Word
from vlm4rec_search.search.planning import (
    co_purchase_starts,
    early_request,
    fallback_segments,
    make_plan,
    sum_co_purchases,
)
from vlm4rec_search.search.ranking import load_ranking

VECTOR = np.array([1.0, 0.0], dtype=np.float32)
RANKING = load_ranking().model_copy(update={"profile": "mean"})
SHOPPER = User("u1", VECTOR, {"red": Word("red", 1.0)}, {"a": 1.0}, behaviour={"a": 1.0}, seen=["a"])
STRANGER = User("u2", segment="gold", categories=("lamps", "bags"))
NEIGHBOURS = {"a": Item("a", "A", None, None, VECTOR, neighbours={"b": 0.5})}
CO_PURCHASES = sum_co_purchases(Query(user="u1"), Facts(SHOPPER), NEIGHBOURS)


def names(query: Query, facts: Facts, ranking: Ranking = RANKING) -> list[str]:
    return [retriever.name for retriever in make_plan(query, facts, ranking).retrievers]


def test_a_profile_answers_with_every_retriever() -> None:
    plan = make_plan(Query(user="u1"), Facts(SHOPPER, neighbours=NEIGHBOURS, co_purchases=CO_PURCHASES), RANKING)
    assert plan.tier == "profile"
    assert [each.name for each in plan.retrievers] == ["profile", "words", "co-purchase", "popularity"]
    weights = RANKING.weights
    assert plan.weights == [weights.semantic, weights.lexical, weights.behaviour, weights.popularity]
    assert plan.request.user is SHOPPER


def test_without_neighbours_there_is_no_co_purchase_retriever() -> None:
    assert names(Query(user="u1"), Facts(SHOPPER)) == ["profile", "words", "popularity"]


def test_a_weight_of_zero_switches_a_kind_off() -> None:
    query = Query(user="u1", weights={"popularity": 0.0, "behaviour": 0.0})
    assert names(query, Facts(SHOPPER, neighbours=NEIGHBOURS, co_purchases=CO_PURCHASES)) == ["profile", "words"]
    assert co_purchase_starts(query, Facts(SHOPPER), RANKING) == []


def test_the_early_request_is_part_of_the_plan() -> None:
    query = Query(user="u1")
    early = early_request(query, Facts(SHOPPER), RANKING)
    assert [each.name for each in early.retrievers] == ["profile", "words", "popularity"]
    assert co_purchase_starts(query, Facts(SHOPPER), RANKING) == ["a"]


@pytest.mark.parametrize(
    ("chain", "tier", "segments"),
    [
        (("profile", "segment", "popularity"), "segment", ["gold"]),
        (("category", "popularity"), "category", ["category:lamps", "category:bags"]),
        (("profile", "session"), "popularity", []),
    ],
)
def test_a_shopper_without_a_profile_gets_the_next_tier(chain: tuple[str, ...], tier: str, segments: list[str]) -> None:
    ranking = RANKING.model_copy(update={"fallback_chain": chain})
    facts, query = Facts(STRANGER), Query(user="u2")
    assert list(fallback_segments(query, facts, ranking)) == segments
    popular = {name: {"x": 3.0} for name in segments[:1]}
    assert make_plan(query, Facts(STRANGER, popular=popular), ranking).tier == tier


def test_a_segment_before_the_profile_is_noted() -> None:
    ranking = RANKING.model_copy(update={"fallback_chain": ("segment", "profile")})
    shopper = User("u1", VECTOR, segment="gold")
    plan = make_plan(Query(user="u1"), Facts(shopper, popular={"gold": {"x": 1.0}}), ranking)
    assert (plan.tier, plan.profile_skipped) == ("segment", True)


def test_a_text_is_searched_in_the_light_of_the_profile() -> None:
    plan = make_plan(Query(user="u1", text="red lamp"), Facts(SHOPPER, text_vector=VECTOR), RANKING)
    assert (plan.tier, [each.name for each in plan.retrievers]) == ("profile", ["profile", "text", "words"])
    assert plan.weights == [0.25, 0.25, 0.5]


def test_pinned_items_get_a_retriever_of_weight_zero() -> None:
    rules = (Rule(action="pin", items=("x", "y")),)
    plan = make_plan(Query(text="lamp", mode="lexical"), Facts(), RANKING, rules)
    assert [(each.name, weight) for each, weight in zip(plan.retrievers, plan.weights, strict=True)] == [
        ("words", 0.5),
        ("pinned", 0.0),
    ]
    assert plan.retrievers[-1].items == {"x": 2.0, "y": 1.0}
