"""Many shoppers at once, by matrix products: plans and candidates are those of one search after the other.

Equal means bit by bit. Sums run in the same order and precision as for one shopper, except cosines: a matrix product
finds the documents that may be among the best, and only these are scored as for one shopper.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from vlm4rec_search.common.analyzer import load_analyzer
from vlm4rec_search.common.vectors import Floats, Ints, Mask, cosines
from vlm4rec_search.indexes.embedded.backend import (
    EmbeddedBackend,
    EmbeddedRetrieved,
    best_candidates,
    findable,
    item_candidates,
    score,
    top_candidates,
)
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.indexes.rows import to_item, to_user
from vlm4rec_search.search.explanation import Explainer
from vlm4rec_search.search.facts import with_segment
from vlm4rec_search.search.fusion import Candidates, fuse
from vlm4rec_search.search.model import Facts, Item, Plan, Ranked, Request, Retriever
from vlm4rec_search.search.planning import make_plan, neighbour_starts, uses
from vlm4rec_search.search.query import Explanation, Kind, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.reranking import rerank
from vlm4rec_search.search.retrievers import MAX_ITEMS
from vlm4rec_search.search.rules import Rule

USERS = 1_000  # shoppers whose rows, candidates and masks are in memory at once: 200 MB at 40,000 documents
CELLS = 8_000_000  # scores in memory at once: 32 MB


def rank_users(
    backend: EmbeddedBackend, queries: Sequence[Query], ranking: Ranking, rules: Sequence[Rule] = ()
) -> Iterator[tuple[Plan, Ranked]]:
    """Yield plan and hits of each query, in order, see `retrieve_users`."""
    for plan, retrieved in retrieve_users(backend, queries, ranking, rules):
        yield plan, _rank(plan, retrieved)


def explain_users(
    backend: EmbeddedBackend, queries: Sequence[Query], ranking: Ranking, rules: Sequence[Rule] = ()
) -> Iterator[tuple[Plan, Ranked, Sequence[Explanation]]]:
    """Yield plan, hits and their explanations of each query, in order, see `retrieve_users`."""
    for facts, plan, retrieved in _answer_blocks(backend, queries, ranking, rules):
        ranked = _rank(plan, retrieved)
        explained: Sequence[Explanation] = []
        if ranked.records:
            starts = neighbour_starts(plan.query, facts, ranking)
            known = replace(facts, neighbours=_neighbours_among(backend.store, starts, ranked.documents))
            explained = Explainer(backend, known, plan, retrieved).explain(ranked)
        yield plan, ranked, explained


def _neighbours_among(store: Store, item_ids: Sequence[str], documents: Ints) -> dict[str, Item]:
    """Return items as `EmbeddedBackend.neighbours` does, with those of their neighbours that are among documents."""
    starts = [store.numbers[item] for item in item_ids if item in store.numbers]
    if not starts:
        return {}
    names = store.ids(documents)
    values = [
        [
            {name: value for name, value in zip(names, row, strict=True) if value}
            for row in _cells(related, starts, documents)
        ]
        for related in (store.neighbours, store.ease)
    ]
    return {
        record["item_id"]: to_item(record, neighbours=near, ease=fitting)
        for record, near, fitting in zip(store.records(starts), *values, strict=True)
    }


def _cells(matrix: sparse.csr_array, rows: Sequence[int], columns: Ints) -> list[list[float]]:
    """Return the cells of some rows and columns; a few are found faster than scipy cuts them out."""
    places = np.full(matrix.shape[1], -1)
    places[columns] = np.arange(len(columns))
    slices = [slice(*matrix.indptr[row : row + 2].tolist()) for row in rows]
    of_row = np.repeat(np.arange(len(rows)), [each.stop - each.start for each in slices])
    place = places[np.concatenate([matrix.indices[each] for each in slices])]
    there = np.flatnonzero(place >= 0)
    cells = np.zeros((len(rows), len(columns)))
    cells[of_row[there], place[there]] = np.concatenate([matrix.data[each] for each in slices])[there]
    return cells.tolist()


def _rank(plan: Plan, retrieved: EmbeddedRetrieved) -> Ranked:
    return rerank(retrieved, fuse(retrieved.candidates, plan.weights, plan.fusion, plan.rank_weights), plan)


def retrieve_users(
    backend: EmbeddedBackend, queries: Sequence[Query], ranking: Ranking, rules: Sequence[Rule] = ()
) -> Iterator[tuple[Plan, EmbeddedRetrieved]]:
    """Yield plan and candidates of each query, in order.

    Args:
        backend: an open release.
        queries: each for a shopper, without a text and without a session.
        ranking: fallback chain, weights and defaults.
        rules: business rules.
    """
    for _, plan, retrieved in _answer_blocks(backend, queries, ranking, rules):
        yield plan, retrieved


def _answer_blocks(
    backend: EmbeddedBackend, queries: Sequence[Query], ranking: Ranking, rules: Sequence[Rule]
) -> Iterator[tuple[Facts, Plan, EmbeddedRetrieved]]:
    for low in range(0, len(queries), USERS):
        block = queries[low : low + USERS]
        facts = look_up_block(backend, block, ranking)
        plans = [make_plan(query, each, ranking, rules) for query, each in zip(block, facts, strict=True)]
        yield from zip(facts, plans, retrieve_block(backend, [plan.request for plan in plans]), strict=True)


def look_up_block(backend: EmbeddedBackend, queries: Sequence[Query], ranking: Ranking) -> list[Facts]:
    """Return the facts of each query as `look_up` does, without the neighbours, which only explanations need."""
    rows = backend.store.users([query.user for query in queries if query.user is not None])
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


def sum_related(
    store: Store,
    related: sparse.csr_array,
    weights: Sequence[Mapping[str, float]],
    without: Sequence[Collection[str]],
) -> list[dict[str, float]]:
    """Return the `MAX_ITEMS` items with the largest sums of weight x coefficient of each shopper, see `sum_neighbours`.

    Args:
        store: numbers the items.
        related: coefficients from item to item, float64 (n, n).
        weights: of each shopper's items, by id; items that the release does not have add nothing.
        without: item ids that each shopper's sums leave out.
    """
    starts = [[(store.numbers[item], weight) for item, weight in each.items() if item in store.numbers]
              for each in weights]  # fmt: skip
    sums = _rows(starts, len(store.numbers), np.float64) @ related
    hidden = np.zeros(len(store.numbers), dtype=np.bool_)
    found = []
    for row, items in enumerate(without):
        cells = slice(*sums.indptr[row : row + 2])
        left_out = [store.numbers[item] for item in items if item in store.numbers]
        hidden[left_out] = True
        documents, values = _largest(sums.indices[cells], sums.data[cells].round(6), hidden)
        hidden[left_out] = False
        found.append(dict(zip(store.ids(documents), values.tolist(), strict=True)))
    return found


def _rows(cells: Sequence[Sequence[tuple[int, float]]], columns: int, dtype: type[np.floating]) -> sparse.csr_array:
    """Return a matrix with these cells, whose order in a row is kept: a product adds in it."""
    ends = np.cumsum([0, *(len(row) for row in cells)])
    numbers = np.array([number for row in cells for number, _ in row], dtype=np.int64)
    values = np.array([value for row in cells for _, value in row], dtype=dtype)
    return sparse.csr_array((values, numbers, ends), shape=(len(cells), columns))


def _largest(documents: Ints, values: Floats, hidden: Mask) -> tuple[Ints, Floats]:
    """Return the `MAX_ITEMS` documents with the largest values above 0, equal values by document."""
    kept = (values > 0.0) & ~hidden[documents]
    documents, values = documents[kept], values[kept]
    if len(values) > MAX_ITEMS:
        near = values >= np.partition(values, -MAX_ITEMS)[-MAX_ITEMS]
        documents, values = documents[near], values[near]
    order = np.lexsort((documents, -values))[:MAX_ITEMS]
    return documents[order], values[order]


class _Search(NamedTuple):
    """A retriever of a request, the documents that it may return, bool (n,) or None for all, and at most how many."""

    retriever: Retriever
    allowed: Mask | None
    depth: int


def retrieve_block(backend: EmbeddedBackend, requests: Sequence[Request]) -> list[EmbeddedRetrieved]:
    """Return the candidates of every retriever of each request, equal to those of `EmbeddedBackend.retrieve`."""
    store, allowed = backend.store, [backend.allowed(request) for request in requests]
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
        if _has_words(search.retriever):
            return _matching(store, search)
        if search.retriever.items:
            return item_candidates(store, search.retriever, search.allowed, search.depth)
        scores = score(store, search.retriever)
        return top_candidates(search.retriever, scores, search.allowed, search.depth)

    return [
        EmbeddedRetrieved(store, request.retrievers, mask, request.depth, [find(search) for search in of_request])
        for request, mask, of_request in zip(requests, allowed, searches, strict=True)
    ]


def _has_vector(retriever: Retriever, kind: Kind) -> bool:
    return retriever.vector is not None and retriever.kind == kind


def _has_words(retriever: Retriever) -> bool:
    return retriever.vector is None and retriever.kind == "lexical"


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


def _matching(store: Store, search: _Search) -> Candidates:
    """Return the candidates of a lexical retriever.

    Added up term by term in float32, as the product for one shopper does.
    """
    postings, scores = store.postings, np.zeros(store.meta.documents, dtype=np.float32)
    rows, weights = store.rows({term: word.weight for term, word in search.retriever.words.items()})
    for row, weight in zip(rows, weights, strict=True):
        of_term = slice(*postings.indptr[row : row + 2].tolist())
        scores[postings.indices[of_term]] += postings.data[of_term] * weight  # a document stands there once
    return top_candidates(search.retriever, scores, search.allowed, search.depth)


def _step(store: Store) -> int:
    """Return how many rows of scores fit into `CELLS`."""
    return max(1, CELLS // max(1, store.meta.documents))
