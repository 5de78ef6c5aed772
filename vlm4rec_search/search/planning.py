"""Makes the plan of a query from the facts about its subject; it reads nothing, so that it can be tested alone."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from vlm4rec_search.search.model import BUY_AGAIN, PINNED, Facts, Neighbours, Plan, Request, Retriever, User
from vlm4rec_search.search.query import Fusion, ItemToItem, Kind, Origin, Query, Tier
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.retrievers import profile_retrievers, text_retrievers
from vlm4rec_search.search.rules import Rule

POPULARITY = Retriever("popularity", "popularity")
NEIGHBOUR_KINDS = frozenset({"behaviour", "ease"})  # which are sums over what is related to the items of a history
TIE_BREAK = 0.01  # weight of popularity beside retrievers of weight 1: up to this it only breaks ties
# Of searches with a text or a photo, whatever fusion was chosen on histories: an item with all words of a text has a
# much higher score than one with some of them, which ranks alone do not show (docs/searching.md has the figures).
TEXT_FUSION: Fusion = "minmax"
# Fills up behind the list of a segment or a category. The two are always fused by ranks: the last of 200 listed items
# adds 1 / 260 and the best of the others 0.01 / 61. By minmax or zscore the least popular listed items would have next
# to nothing, and what is popular with all shoppers would overtake them.
AFTER_SEGMENT = replace(POPULARITY, weight=TIE_BREAK)
LIST_FUSION: Fusion = "rrf"
# Whose scores say how well a hit fits: the others count shoppers, or are the ranks of a list, of another size.
SCORED: frozenset[Tier] = frozenset({"profile", "session", "text", "photo"})


def make_plan(query: Query, facts: Facts, ranking: Ranking, rules: Sequence[Rule] = ()) -> Plan:
    """Choose the tier of the fallback chain that answers, its retrievers, and their weights.

    Args:
        query: the query.
        facts: see `look_up`.
        ranking: fallback chain, weights and defaults.
        rules: business rules, of which those apply whose conditions hold; pinned items get a retriever of weight 0.
    """
    segment = facts.user.segment if facts.user else None
    rules = [rule for rule in rules if rule.applies(query, segment, facts.analyzer)]
    profile = _profile(query, facts, ranking) + _from_neighbours(facts, "profile")
    session = _session(query, facts, ranking) + _from_neighbours(facts, "session")
    tier, retrievers = _choose_tier(query, facts, ranking, _only_in_chain(profile, ranking), session)
    kinds = _kind_weights(query, facts, ranking)
    weights = retriever_weights(retrievers, kinds)
    uses_profile = bool(profile) and profile[0] in retrievers
    has_list = AFTER_SEGMENT in retrievers
    chosen = query.fusion or (TEXT_FUSION if query.has_text_or_photo else ranking.fusion)
    fusion = LIST_FUSION if has_list else chosen
    blend = fusion == "blend"
    rank_kinds = _rank_weights(query, ranking) if blend else {}
    by_rank = retriever_weights(retrievers, rank_kinds)
    own_weights = has_list or _has_no_say(retrievers, kinds, rank_kinds)
    if own_weights:
        weights, by_rank = _own_weights(retrievers, query), [0.0] * len(weights)
    used = [each for each in zip(retrievers, weights, by_rank, strict=True) if each[1] + each[2] > 0]
    heaviest = max(weight + rank_weight for _, weight, rank_weight in used)
    used += [(retriever, share * heaviest, 0.0) for retriever, share in _again(query, facts, ranking)]
    used += [(retriever, 0.0, 0.0) for retriever in _pins(rules)]
    min_score = ranking.min_score if query.min_score is None else query.min_score
    return Plan(
        query,
        tier,
        _request(query, facts, ranking, [retriever for retriever, _, _ in used]),
        [weight for _, weight, _ in used],
        fusion,
        ranking.diversity if query.diversity is None else query.diversity,
        min_score if tier in SCORED else None,
        rules,
        uses_profile=uses_profile,
        profile_skipped=bool(profile) and not query.has_text_or_photo and not uses_profile,
        rank_weights=[weight for _, _, weight in used] if blend else (),
        own_weights=own_weights,
    )


def popularity_plan(query: Query, facts: Facts, ranking: Ranking, rules: Sequence[Rule] = ()) -> Plan:
    """Return the plan that answers a query with what is popular with all shoppers, under its filters and rules.

    Args:
        query: the query; it is not explained, and nothing of it is ranked by diversity or a minimum score.
        facts: of which only the shopper's seen items and segment, and the analyzer, are used.
        ranking: its depth.
        rules: business rules.
    """
    segment = facts.user.segment if facts.user else None
    rules = [rule for rule in rules if rule.applies(query, segment, facts.analyzer)]
    pins = _pins(rules)
    request = _request(query, facts, ranking, [POPULARITY, *pins])
    request = replace(request, without=(*request.without, *query.items))
    weights = [1.0, *(0.0 for _ in pins)]
    return Plan(replace(query, explain=False), "popularity", request, weights, "minmax", 0.0, rules=rules)


def excluded_items(query: Query, user: User | None, ranking: Ranking) -> set[str]:
    """Return the items that no answer to a query for a shopper, or for nobody, has: above all what the shopper has.

    Args:
        query: of no session.
        user: what the release knows of the shopper.
        ranking: may let some of these items come back.
    """
    request = _request(query, Facts(user=user), ranking, ())
    return {*(request.user.seen if request.user else ()), *request.without}


def neighbour_kinds(query: Query, facts: Facts, ranking: Ranking) -> list[ItemToItem]:
    """Return the kinds of neighbours that the plan needs."""
    kinds: tuple[ItemToItem, ...] = get_args(ItemToItem)
    return [kind for kind in kinds if uses(kind, query, facts, ranking)]


def neighbour_starts(facts: Facts) -> list[str]:
    """Return the items of the shopper and of the session that have neighbours."""
    profiles = [profile for profile in (facts.user, facts.session) if profile is not None]
    return list(dict.fromkeys(item for profile in profiles for item in profile.behaviour))


def add_neighbours(query: Query, facts: Facts, kinds: Collection[ItemToItem], neighbours: Neighbours) -> Facts:
    """Return the facts with the neighbours, and with the scores of co-purchases and EASE, as far as `kinds` has them.

    The sums take milliseconds for a long history, so that they are facts and computed once. They never contain items of
    the subject's own: that these were chosen together may be known from this shopper alone.
    """
    profiles = {"profile": facts.user, "session": facts.session}
    known = {tier: profile for tier, profile in profiles.items() if profile is not None}
    own = [item for profile in known.values() for item in profile.seen]
    without = own if query.include_seen else [*own, *query.recent, *query.hidden]
    co_purchases, ease = {}, {}
    if "behaviour" in kinds:
        co_purchases = {tier: neighbours.sum("behaviour", each.behaviour, without) for tier, each in known.items()}
    if "ease" in kinds:
        ease = {tier: neighbours.sum("ease", each.lasting, without) for tier, each in known.items()}
    return replace(facts, neighbours=neighbours, co_purchases=co_purchases, ease=ease)


def uses(kind: Kind, query: Query, facts: Facts, ranking: Ranking) -> bool:
    """Return whether a query without a text or photo uses one of `NEIGHBOUR_KINDS`.

    They are used as well where the ranking weighs neither of them nor anything else that is known of
    the subject, so that all retrievers answer (`_has_no_say`).
    """
    if query.has_text_or_photo or query.mode not in ("hybrid", kind):
        return False
    kinds, by_rank = _kind_weights(query, facts, ranking), _rank_weights(query, ranking)
    rank_kinds = by_rank if ranking.fusion == "blend" else {}
    weighed = {each for weights in (kinds, rank_kinds) for each, weight in weights.items() if weight > 0.0}
    if query.mode == kind or kind in weighed:
        return True
    if weighed & NEIGHBOUR_KINDS:
        return False
    known = _only_in_chain(_profile(query, facts, ranking), ranking) + _session(query, facts, ranking)
    return _has_no_say([Retriever(kind, kind), *_with_popularity(query, known)], kinds, rank_kinds)


def early_request(query: Query, facts: Facts, ranking: Ranking) -> Request:
    """Return the request for the retrievers that do not depend on the neighbours."""
    retrievers = _only_in_chain(_profile(query, facts, ranking), ranking) + _session(query, facts, ranking)
    weights = _kind_weights(query, facts, ranking)
    used = [retriever for retriever in _with_popularity(query, retrievers) if weights.get(retriever.kind, 0.0) > 0.0]
    return _request(query, facts, ranking, used if retrievers else [])


def fallback_segments(query: Query, facts: Facts, ranking: Ranking) -> Iterator[str]:
    """Yield the segments whose popular items the fallback chain uses, best first.

    The first of them that the release knows is enough.
    """
    if query.has_text_or_photo:
        return
    for tier in ranking.fallback_chain:
        if tier == "profile" and (_profile(query, facts, ranking) or _from_neighbours(facts, "profile")):
            return
        if tier == "session" and (_session(query, facts, ranking) or _from_neighbours(facts, "session")):
            return
        yield from _segments(tier, facts.user)
        if _answers_alone(tier, query):
            return


def retriever_weights(retrievers: Sequence[Retriever], kinds: Mapping[str, float]) -> list[float]:
    """Return the weight of each retriever: that of its kind, divided among the kind's by their own weights."""
    totals: dict[str, float] = {}
    for retriever in retrievers:
        totals[retriever.kind] = totals.get(retriever.kind, 0.0) + retriever.weight
    return [kinds.get(each.kind, 0.0) * each.weight / totals[each.kind] for each in retrievers]


def _has_no_say(retrievers: Sequence[Retriever], kinds: Mapping[str, float], rank_kinds: Mapping[str, float]) -> bool:
    """Return whether the ranking gives none of a subject's retrievers any weight.

    Beside others, popularity has a say only where the ranking weighs it more than all else together. Otherwise a
    shopper who has nothing of what it weighs most, such as a vector of a fit that is gone, would get what all get.
    """
    weights = {kind: kinds.get(kind, 0.0) + rank_kinds.get(kind, 0.0) for kind in {*kinds, *rank_kinds}}
    known = {each.kind for each in retrievers}
    if known - {"popularity"} and 2 * weights.get("popularity", 0.0) <= sum(weights.values()):
        known -= {"popularity"}
    return not any(weights.get(kind, 0.0) > 0.0 for kind in known)


def _own_weights(retrievers: Sequence[Retriever], query: Query) -> list[float]:
    """Return the weights where the ranking has no say: the retrievers' own.

    What the query switches off stays off where anything is left. Popularity only breaks ties, unless it stands alone.
    """
    on = [each for each in retrievers if query.weights.get(each.kind, 1.0) > 0.0] or list(retrievers)
    alone = all(each.kind == "popularity" for each in on)
    return [
        0.0 if each not in on else each.weight * (1.0 if alone or each.kind != "popularity" else TIE_BREAK)
        for each in retrievers
    ]


def _kind_weights(query: Query, facts: Facts, ranking: Ranking) -> dict[str, float]:
    """Return the weight of each kind; by default the meaning and the words of a text count alike, a photo as both."""
    if query.has_text_or_photo:
        return {"semantic": 0.5, "lexical": 0.5, "photo": 1.0, **query.weights}
    length = max((len(each.seen) for each in (facts.user, facts.session) if each is not None), default=0)
    weights = ranking.weights_for(length).model_dump()
    if query.fusion is not None:  # never a blend, which alone has two weights of a kind, and one of them may be 0
        by_rank = ranking.rank_weights.model_dump()
        weights = {kind: weight + by_rank[kind] for kind, weight in weights.items()}
    return {**weights, **query.weights}


def _rank_weights(query: Query, ranking: Ranking) -> dict[str, float]:
    """Return the weights of ranks in a blend; a kind whose weight the query gives has that weight alone."""
    return {**ranking.rank_weights.model_dump(), **dict.fromkeys(query.weights, 0.0)}


def _request(query: Query, facts: Facts, ranking: Ranking, retrievers: Sequence[Retriever]) -> Request:
    recent = () if query.include_seen else (*query.recent, *query.hidden)
    without = (*(facts.session.seen if facts.session else ()), *recent, *query.exclude)
    if query.photo_of is not None:
        without = (*without, query.photo_of)
    depth = max(query.depth or ranking.depth, query.k)
    user = None if query.include_seen else facts.user
    if user is not None and _again(query, facts, ranking):
        without = (*without, *(item for item in user.seen if item not in user.repeats))
        user = None
    return Request(retrievers, query.conditions, user, without, depth)


def _again(query: Query, facts: Facts, ranking: Ranking) -> list[tuple[Retriever, float]]:
    """Return the retriever of what the shopper may buy again, and its share of the largest weight; none where off."""
    on = ranking.buy_again > 0.0 if query.buy_again is None else query.buy_again
    repeats = facts.user.repeats if facts.user and "profile" in ranking.fallback_chain else {}
    if not on or not repeats or query.has_text_or_photo or query.mode != "hybrid":
        return []
    scores = {item: each.score for item, each in repeats.items()}
    return [(Retriever(BUY_AGAIN, "behaviour", items=scores), ranking.buy_again or 1.0)]


def _profile(query: Query, facts: Facts, ranking: Ranking) -> list[Retriever]:
    """Return the retrievers of the shopper's profile, without co-purchases and EASE."""
    return profile_retrievers(facts.user, query.mode, ranking.by_interest, "profile")


def _session(query: Query, facts: Facts, ranking: Ranking) -> list[Retriever]:
    """Return the retrievers of the session, without co-purchases and EASE."""
    return profile_retrievers(facts.session, query.mode, ranking.by_interest, "session")


def _from_neighbours(facts: Facts, origin: Origin) -> list[Retriever]:
    """Return the retrievers of co-purchases and of EASE for the profile or the session, where they found items."""
    retrievers = [
        Retriever("co-purchase", "behaviour", items=facts.co_purchases.get(origin, {}), origin=origin),
        Retriever("ease", "ease", items=facts.ease.get(origin, {}), origin=origin),
    ]
    return [retriever for retriever in retrievers if retriever.items]


def _only_in_chain(profile: list[Retriever], ranking: Ranking) -> list[Retriever]:
    """Return the profile's retrievers where the fallback chain has the tier profile, else none."""
    return profile if "profile" in ranking.fallback_chain else []


def _with_popularity(query: Query, retrievers: list[Retriever]) -> list[Retriever]:
    return [*retrievers, POPULARITY] if query.mode == "hybrid" else retrievers


def _choose_tier(
    query: Query, facts: Facts, ranking: Ranking, profile: list[Retriever], session: list[Retriever]
) -> tuple[Tier, list[Retriever]]:
    """Return the first tier that can answer, and its retrievers; profile and session answer together."""
    if query.has_text_or_photo:
        context = [retriever for retriever in profile + session if retriever.kind == "semantic"]
        alone: Tier = "photo" if query.text is None else "text"
        tier: Tier = ("profile" if profile else "session") if context else alone
        return tier, context + _text_and_photo_retrievers(query, facts)
    known = {"profile": profile, "session": session}
    for tier in ranking.fallback_chain:
        if known.get(tier):
            return tier, _with_popularity(query, profile + session)
        for segment in _segments(tier, facts.user):
            if items := facts.popular.get(segment):
                return tier, [replace(POPULARITY, items=items), AFTER_SEGMENT]
        if _answers_alone(tier, query):
            return tier, [POPULARITY]
    return "popularity", [POPULARITY]


def _text_and_photo_retrievers(query: Query, facts: Facts) -> list[Retriever]:
    """Return the retrievers of the query's text and photo."""
    retrievers = [] if facts.photo_vector is None else [Retriever("photo", "photo", facts.photo_vector)]
    if query.text is not None:
        retrievers = text_retrievers(query.text, query.mode, facts.text_vector, facts.analyzer) + retrievers
    return retrievers


def _segments(tier: Tier, user: User | None) -> list[str]:
    """Return the names of the segments that a tier answers with, best first."""
    if user is not None and tier == "segment" and user.segment:
        return [user.segment]
    if user is not None and tier == "category":
        return [f"category:{category}" for category in user.categories]
    return []


def _answers_alone(tier: Tier, query: Query) -> bool:
    """Return whether a tier answers with the popularity of all items that the filters allow."""
    in_category = any(condition.field == "category" for condition in query.conditions)
    return tier == "popularity" or (tier == "category" and in_category)


def _pins(rules: Sequence[Rule]) -> list[Retriever]:
    """Return a retriever that finds the pinned items, in their order, where filters and the history allow them."""
    items = list(dict.fromkeys(item for rule in rules if rule.action == "pin" for item in rule.items))
    scores = {item: float(len(items) - place) for place, item in enumerate(items)}
    return [Retriever(PINNED, "behaviour", items=scores)] if items else []
