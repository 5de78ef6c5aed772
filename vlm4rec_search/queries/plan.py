"""What answers a query: the first tier of the cold-start ladder that has something to say, and its legs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vlm4rec_search.errors import UsageError
from vlm4rec_search.queries.legs import Item, Leg, User, co_purchases, session_user, taste_legs, text_legs
from vlm4rec_search.queries.query import Query, Tier
from vlm4rec_search.queries.reranking import PINNED
from vlm4rec_search.ranking import Ranking

if TYPE_CHECKING:
    from vlm4rec_search.indexes.base import Index

POPULARITY = Leg("popularity", "popularity")
FILLING = replace(POPULARITY, weight=0.01)  # what comes after a list, where filters leave little of it


@dataclass(frozen=True, slots=True)
class Plan:
    """The tier, its legs (at least one) with their weights, and whom they are about.

    A leg of weight 0 only finds what a rule pins.

    Attributes:
        user: None for nobody, or one that the release does not know.
        session: what the session's items say, None without a session.
        sources: items from which the co-purchases come, by id.
        otherwise: whether the shopper's profile would have had something to say, but the ladder has others speak.
    """

    tier: Tier
    legs: Sequence[Leg]
    weights: Sequence[float]
    user: User | None
    session: User | None
    sources: Mapping[str, Item]
    otherwise: bool = False


def plan(index: "Index", query: Query) -> Plan:
    """Choose what answers: the profile and the session, or else the text, segment, category, or popularity.

    Raises:
        UsageError: no item of the session is in the release, or the text cannot be encoded.
    """
    user = None if query.user is None else index.user(query.user)
    session = _session(index, query)
    starts = {**(user.behaviour if user else {}), **(session.behaviour if session else {})}
    wanted = query.mode in ("hybrid", "behaviour") and query.text is None
    sources = index.items(list(starts), vectors=False) if wanted and starts else {}
    own = _taste(query, user, "profile", index.ranking, sources)
    now = _taste(query, session, "session", index.ranking, sources)
    tier, legs = _ladder(index, query, user, own if "profile" in index.ranking.ladder else [], now)
    otherwise = bool(own) and query.text is None and not any(leg is own[0] for leg in legs)
    weights = leg_weights(legs, _kind_weights(query, index.ranking))
    heard = [(leg, weight) for leg, weight in zip(legs, weights, strict=True) if weight > 0]
    heard += [(leg, 0.0) for leg in _pins(index)]
    weighted = [leg for leg, _ in heard], [weight for _, weight in heard]
    return Plan(tier, *weighted, user, session, sources, otherwise)


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
    known = own + now + ([POPULARITY] if query.mode == "hybrid" else [])
    for tier in index.ranking.ladder:
        legs = known if tier in ("profile", "session") else _popular(index, query, user, tier)
        if legs and (own or tier != "profile") and (now or tier != "session"):
            return tier, legs
    return "popularity", [POPULARITY]


def _taste(query: Query, user: User | None, name: str, ranking: Ranking, sources: Mapping[str, Item]) -> list[Leg]:
    if user is None:
        return []
    listed = co_purchases(user.behaviour, sources, () if query.include_seen else user.seen)
    return taste_legs(user, listed, query.mode, ranking.profile == "interests", name)


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
