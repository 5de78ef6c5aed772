"""Plans are made from facts alone: no index, no model."""

from dataclasses import replace

import numpy as np
import pytest

from vlm4rec_search import Query, Ranking, Rule
from vlm4rec_search.search.fusion import Candidates, fuse
from vlm4rec_search.search.model import Facts, Item, Repeat, User, Word
from vlm4rec_search.search.planning import (
    add_neighbours,
    early_request,
    fallback_segments,
    make_plan,
    neighbour_kinds,
    neighbour_starts,
)
from vlm4rec_search.search.query import Fusion, Mode
from vlm4rec_search.search.ranking import HistoryWeights, Weights, load_ranking
from vlm4rec_search.search.retrievers import ReadNeighbours

VECTOR = np.array([1.0, 0.0], dtype=np.float32)
RANKING = load_ranking().model_copy(update={"profile": "mean"})
SHOPPER = User(
    "u1",
    VECTOR,
    {"red": Word("red", 1.0)},
    {"a": 1.0},
    behaviour={"a": 1.0},
    lasting={"a": 0.5},
    shoppers={"d": 1.0},
    seen=["a"],
)
STRANGER = User("u2", segment="gold", categories=("lamps", "bags"))
START = Item("a", "A", None, None, VECTOR, neighbours={"b": 0.5}, ease={"c": 0.25})
NEIGHBOURS = ReadNeighbours({"a": START})


def with_neighbours(query: Query, facts: Facts, ranking: Ranking, neighbours: ReadNeighbours = NEIGHBOURS) -> Facts:
    return add_neighbours(query, facts, neighbour_kinds(query, facts, ranking), neighbours)


WITH_NEIGHBOURS = with_neighbours(Query(user="u1"), Facts(SHOPPER), RANKING)


def names(query: Query, facts: Facts, ranking: Ranking = RANKING) -> list[str]:
    return [retriever.name for retriever in make_plan(query, facts, ranking).retrievers]


def test_a_profile_answers_with_every_retriever() -> None:
    plan = make_plan(Query(user="u1"), WITH_NEIGHBOURS, RANKING)
    assert plan.tier == "profile"
    assert [each.name for each in plan.retrievers] == [
        "profile",
        "words",
        "shoppers",
        "co-purchase",
        "ease",
        "popularity",
    ]
    assert plan.retrievers[3].items == {"b": 0.5}
    assert plan.retrievers[4].items == {"c": 0.125}
    assert plan.weights == [1.0, 1.0, 1.0, 1.0, 1.0, RANKING.weights.popularity]
    assert plan.request.user is SHOPPER


def test_what_may_be_bought_again_comes_back_where_that_is_wanted() -> None:
    shopper = replace(SHOPPER, seen=["a", "b"], repeats={"b": Repeat(0.5, 3, "2025-03-01")})
    on = RANKING.model_copy(update={"buy_again": 0.5})
    assert "buy-again" not in names(Query(user="u1"), Facts(shopper))
    for query, ranking, share in (
        (Query(user="u1", buy_again=True), RANKING, 1.0),
        (Query(user="u1"), on, 0.5),
        (Query(user="u1", items=["c"]), on, 0.5),
    ):
        plan = make_plan(query, Facts(shopper), ranking)
        assert plan.retrievers[-1].items == {"b": 0.5}
        assert plan.weights[-1] == share * max(plan.weights[:-1])
        assert (plan.request.user, plan.request.without) == (None, ("a",))
    everything = make_plan(Query(user="u1", include_seen=True), Facts(shopper), on)
    assert everything.request.without == ()
    for query in (Query(user="u1", buy_again=False), Query(user="u1", text="bag"), Query(user="u1", mode="lexical")):
        plan = make_plan(query, Facts(shopper), on)
        assert "buy-again" not in [each.name for each in plan.retrievers]
        assert plan.request.user is shopper


def test_a_shopper_is_no_evidence_for_items_of_the_own_history() -> None:
    shopper = replace(SHOPPER, seen=["a", "b"])
    both = ReadNeighbours({"a": replace(START, neighbours={"b": 0.5, "e": 0.25}, ease={"b": 0.5, "c": 0.25})})
    facts = with_neighbours(Query(user="u1", include_seen=True), Facts(shopper), RANKING, both)
    assert (facts.co_purchases, facts.ease) == ({"profile": {"e": 0.25}}, {"profile": {"c": 0.125}})


def test_without_neighbours_there_is_neither_a_co_purchase_nor_an_ease_retriever() -> None:
    assert names(Query(user="u1"), Facts(SHOPPER)) == ["profile", "words", "shoppers", "popularity"]


@pytest.mark.parametrize(
    ("mode", "expected"), [("ease", ["ease"]), ("behaviour", ["co-purchase"]), ("shoppers", ["shoppers"])]
)
def test_a_mode_uses_one_kind_of_retriever(mode: Mode, expected: list[str]) -> None:
    query = Query(user="u1", mode=mode)
    assert names(query, with_neighbours(query, Facts(SHOPPER), RANKING)) == expected


def test_a_short_history_can_have_weights_of_its_own() -> None:
    words_alone = Weights(semantic=0, lexical=1, behaviour=0, popularity=0)
    of_short = RANKING.model_copy(update={"by_history": (HistoryWeights(up_to=1, weights=words_alone),)})
    assert names(Query(user="u1"), Facts(SHOPPER), of_short) == ["words"]
    longer = replace(SHOPPER, seen=["a", "b"])
    assert names(Query(user="u1"), Facts(longer), of_short) == ["profile", "words", "shoppers", "popularity"]


def test_a_blend_weighs_scores_and_ranks() -> None:
    weights = {"fusion": "blend", "rank_weights": Weights(semantic=0, lexical=2, behaviour=0, popularity=0)}
    blend = RANKING.model_copy(update=weights)
    plan = make_plan(Query(user="u1"), Facts(SHOPPER), blend)
    assert (plan.fusion, plan.rank_weights) == ("blend", [0.0, 2.0, 0.0, 0.0])
    own = make_plan(Query(user="u1", weights={"lexical": 0.5}), Facts(SHOPPER), blend)
    assert (own.fusion, own.weights[1], own.rank_weights) == ("blend", 0.5, [0.0, 0.0, 0.0, 0.0])
    off = make_plan(Query(user="u1", weights={"popularity": 0.0}), Facts(SHOPPER), blend)
    assert (off.fusion, off.rank_weights) == ("blend", [0.0, 2.0, 0.0])


def test_another_fusion_than_a_blend_takes_the_sum_of_both_weights() -> None:
    off = dict.fromkeys(Weights.model_fields, 0.0)
    by_score, by_rank = (
        {**off, "lexical": 0.5, "popularity": 0.25},
        {**off, "semantic": 1.0, "ease": 2.0, "lexical": 0.25},
    )
    blend = RANKING.model_copy(
        update={"fusion": "blend", "weights": Weights(**by_score), "rank_weights": Weights(**by_rank)}
    )
    plan = make_plan(Query(user="u1", fusion="rrf"), WITH_NEIGHBOURS, blend)
    assert [each.name for each in plan.retrievers] == ["profile", "words", "ease", "popularity"]
    assert (plan.fusion, plan.weights, plan.rank_weights) == ("rrf", [1.0, 0.75, 2.0, 0.25], ())
    own = make_plan(Query(user="u1", fusion="minmax", weights={"lexical": 3.0}), WITH_NEIGHBOURS, blend)
    assert own.weights == [1.0, 3.0, 2.0, 0.25]
    with_text = make_plan(Query(user="u1", text="bag", fusion="rrf"), Facts(SHOPPER), blend)
    assert with_text.weights == [0.5, 0.5]


@pytest.mark.parametrize("fusion", ["rrf", "zscore", "blend"])
def test_a_text_is_fused_by_scores_unless_the_query_names_a_fusion(fusion: Fusion) -> None:
    chosen = RANKING.model_copy(update={"fusion": fusion})
    plan = make_plan(Query(text="striped bag", user="u1"), Facts(SHOPPER), chosen)
    assert (plan.fusion, plan.rank_weights) == ("minmax", ())
    assert make_plan(Query(text="striped bag", fusion="rrf"), Facts(None), chosen).fusion == "rrf"
    assert make_plan(Query(user="u1"), Facts(SHOPPER), chosen).fusion == fusion


def test_a_weight_of_zero_switches_a_kind_off() -> None:
    query = Query(user="u1", weights={"popularity": 0.0, "behaviour": 0.0, "ease": 0.0, "shoppers": 0.0})
    assert names(query, WITH_NEIGHBOURS) == ["profile", "words"]
    assert neighbour_kinds(query, Facts(SHOPPER), RANKING) == []
    without = replace(query, weights={"behaviour": 0.0})
    assert neighbour_kinds(without, Facts(SHOPPER), RANKING) == ["ease"]


def test_retrievers_without_a_weight_count_alike_and_what_is_off_stays_off() -> None:
    of_ease = RANKING.model_copy(update={"weights": Weights(semantic=0, lexical=0, behaviour=0, popularity=0, ease=1)})
    plan = make_plan(Query(user="u1"), Facts(SHOPPER), of_ease)  # EASE found nothing
    assert [each.name for each in plan.retrievers] == ["profile", "words", "shoppers", "popularity"]
    assert plan.weights == [1.0, 1.0, 1.0, 0.01]
    off = Query(user="u1", weights={"popularity": 0.0, "shoppers": 0.0})
    assert names(off, Facts(SHOPPER), of_ease) == ["profile", "words"]


@pytest.mark.parametrize("fusion", ["minmax", "blend"])
def test_popularity_alone_answers_only_where_the_ranking_weighs_it_most(fusion: Fusion) -> None:
    nothing = Weights(semantic=0, lexical=0, behaviour=0, ease=0, shoppers=0, popularity=0)
    weights = nothing.model_copy(update={"fitted": 1.0, "popularity": 0.01})
    rank_weights = nothing.model_copy(update={"popularity": 0.5, "fitted": 0.5})
    of_a_fit = RANKING.model_copy(update={"weights": weights, "rank_weights": rank_weights, "fusion": fusion})
    plan = make_plan(Query(user="u1"), Facts(SHOPPER), of_a_fit)  # the release has no fit
    assert [each.name for each in plan.retrievers] == ["profile", "words", "shoppers", "popularity"]
    assert plan.weights == [1.0, 1.0, 1.0, 0.01]
    assert not sum(plan.rank_weights)
    facts = with_neighbours(Query(user="u1"), Facts(SHOPPER), of_a_fit)
    assert names(Query(user="u1"), facts, of_a_fit) == [
        "profile", "words", "shoppers", "co-purchase", "ease", "popularity",
    ]  # fmt: skip
    starts = Facts(User("u3", behaviour={"a": 1.0}, seen=["a"]))
    assert names(Query(user="u3"), with_neighbours(Query(user="u3"), starts, of_a_fit), of_a_fit) == [
        "co-purchase", "popularity",
    ]  # fmt: skip
    popular = nothing.model_copy(update={"popularity": 1.0, "fitted": 0.9})
    of_popularity = RANKING.model_copy(update={"weights": popular, "rank_weights": popular, "fusion": fusion})
    assert names(Query(user="u1"), Facts(SHOPPER), of_popularity) == ["popularity"]


def test_the_early_request_is_part_of_the_plan() -> None:
    query = Query(user="u1")
    early = early_request(query, Facts(SHOPPER), RANKING)
    assert [each.name for each in early.retrievers] == ["profile", "words", "shoppers", "popularity"]
    assert neighbour_kinds(query, Facts(SHOPPER), RANKING) == ["behaviour", "ease"]
    assert neighbour_starts(Facts(SHOPPER)) == ["a"]


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


@pytest.mark.parametrize("fusion", ["rrf", "minmax", "zscore", "blend"])
@pytest.mark.parametrize("named", [True, False])
def test_the_list_of_a_segment_comes_before_what_is_popular_with_all(fusion: Fusion, named: bool) -> None:
    popular = {"gold": {"a": 2.0, "b": 1.0, "c": 1.0, "d": 1.0}}
    query = Query(user="u2", fusion=None if fusion == "blend" or not named else fusion, weights={"popularity": 0.1})
    plan = make_plan(query, Facts(STRANGER, popular=popular), RANKING.model_copy(update={"fusion": fusion}))
    # Documents 0 to 3 are a to d, the others are popular with all shoppers, and d more than c.
    listed = np.arange(4), np.array([2.0, 1.0, 1.0, 1.0])
    others = np.array([*range(4, 90), 3, 2]), np.arange(100.0, 12.0, -1.0)
    found = [Candidates("popularity", "popularity", *each) for each in (listed, others)]
    fused = fuse(found, plan.weights, plan.fusion, plan.rank_weights)
    assert fused.documents[:6].tolist() == [0, 3, 2, 1, 4, 5]


@pytest.mark.parametrize("given", [True, False])
def test_a_minimum_score_is_one_of_what_is_known_of_the_subject(given: bool) -> None:
    query = Query(user="u1", min_score=0.02 if given else None)
    ranking = RANKING.model_copy(update={"min_score": None if given else 0.02})
    bounds = {
        (plan := make_plan(query, facts, ranking)).tier: plan.min_score
        for facts in (Facts(SHOPPER), Facts(None, session=SHOPPER), Facts(STRANGER, popular={"gold": {"x": 3.0}}),
                      Facts(STRANGER, popular={"category:bags": {"x": 3.0}}), Facts())
    }  # fmt: skip
    assert bounds == {"profile": 0.02, "session": 0.02, "segment": None, "category": None, "popularity": None}
    assert make_plan(replace(query, text="bag"), Facts(), ranking).min_score == 0.02


def test_a_segment_before_the_profile_is_noted() -> None:
    ranking = RANKING.model_copy(update={"fallback_chain": ("segment", "profile")})
    shopper = User("u1", VECTOR, segment="gold")
    plan = make_plan(Query(user="u1"), Facts(shopper, popular={"gold": {"x": 1.0}}), ranking)
    assert (plan.tier, plan.profile_skipped) == ("segment", True)


def test_a_text_is_searched_in_the_light_of_the_profile() -> None:
    plan = make_plan(Query(user="u1", text="red lamp"), Facts(SHOPPER, text_vector=VECTOR), RANKING)
    assert (plan.tier, [each.name for each in plan.retrievers]) == ("profile", ["profile", "text", "words"])
    assert plan.weights == [0.25, 0.25, 0.5]


def test_a_photo_weighs_more_than_a_text_beside_a_shopper() -> None:
    facts = Facts(SHOPPER, text_vector=VECTOR, photo_vector=VECTOR)
    plan = make_plan(Query(user="u1", text="red lamp", photo_of="z"), facts, RANKING)
    weights = dict(zip([each.name for each in plan.retrievers], plan.weights, strict=True))
    assert weights == {"profile": 0.25, "text": 0.25, "words": 0.5, "photo": 1.0}


def test_pinned_items_get_a_retriever_of_weight_zero() -> None:
    rules = (Rule(action="pin", items=("x", "y")),)
    plan = make_plan(Query(text="lamp", mode="lexical"), Facts(), RANKING, rules)
    assert [(each.name, weight) for each, weight in zip(plan.retrievers, plan.weights, strict=True)] == [
        ("words", 0.5),
        ("pinned", 0.0),
    ]
    assert plan.retrievers[-1].items == {"x": 2.0, "y": 1.0}
