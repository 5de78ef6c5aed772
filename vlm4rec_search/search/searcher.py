"""From a query to its answer: plan the legs, let the index find candidates, fuse, rank again, explain."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vlm4rec_search.search.explanation import Reasons
from vlm4rec_search.search.fusion import fuse
from vlm4rec_search.search.model import Plan, Ranked
from vlm4rec_search.search.planning import plan
from vlm4rec_search.search.query import Answer, Hit, Query, Tier
from vlm4rec_search.search.reranking import rerank

if TYPE_CHECKING:
    from vlm4rec_search.search.backend import Index


def answer(index: "Index", query: Query) -> Answer:
    """Answer a query, whatever the backend, see `Index.search`."""
    started = time.perf_counter()
    chosen = plan(index, query)
    ranked = index.fused(chosen, query)
    hits = _found(index, query, chosen) if ranked is None else _hits(ranked)
    notes = [(None if hits else _all_seen(index, query, chosen)) or _note(query, chosen), _unknown(query, chosen)]
    note = "; ".join(said for said in notes if said) or None
    took = round((time.perf_counter() - started) * 1000.0, 2)
    return Answer(query.user, query.mode, chosen.tier, index.meta.name, took, hits, index.ranking.version, note)


def _found(index: "Index", query: Query, chosen: Plan) -> tuple[Hit, ...]:
    found = index.find(chosen.request)
    fused = fuse(found.candidates, chosen.weights, query.fusion or index.ranking.fusion)
    ranked = rerank(index, found, fused, query)
    hits = _hits(ranked)
    if not query.explain or not hits:
        return hits
    reasons = Reasons(index, query, chosen, found).of(ranked)
    return tuple(replace(hit, explanation=reason) for hit, reason in zip(hits, reasons, strict=True))


def _hits(ranked: Ranked) -> tuple[Hit, ...]:
    scored = enumerate(zip(ranked.scores, ranked.records, strict=True), 1)
    return tuple(Hit(rank=rank, score=float(score), **record) for rank, (score, record) in scored)


def _all_seen(index: "Index", query: Query, chosen: Plan) -> str | None:
    """Say that the shopper has seen all that fits, when that is why nothing is left."""
    if chosen.user is None or query.include_seen:
        return None
    if not answer(index, replace(query, include_seen=True, explain=False, k=1)).hits:
        return None
    return f"user {query.user} has seen every item that fits: include what was seen, or ask for less"


def _unknown(query: Query, chosen: Plan) -> str | None:
    """Say which items of the session the release does not have."""
    known = chosen.session.seen if chosen.session else ()
    missing = [item for item in query.items if item not in known]
    return f"not in the release, and left out of the session: {', '.join(missing[:5])}" if missing else None


_INSTEAD: dict[Tier, str] = {
    "session": "what goes with the session's items",
    "text": "what fits the text alone",
    "segment": "what is popular in the user's segment",
    "category": "what is popular in the category",
    "popularity": "what is popular with everyone",
}


def _note(query: Query, chosen: Plan) -> str | None:
    """Say what is answered where neither the shopper's profile nor, without a shopper, the session has a part in it."""
    if query.user is None:
        answered = not query.items or chosen.tier in ("session", "text")
        return None if answered else f"nothing is known of the items for this mode: this is {_INSTEAD[chosen.tier]}"
    own = any(leg.name in ("profile", "interest") for leg in chosen.legs)
    if own or chosen.tier == "profile" or (chosen.user is not None and chosen.tier == "text"):
        return None
    who = f"nothing is known of user {query.user} for this mode"
    if chosen.user is None:
        who = f"user {query.user} is not known"
    elif chosen.otherwise:
        who = f"the ladder does not come to the profile of user {query.user}"
    return f"{who}: this is {_INSTEAD[chosen.tier]}"
