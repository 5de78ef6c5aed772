"""Many shoppers at once, by matrix products: plans and candidates are those of one search after the other.

They are equal bit by bit in a release without a shortlist (`VLM4REC_INDEX_EXACT_UP_TO`); where a single search compares
the nearest by signs alone, blocks compare all vectors. Sums run in the same order and precision as for one shopper,
except cosines: a matrix product finds the documents that may be among the best, and only these are scored as for one
shopper.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vlm4rec_search.common.analyzer import load_analyzer
from vlm4rec_search.common.vectors import Mask, cosines
from vlm4rec_search.indexes.embedded.backend import (
    EmbeddedBackend,
    EmbeddedRetrieved,
    best_candidates,
    find_candidates,
    findable,
)
from vlm4rec_search.indexes.embedded.neighbours import sum_related
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.indexes.rows import to_user
from vlm4rec_search.search.explanation import Explainer
from vlm4rec_search.search.facts import with_segment
from vlm4rec_search.search.fusion import Candidates, fuse
from vlm4rec_search.search.model import Facts, Plan, Ranked, Request, Retriever
from vlm4rec_search.search.planning import make_plan, neighbour_kinds, neighbour_starts, uses
from vlm4rec_search.search.query import Explanation, Kind, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.reranking import rerank
from vlm4rec_search.search.rules import Rule

USERS = 1_000  # shoppers whose rows, candidates and masks are in memory at once: 200 MB at 40,000 documents
CELLS = 8_000_000  # scores in memory at once: 32 MB


def rank_users(
    backend: EmbeddedBackend,
    queries: Sequence[Query],
    ranking: Ranking,
    rules: Sequence[Rule] = (),
    among: Mask | None = None,
) -> Iterator[tuple[Plan, Ranked, Sequence[Explanation]]]:
    """Yield plan and hits of each query, in order, see `retrieve_users`, and explanations where the query asks."""
    for facts, plan, retrieved in _answer_blocks(backend, queries, ranking, rules, among):
        fused = fuse(retrieved.candidates, plan.weights, plan.fusion, plan.rank_weights)
        ranked, explained = rerank(retrieved, fused, plan), list[Explanation]()
        if plan.query.explain and ranked.records:
            kinds = neighbour_kinds(plan.query, facts, ranking)
            known = replace(facts, neighbours=backend.neighbours(neighbour_starts(facts) if kinds else [], kinds))
            explained = Explainer(backend, known, plan, retrieved).explain(ranked)
        yield plan, ranked, explained


def retrieve_users(
    backend: EmbeddedBackend, queries: Sequence[Query], ranking: Ranking, among: Mask | None = None
) -> Iterator[tuple[Plan, EmbeddedRetrieved]]:
    """Yield plan and candidates of each query, in order.

    Args:
        backend: an open release.
        queries: each for a shopper, without a text and without a session.
        ranking: fallback chain, weights and defaults.
        among: the documents that may be found, bool (n,); None for all.
    """
    for _, plan, retrieved in _answer_blocks(backend, queries, ranking, (), among):
        yield plan, retrieved


def _answer_blocks(
    backend: EmbeddedBackend, queries: Sequence[Query], ranking: Ranking, rules: Sequence[Rule], among: Mask | None
) -> Iterator[tuple[Facts, Plan, EmbeddedRetrieved]]:
    for low in range(0, len(queries), USERS):
        block = queries[low : low + USERS]
        facts = look_up_block(backend, block, ranking)
        plans = [make_plan(query, each, ranking, rules) for query, each in zip(block, facts, strict=True)]
        yield from zip(facts, plans, retrieve_block(backend, [plan.request for plan in plans], among), strict=True)


def look_up_block(backend: EmbeddedBackend, queries: Sequence[Query], ranking: Ranking) -> list[Facts]:
    """Return the facts of each query as `look_up` does, without the neighbours, which only explanations need."""
    rows = backend.store.users([query.user for query in queries if query.user is not None], ranking.by_interest)
    users = [to_user(str(query.user), rows[query.user]) if query.user in rows else None for query in queries]
    analyzer = load_analyzer(backend.release.analyzer)
    facts = [Facts(user, analyzer=analyzer) for user in users]
    seen = [user.seen if user else () for user in users]
    pairs = list(zip(queries, facts, strict=True))
    behaviour = [each.user.behaviour if each.user and uses("behaviour", query, each, ranking) else {}
                 for query, each in pairs]  # fmt: skip
    lasting = [each.user.lasting if each.user and uses("ease", query, each, ranking) else {} for query, each in pairs]
    co_purchases = sum_related(backend.store, backend.store.neighbours, behaviour, seen)
    ease = sum_related(backend.store, backend.store.ease, lasting, seen)
    known = [
        replace(each, co_purchases={"profile": bought}, ease={"profile": fitting})
        for each, bought, fitting in zip(facts, co_purchases, ease, strict=True)
    ]
    return [with_segment(backend, query, each, ranking) for query, each in zip(queries, known, strict=True)]


class _Search(NamedTuple):
    """A retriever of a request, the documents that it may return, bool (n,) or None for all, and at most how many."""

    retriever: Retriever
    allowed: Mask | None
    depth: int


def retrieve_block(
    backend: EmbeddedBackend, requests: Sequence[Request], among: Mask | None = None
) -> list[EmbeddedRetrieved]:
    """Return the candidates of every retriever of each request, equal to those of `EmbeddedBackend.retrieve`."""
    store, allowed = backend.store, [_both(backend.allowed(request), among) for request in requests]
    searches = [
        [_Search(retriever, findable(store, retriever, mask), request.depth) for retriever in request.retrievers]
        for request, mask in zip(requests, allowed, strict=True)
    ]
    flat = [search for of_request in searches for search in of_request]
    nearest: dict[Kind, Iterator[Candidates]] = {
        kind: _nearest(store, kind, [search for search in flat if _has_vector(search.retriever, kind)])
        for kind in ("semantic", "fitted", "photo")
    }

    def find(search: _Search) -> Candidates:
        if search.retriever.vector is not None:
            return next(nearest[search.retriever.kind])
        return find_candidates(store, search.retriever, search.allowed, search.depth)

    return [
        EmbeddedRetrieved(store, request.retrievers, mask, request.depth, [find(search) for search in of_request])
        for request, mask, of_request in zip(requests, allowed, searches, strict=True)
    ]


def _both(allowed: Mask | None, among: Mask | None) -> Mask | None:
    return allowed if among is None else among if allowed is None else allowed & among


def _has_vector(retriever: Retriever, kind: Kind) -> bool:
    return retriever.vector is not None and retriever.kind == kind


def _nearest(store: Store, kind: Kind, searches: Sequence[_Search]) -> Iterator[Candidates]:
    """Yield the candidates of retrievers with a vector, all of one kind.

    A float32 sum of d products of unit vectors is off by at most d x 2^-24, twice that lies between two such sums, and
    rounding adds 5e-7: what is further below the last of the best by matrix product cannot be among the best.
    """
    vectors = store.vectors_of(kind)
    error = 2.0 * vectors.shape[1] * 2.0**-24 + 1e-6
    for low in range(0, len(searches), step := _step(store)):
        block = searches[low : low + step]
        queries = np.stack([search.retriever.vector for search in block if search.retriever.vector is not None])
        for search, query, scores in zip(block, queries, queries @ vectors.T, strict=True):
            if search.allowed is not None:
                scores[~search.allowed] = -np.inf
            lowest = np.float32(np.finfo(np.float32).min)
            if len(scores) > search.depth:
                lowest = max(lowest, np.partition(scores, -search.depth)[-search.depth] - np.float32(2.0 * error))
            documents = np.flatnonzero(scores >= lowest)
            exact = cosines(vectors[documents], query)
            yield best_candidates(search.retriever, documents, exact, search.depth)


def _step(store: Store) -> int:
    """Return how many rows of scores fit into `CELLS`."""
    return max(1, CELLS // max(1, store.meta.documents))
