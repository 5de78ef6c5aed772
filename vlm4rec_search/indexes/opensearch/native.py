"""The server's own `hybrid` query, where its neural-search plug-in is installed: one request for search and fusion.

It has the arithmetic of `fusion.min_max_mean` in float32, over scores that are not rounded: where those of a leg are
close to each other, it differs by 1e-5. The jars of the local server lack the plug-in: where OPENSEARCH_URL names a
server that has it, tests/integration/test_opensearch_native.py compares the two fusions.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch.mapping import Body
from vlm4rec_search.indexes.opensearch.queries import CLAUSES, EVERYTHING, FILTERING, any_of, leg_query, word_clauses
from vlm4rec_search.indexes.opensearch.sender import Hits, Sender
from vlm4rec_search.search.model import Leg, Plan, Ranked, Record, Request
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.rules import Rule

PLUGIN = "opensearch-neural-search"
MOST_LEGS = 5
_LEAST = 1e-9  # a score that is above 0 and below every popularity


def is_there(sender: Sender) -> bool:
    """Tell whether every node has the plug-in; who may not ask does without."""
    try:
        rows = sender.client.cat.plugins(params={"format": "json"})
    except UsageError:
        return False
    nodes = {row["name"] for row in rows}
    return bool(nodes) and nodes == {row["name"] for row in rows if row["component"] == PLUGIN}


def is_enough(query: Query, ranking: Ranking, rules: Sequence[Rule], plan: Plan) -> bool:
    """Tell whether the server's fusion gives the answer: nothing explained, ranked again, or fused by rank."""
    diversity = ranking.diversity if query.diversity is None else query.diversity
    again = query.explain or query.per_category or diversity or rules
    if again or (query.fusion or ranking.fusion) != "minmax" or not 2 <= len(plan.legs) <= MOST_LEGS:
        return False
    return sum(map(_clauses, plan.legs)) <= CLAUSES - MOST_LEGS * FILTERING  # the legs are one search


def hybrid_body(request: Request, within: Body, weights: Sequence[float], ef_search: int) -> Body:
    """Return the search for the best `depth` of the fused legs; more than are shown, see `best`.

    Args:
        request: of 2 to 5 legs.
        within: what `requests.allowed` returns; it is part of every leg.
        weights: one for each leg; the server wants doubles that sum to 1.
        ef_search: see `requests.leg_query`.
    """
    queries = [_scored(leg, within, request.depth, ef_search) for leg in request.legs]
    return {
        "size": request.depth,
        "query": {"hybrid": {"queries": queries, "pagination_depth": request.depth}},
        # before it fuses them, the server reads all candidates of all legs: of each no more than its id
        "stored_fields": "_none_",
        "docvalue_fields": ["item_id"],
        "track_total_hits": False,
        "search_pipeline": pipeline([weight / sum(weights) for weight in weights]),
    }


def pipeline(weights: Sequence[float]) -> Body:
    """Return the search pipeline that scales each leg to 0..1 and adds them up by weight."""
    combination = {"technique": "arithmetic_mean", "parameters": {"weights": [float(weight) for weight in weights]}}
    processor = {"normalization": {"technique": "min_max"}, "combination": combination}
    return {"phase_results_processors": [{"normalization-processor": processor}]}


def best(hits: Hits, k: int) -> Hits:
    """Return the first k hits, equal scores by item id: the server has these in any order.

    Raises:
        RunError: a score is negative, as where the pipeline did not run.
    """
    if any(score < 0.0 for score, _ in hits):
        raise RunError("the server answers with negative scores: its search pipeline did not run")
    return sorted(hits, key=lambda hit: (-hit[0], hit[1]))[:k]


def ranked(hits: Hits, records: Sequence[Record], legs: int) -> Ranked:
    """Return the hits as an answer shows them; what each leg added is not known."""
    scores = np.array([score for score, _ in hits], dtype=np.float64)
    return Ranked(np.arange(len(hits)), scores, np.zeros((len(hits), legs)), records, [()] * len(hits))


def _scored(leg: Leg, within: Body, depth: int, ef_search: int) -> Body:
    """Return the query that scores the documents of a leg of any kind."""
    if leg.items:
        return any_of([_listed(items, score) for score, items in _by_score(leg.items).items()], within)
    if leg.kind == "popularity":
        # a hybrid query drops what scores 0: those whom nobody has bought get next to nothing
        anybody = {"constant_score": {"filter": {"bool": within or {"filter": [EVERYTHING]}}, "boost": _LEAST}}
        factor = {"field_value_factor": {"field": "popularity", "missing": 0}, "boost_mode": "max"}
        return {"function_score": {"query": anybody, **factor}}
    return leg_query(leg, within, depth, ef_search)


def _clauses(leg: Leg) -> int:
    """Return how many clauses score the documents of a leg."""
    words = sum(len(list(word_clauses(term, word))) for term, word in leg.words.items())
    return len(_by_score(leg.items)) or words or 1


def _by_score(items: Mapping[str, float]) -> dict[float, list[str]]:
    """Return the items of each score: those of one score are one clause."""
    groups: dict[float, list[str]] = {}
    for item, score in items.items():
        groups.setdefault(score, []).append(item)
    return groups


def _listed(items: Sequence[str], score: float) -> Body:
    return {"constant_score": {"filter": {"terms": {"item_id": items}}, "boost": score}}
