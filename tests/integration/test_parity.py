"""The two backends give the same answers: the same calls over the same tables, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pytest
from helpers.backend_pair import SHOPPERS, TEXTS, Pair

from vlm4rec_search import Query
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.blocks import look_up_block
from vlm4rec_search.search.facts import look_up
from vlm4rec_search.search.query import KINDS
from vlm4rec_search.search.ranking import Weights
from vlm4rec_search.search.rules import Rule

EVERYTHING = 1_000  # candidates: more than documents, so that the approximate search is exact


def alike(one: object, other: object, where: str = "") -> list[str]:
    """Return where two answers differ; numbers may by what float32 leaves of six decimals."""
    if isinstance(one, float) and isinstance(other, float):
        return [] if one == pytest.approx(other, abs=2e-6, rel=1e-6) else [f"{where}: {one} and {other}"]
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        return [told for name in one for told in alike(one[name], other[name], f"{where}.{name}")]
    if (
        isinstance(one, Sequence)
        and not isinstance(one, str)
        and isinstance(other, Sequence)
        and len(one) == len(other)
    ):
        pairs = enumerate(zip(one, other, strict=True))
        return [told for place, (a, b) in pairs for told in alike(a, b, f"{where}[{place}]")]
    return [] if one == other else [f"{where}: {one} and {other}"]


def test_semantic_hits_and_scores_are_the_same(pair: Pair) -> None:
    queries = [Query(user=user, mode="semantic", depth=EVERYTHING) for user in SHOPPERS]
    queries += [Query(text=text, mode="semantic", depth=EVERYTHING) for text in TEXTS]
    for query in queries:
        one, other = pair.both(query)
        assert alike(one, other) == [], query


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid", "behaviour", "ease", "shoppers", "fitted"])
def test_the_top_ten_of_shoppers_overlap(pair: Pair, mode: str) -> None:
    shares = []
    for user in SHOPPERS:
        one, other = pair.tops(Query(user=user, mode=mode))  # type: ignore[arg-type]
        assert len(one) == len(other)
        shares.append(len(set(one) & set(other)) / max(len(one), 1))
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_the_top_ten_of_texts_overlap(pair: Pair, mode: str) -> None:
    queries = [Query(text=text, user=user, mode=mode)  # type: ignore[arg-type]
               for text in TEXTS for user in (None, "u03")]  # fmt: skip
    tops = [pair.tops(query) for query in queries]
    assert [len(one) for one, _ in tops] == [len(other) for _, other in tops]
    shares = [len(set(one) & set(other)) / len(one) for one, other in tops if one]
    assert len(shares) >= 6
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize("fusion", ["minmax", "zscore", "rrf"])
def test_fused_scores_are_the_same(pair: Pair, fusion: str) -> None:
    for user in SHOPPERS[:6]:
        query = Query(user=user, k=EVERYTHING, fusion=fusion)  # type: ignore[arg-type]
        one, other = ({hit.item_id: hit.score for hit in index.search(query).hits} for index in pair)
        assert one.keys() == other.keys()
        nearly = 1e-5 if fusion == "zscore" else 1e-6  # a standard deviation may be small
        far = [item for item in one if abs(one[item] - other[item]) > nearly]
        if fusion != "rrf":
            assert far == []
        else:  # where two scores differ by less than their last decimal, two ranks may change places
            assert len(far) <= len(one) * 0.02


def test_interests_are_the_same_legs(pair: Pair) -> None:
    with pair.by("interests"):
        for user in SHOPPERS[:4]:
            for mode in ("semantic", "hybrid"):
                one, other = pair.both(Query(user=user, mode=mode, depth=EVERYTHING, explain=True))  # type: ignore[arg-type]
                assert alike(one, other) == [], (user, mode)
        shares = [len(set(one) & set(other)) / 10 for one, other in (pair.tops(Query(user=user)) for user in SHOPPERS)]
    assert np.mean(shares) >= 0.95


def test_interests_are_read_where_the_ranking_uses_them(pair: Pair) -> None:
    def nothing(_: object) -> NoReturn:
        raise AssertionError("a shopper alone has nothing to encode")

    query = Query(user="u00")
    for index in pair:
        for profile in ("mean", "interests"):
            ranking = index.ranking.model_copy(update={"profile": profile})
            reader = index.backend.reader()
            users = [look_up(reader, query, ranking, nothing, nothing).user]
            if isinstance(index.backend, EmbeddedBackend):
                users += [facts.user for facts in look_up_block(index.backend, [query], ranking)]
            assert [bool(user and user.interests) for user in users] == [profile == "interests"] * len(users)
        shown = index.backend.reader().user("u00")
        assert shown is not None
        assert shown.interests == ()


def test_the_same_shoppers_are_known(pair: Pair) -> None:
    asked = [*SHOPPERS, "nobody"]
    one, other = (index.backend.reader().known_users(asked) for index in pair)
    assert one == other == set(asked) - {"nobody"}


def test_more_legs_than_a_hybrid_query_takes_are_the_same(pair: Pair) -> None:
    seen = pair.embedded.backend.reader().user("u00")
    assert seen is not None
    query = Query(user="u03", items=list(seen.seen[:3]), depth=EVERYTHING, explain=True)
    with pair.by("interests"):
        found = pair.embedded.search(query).hits[0].explanation
        one, other = pair.both(query)
    assert found is not None
    assert len(found.legs) > 5
    assert alike(one, other) == []


def test_a_blend_of_scores_and_ranks_is_the_same(pair: Pair) -> None:
    half = dict.fromkeys(KINDS, 0.5)
    by_rank = Weights(semantic=0.1, lexical=0.4, behaviour=0.2, ease=0.3, shoppers=0.3, fitted=0.2, popularity=0.0)
    blend = {"fusion": "blend", "weights": Weights(**half), "rank_weights": by_rank}
    before = pair.embedded.ranking
    for index in pair:
        index.ranking = before.model_copy(update=blend)
    try:
        for user in SHOPPERS[:4]:
            one, other = pair.both(Query(user=user, depth=EVERYTHING, explain=True))
            assert alike(one, other) == [], user
    finally:
        for index in pair:
            index.ranking = before


CASES = {
    "unknown user": Query(user="nobody"),
    "segment": Query(user="s00"),
    "segment by scores": Query(user="s00", fusion="minmax", min_score=0.5),
    "unknown segment": Query(user="s01"),
    "nothing known": Query(user="s02", filters=["price<60"]),
    "category": Query(user="nobody", filters=["category=nothing such"]),
    "behaviour": Query(user="u00", mode="behaviour"),
    "ease": Query(user="u00", mode="ease"),
    "shoppers": Query(user="u00", mode="shoppers"),
    "fitted": Query(user="u00", mode="fitted"),
    "fitted and filtered": Query(user="u06", mode="fitted", filters=["price=20..60"], include_seen=True),
    "popularity": Query(user="u03", weights={"semantic": 0, "lexical": 0, "behaviour": 0}),
    "buy again": Query(user="u00", buy_again=True),
    "include seen": Query(user="u06", mode="semantic", include_seen=True),
    "filtered": Query(user="u06", filters=["price=20..60", "available=true"]),
    "text": Query(text="women's running shoes"),
    "text for a user": Query(text="bag", user="u09"),
    "per category": Query(user="u09", per_category=1),
    "diversity": Query(user="u09", diversity=0.4),
    "nothing left": Query(user="u09", filters=["price>100000"]),
}


@pytest.mark.parametrize("name", CASES)
def test_whole_answers_with_their_reasons_are_the_same(pair: Pair, name: str) -> None:
    one, other = pair.both(replace(CASES[name], depth=EVERYTHING, explain=True))
    assert alike(one, other) == []


def test_what_retrievers_and_boosts_added_sums_to_the_score(pair: Pair) -> None:
    rules = (Rule(action="boost", filter="price>20", factor=1.5), Rule(action="boost", filter="price<40", factor=0.8))
    for index in pair:
        index.rules = rules
        try:
            hits = [hit for user in SHOPPERS[:4] for hit in index.search(Query(user=user, explain=True)).hits]
        finally:
            index.rules = ()
        for hit in hits:
            assert hit.explanation is not None
            legs = hit.explanation.legs
            assert sum(leg.contribution for leg in legs) + hit.explanation.boosted == pytest.approx(hit.score, abs=1e-8)
            assert sum(leg.share for leg in legs) == pytest.approx(1.0)
        assert any(hit.explanation and hit.explanation.boosted > 0 for hit in hits)


def test_sessions_and_similar_items_are_the_same(pair: Pair) -> None:
    seen = pair.embedded.backend.reader().user("u00")
    assert seen is not None
    items = list(seen.seen[:3])
    for query in (
        Query(items=items),
        Query(items=items, mode="behaviour"),
        Query(items=items, mode="ease"),
        Query(user="u03", items=items),
    ):
        one, other = pair.both(replace(query, depth=EVERYTHING, explain=True))
        assert alike(one, other) == [], query
    found, same = (
        pair.embedded.backend.reader().items(items, words=True),
        pair.server.backend.reader().items(items, words=True),
    )
    assert list(found) == list(same) == items
    assert [item.words for item in found.values()] == [item.words for item in same.values()]
    assert pair.embedded.backend.reader().popular("young") == pair.server.backend.reader().popular("young") != {}


@pytest.mark.parametrize(
    "query", [Query(user="u00", filters=["nonsense=1"]), Query(items=["nonsense"])], ids=["field", "session"]
)
def test_mistakes_are_told_alike(pair: Pair, query: Query) -> None:
    told = []
    for index in pair:
        with pytest.raises(UsageError) as caught:
            index.search(query)
        told.append(str(caught.value).replace(index.release.name, "RELEASE"))
    assert told[0] == told[1]


@pytest.mark.xfail(
    strict=True, raises=UsageError, reason="a server takes 1,024 clauses: a text of more words is told, not answered"
)
def test_long_texts_are_answered(pair: Pair) -> None:
    text = " ".join(f"word{number}" for number in range(400)) + " bag jacket"
    one, other = pair.tops(Query(text=text, mode="lexical"))
    assert one == other
