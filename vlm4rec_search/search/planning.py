"""What answers a query: the first tier of the cold-start ladder that has something to say, and its legs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.model import PINNED, Item, Leg, Plan, Request, User
from vlm4rec_search.search.query import Query, Tier
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.retrievers import co_purchases, session_user, taste_legs, text_legs

if TYPE_CHECKING:
    from vlm4rec_search.search.backend import Index

POPULARITY = Leg("popularity", "popularity")
FILLING = replace(POPULARITY, weight=0.01)  # what comes after a list, where filters leave little of it


def plan(index: "Index", query: Query) -> Plan:
    """Choose what answers: the profile and the session, or else the text, segment, category, or popularity.

    Raises:
        UsageError: no item of the session is in the release, or the text cannot be encoded.
    """
    user = None if query.user is None else index.user(query.user)
    session = _session(index, query)
    asked = _request(index, query, user, session)
    own, now = _taste(query, user, "profile", index.ranking), _taste(query, session, "session", index.ranking)
    sources: Mapping[str, Item] = {}
    if starts := _starts(query, user, session, index.ranking):
        # the server looks for what is known of the taste while it tells what was bought together
        asked = replace(asked, begun=index.begin(replace(asked, legs=_sure(index, query, own, now))))
        sources = index.sources(starts)
        own, now = own + _bought(query, user, sources), now + _bought(query, session, sources)
    tier, legs = _ladder(index, query, user, _heard(index, own), now)
    otherwise = bool(own) and query.text is None and not any(leg is own[0] for leg in legs)
    weights = leg_weights(legs, _kind_weights(query, index.ranking))
    heard = [(leg, weight) for leg, weight in zip(legs, weights, strict=True) if weight > 0]
    heard += [(leg, 0.0) for leg in _pins(index)]
    asked = replace(asked, legs=[leg for leg, _ in heard])
    return Plan(tier, asked, [weight for _, weight in heard], user, session, sources, otherwise)


def _request(index: "Index", query: Query, user: User | None, session: User | None) -> Request:
    """Return what the index is asked, but for the legs."""
    without = session.seen if session else ()
    depth = max(query.depth or index.ranking.depth, query.k)
    return Request((), query.conditions, None if query.include_seen else user, without, depth)


def _heard(index: "Index", own: list[Leg]) -> list[Leg]:
    """Return the legs of the profile where the ladder comes to it."""
    return own if "profile" in index.ranking.ladder else []


def _sure(index: "Index", query: Query, own: list[Leg], now: list[Leg]) -> list[Leg]:
    """Return the legs that will be part of the answer, whatever was bought together."""
    legs = _heard(index, own) + now
    weights = _kind_weights(query, index.ranking)
    return [leg for leg in _with_popularity(query, legs) if weights.get(leg.kind, 0.0) > 0.0] if legs else []


def _with_popularity(query: Query, legs: list[Leg]) -> list[Leg]:
    return [*legs, POPULARITY] if query.mode == "hybrid" else legs


def _pins(index: "Index") -> list[Leg]:
    """Return a leg that finds the pinned items, first the first, where filters and the history allow them."""
    items = list(dict.fromkeys(item for rule in index.rules if rule.action == "pin" for item in rule.items))
    scores = {item: float(len(items) - place) for place, item in enumerate(items)}
    return [Leg(PINNED, "behaviour", items=scores)] if items else []


def leg_weights(legs: Sequence[Leg], kinds: Mapping[str, float]) -> list[float]:
    """Return the weight of each leg: its kind's, divided among the legs of the kind by their own weights.

    Where every leg would have 0, their own weights count.
    """
    totals: Counter[str] = Counter()
    for leg in legs:
        totals[leg.kind] += leg.weight  # type: ignore[assignment]  # a Counter adds floats as well
    weights = [kinds.get(leg.kind, 0.0) * leg.weight / totals[leg.kind] for leg in legs]
    return weights if sum(weights) > 0 else [leg.weight for leg in legs]


def _kind_weights(query: Query, ranking: Ranking) -> dict[str, float]:
    """Return the weight of each kind; meaning and words of a text count alike unless the query says otherwise."""
    default = {"semantic": 0.5, "lexical": 0.5} if query.text is not None else ranking.weights.model_dump()
    return {**default, **query.weights}


def _session(index: "Index", query: Query) -> User | None:
    if not query.items:
        return None
    items = index.items(list(dict.fromkeys(query.items)), words=True)
    if not items:
        raise UsageError(f"no item of the session is in the release {index.meta.name}: {', '.join(query.items[:5])}")
    return session_user(list(items.values()))


def _ladder(index: "Index", query: Query, user: User | None, own: list[Leg], now: list[Leg]) -> tuple[Tier, list[Leg]]:
    """Return the tier that answers and its legs; `own` are those of the profile, `now` those of the session."""
    if query.text is not None:
        legs = [leg for leg in own + now if leg.kind == "semantic"]
        tier: Tier = ("profile" if own else "session") if legs else "text"
        return tier, legs + text_legs(query.text, query.mode, index.encode)
    known = _with_popularity(query, own + now)
    for tier in index.ranking.ladder:
        legs = known if tier in ("profile", "session") else _popular(index, query, user, tier)
        if legs and (own or tier != "profile") and (now or tier != "session"):
            return tier, legs
    return "popularity", [POPULARITY]


def _taste(query: Query, user: User | None, name: str, ranking: Ranking) -> list[Leg]:
    """Return the legs of a taste that need no co-purchases."""
    return [] if user is None else taste_legs(user, query.mode, ranking.profile == "interests", name)


def _starts(query: Query, user: User | None, session: User | None, ranking: Ranking) -> list[str]:
    """Return the items from which the co-purchases come, none where nobody asks for these."""
    heard = query.mode == "behaviour" or _kind_weights(query, ranking).get("behaviour", 0.0) > 0.0
    wanted = query.mode in ("hybrid", "behaviour") and query.text is None and heard
    return list({**(user.behaviour if user else {}), **(session.behaviour if session else {})}) if wanted else []


def _bought(query: Query, user: User | None, sources: Mapping[str, Item]) -> list[Leg]:
    """Return the leg of what was bought together with what a shopper starts from, none where that is nothing."""
    if user is None:
        return []
    listed = co_purchases(user.behaviour, sources, () if query.include_seen else user.seen)
    return [Leg("co-purchase", "behaviour", items=listed)] if listed else []


def _popular(index: "Index", query: Query, user: User | None, tier: Tier) -> list[Leg]:
    """Return the leg of a tier that answers a shopper of whom no taste is known, none where it has nothing to say."""
    names = {
        "segment": [user.segment] if user and user.segment else [],
        "category": [f"category:{category}" for category in user.categories] if user else [],
    }
    for name in names.get(tier, ()):
        if items := index.segment(name):
            return [replace(POPULARITY, items=items), FILLING]
    in_category = any(condition.field == "category" for condition in query.conditions)
    return [POPULARITY] if tier == "popularity" or (tier == "category" and in_category) else []
