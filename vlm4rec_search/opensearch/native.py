"""The server's own `hybrid` query, where its neural-search plug-in is installed: one request for search and fusion.

It has the arithmetic of `fusion.min_max_mean`. No server of the tests has the plug-in: the bodies follow what was
observed on a full OpenSearch 3.5, but no test has sent them to one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlm4rec_search.errors import RunError, UsageError
from vlm4rec_search.opensearch.found import SHOWN, record
from vlm4rec_search.opensearch.mapping import Body
from vlm4rec_search.opensearch.requests import leg_query
from vlm4rec_search.opensearch.sender import Sender
from vlm4rec_search.queries.plan import Plan
from vlm4rec_search.queries.query import Query
from vlm4rec_search.queries.request import Request
from vlm4rec_search.queries.reranking import Ranked
from vlm4rec_search.queries.rules import Rule
from vlm4rec_search.ranking import Ranking

PLUGIN = "opensearch-neural-search"
MOST_LEGS = 5


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
    return not again and (query.fusion or ranking.fusion) == "minmax" and 2 <= len(plan.legs) <= MOST_LEGS


def hybrid_body(request: Request, within: Body, weights: Sequence[float], k: int, ef_search: int) -> Body:
    """Return the search for the best k of the fused legs; their depth is set, since it would be k.

    Args:
        request: of 2 to 5 legs.
        within: what `requests.allowed` returns; it is part of every leg.
        weights: one for each leg; the server wants doubles that sum to 1.
        k: how many hits.
        ef_search: see `requests.leg_query`.
    """
    queries = [leg_query(leg, within, request.depth, ef_search) for leg in request.legs]
    return {
        "size": k,
        "_source": list(SHOWN),
        "track_total_hits": False,
        "query": {"hybrid": {"queries": queries, "pagination_depth": request.depth}},
        "search_pipeline": pipeline([weight / sum(weights) for weight in weights]),
    }


def pipeline(weights: Sequence[float]) -> Body:
    """Return the search pipeline that scales each leg to 0..1 and adds them up by weight."""
    combination = {"technique": "arithmetic_mean", "parameters": {"weights": [float(weight) for weight in weights]}}
    processor = {"normalization": {"technique": "min_max"}, "combination": combination}
    return {"phase_results_processors": [{"normalization-processor": processor}]}


def ranked(hits: Sequence[Mapping[str, Any]], legs: int) -> Ranked:
    """Return the hits as an answer shows them; what each leg added is not known.

    Raises:
        RunError: a score is negative, as where the pipeline did not run.
    """
    scores = np.array([hit["_score"] for hit in hits], dtype=np.float64)
    if (scores < 0.0).any():
        raise RunError("the server answers with negative scores: its search pipeline did not run")
    records = [record(hit["_id"], hit["_source"]) for hit in hits]
    return Ranked(np.arange(len(hits)), scores, np.zeros((len(hits), legs)), records, [()] * len(hits))
