"""The server's own `hybrid` query: one request for search and fusion, where the neural-search plug-in is installed.

It computes `fusion.min_max_mean` in float32 over scores that are not rounded, so that its scores differ by up to 1e-5.
It knows no rule for few matches of words: our own fusion answers texts, and the words of a profile differ where filters
leave them at most `fusion.FEW` items.
The local server lacks the plug-in. Where OPENSEARCH_URL names a server that has it,
tests/integration/test_opensearch_native.py compares the two fusions.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch.mapping import Body
from vlm4rec_search.indexes.opensearch.queries import (
    CLAUSES,
    EVERYTHING,
    FILTERING,
    any_of,
    retriever_query,
    word_clauses,
)
from vlm4rec_search.indexes.opensearch.sender import Hits, Sender
from vlm4rec_search.search.model import Plan, Ranked, Record, Request, Retriever

PLUGIN = "opensearch-neural-search"
MAX_RETRIEVERS = 5
_TINY_SCORE = 1e-9  # above 0 and below every popularity


def is_installed(sender: Sender) -> bool:
    """Return whether every node has the plug-in; False where the caller may not ask."""
    try:
        rows = sender.client.cat.plugins(params={"format": "json"})
    except UsageError:
        return False
    nodes = {row["name"] for row in rows}
    return bool(nodes) and nodes == {row["name"] for row in rows if row["component"] == PLUGIN}


def can_answer(plan: Plan) -> bool:
    """Return whether the server's fusion is all that a plan without a text needs: min-max, and nothing after it."""
    query = plan.query
    reranks = query.per_category or query.collapse or plan.diversity or plan.rules or plan.min_score is not None
    if query.explain or query.count or reranks or query.text is not None or plan.fusion != "minmax":
        return False
    if not 2 <= len(plan.retrievers) <= MAX_RETRIEVERS:
        return False
    # The sub-queries of all retrievers are one search with one limit of clauses.
    return sum(map(_count_clauses, plan.retrievers)) <= CLAUSES - MAX_RETRIEVERS * FILTERING


def hybrid_body(request: Request, within: Body, weights: Sequence[float], ef_search: int) -> Body:
    """Return the search for the best `depth` documents of the fused retrievers.

    Args:
        request: with 2 to 5 retrievers.
        within: from `queries.allowed`; it becomes part of every sub-query.
        weights: of each retriever; the server gets doubles that sum to 1.
        ef_search: see `queries.retriever_query`.
    """
    queries = [_sub_query(retriever, within, request.depth, ef_search) for retriever in request.retrievers]
    return {
        "size": request.depth,
        "query": {"hybrid": {"queries": queries, "pagination_depth": request.depth}},
        # The server reads every candidate of every sub-query before it fuses them: only the id is needed.
        "stored_fields": "_none_",
        "docvalue_fields": ["item_id"],
        "track_total_hits": False,
        "search_pipeline": pipeline([weight / sum(weights) for weight in weights]),
    }


def pipeline(weights: Sequence[float]) -> Body:
    """Return the search pipeline that scales each sub-query's scores to 0..1 and adds them up by weight."""
    combination = {"technique": "arithmetic_mean", "parameters": {"weights": [float(weight) for weight in weights]}}
    processor = {"normalization": {"technique": "min_max"}, "combination": combination}
    return {"phase_results_processors": [{"normalization-processor": processor}]}


def best(hits: Hits, k: int) -> Hits:
    """Return the first k hits; the server returns equal scores in any order, here they are ordered by item id.

    Raises:
        RunError: a score is negative: the server did not run the pipeline.
    """
    if any(score < 0.0 for score, _ in hits):
        raise RunError("the server answers with negative scores: its search pipeline did not run")
    return sorted(hits, key=lambda hit: (-hit[0], hit[1]))[:k]


def to_ranked(hits: Hits, records: Sequence[Record], retrievers: int) -> Ranked:
    """Return the hits with contributions of 0: the server does not say what each sub-query added."""
    scores = np.array([score for score, _ in hits], dtype=np.float64)
    return Ranked(np.arange(len(hits)), scores, np.zeros((len(hits), retrievers)), records, [()] * len(hits))


def _sub_query(retriever: Retriever, within: Body, depth: int, ef_search: int) -> Body:
    if retriever.items:
        groups = _by_score(retriever.items).items()
        clauses = [{"filter": {"terms": {"item_id": items}}, "boost": score} for score, items in groups]
        return any_of([{"constant_score": clause} for clause in clauses], within)
    if retriever.kind == "popularity":
        # A hybrid query drops documents with a score of 0: items that nobody bought get a tiny score.
        anybody = {"constant_score": {"filter": {"bool": within or {"filter": [EVERYTHING]}}, "boost": _TINY_SCORE}}
        factor = {"field_value_factor": {"field": "popularity", "missing": 0}, "boost_mode": "max"}
        return {"function_score": {"query": anybody, **factor}}
    return retriever_query(retriever, within, depth, ef_search)


def _count_clauses(retriever: Retriever) -> int:
    words = sum(len(list(word_clauses(term, word))) for term, word in retriever.words.items())
    return len(_by_score(retriever.items)) or words or 1


def _by_score(items: Mapping[str, float]) -> dict[float, list[str]]:
    """Group items by score: items with equal scores share a clause."""
    groups: dict[float, list[str]] = {}
    for item, score in items.items():
        groups.setdefault(score, []).append(item)
    return groups
