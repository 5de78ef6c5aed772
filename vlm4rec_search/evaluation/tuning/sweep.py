"""Thousands of weightings of the same candidates, each judged in milliseconds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import sparse

from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.vectors import Floats, Ints
from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.splits import Part
from vlm4rec_search.evaluation.top_k import NOBODY
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.fusion import Candidates, min_max_mean, reciprocal_rank
from vlm4rec_search.search.planning import retriever_weights
from vlm4rec_search.search.query import KINDS, Fusion, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.reranking import POOL, diversify
from vlm4rec_search.search.searcher import Searcher

# The candidates of every leg for every user of a split, asked from the index once, as arrays.

Tensor = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """What the legs of one user found, with each leg's share of its kind."""

    legs: Sequence[Candidates]
    shares: Sequence[float]


@dataclass(frozen=True)
class Pool:
    """All documents that any leg found for each of u users, w at most, and what each kind of leg adds to them.

    Attributes:
        added: float32 (u, w, kinds), in the order of `KINDS`; columns beyond a user's documents hold 0.
        there: bool (u, w), whether the column is a document; documents stand in the order of ties.
        found: (p, 2) row and column of each document that was to be found.
        wanted: (u,), how many documents each user has to find, in the pool or not.
        documents: int64 (u, w).
    """

    added: Tensor
    there: npt.NDArray[np.bool_]
    found: Ints
    wanted: Ints
    documents: Ints


def ask(searcher: Searcher, store: Store, part: Part, ranking: Ranking) -> list[Asked]:
    """Ask the index for the candidates of every leg of every user of a part, in the order of its targets.

    The kind of profile and the depth are those of the configuration; weights are not looked at.
    Documents become rows of the part's catalogue, which stand in the same order.
    """
    rows = part.split.catalogue.positions(list(store.numbers))
    everything: dict[str, float] = dict.fromkeys(KINDS, 1.0)
    searcher.ranking, reader = ranking, searcher.backend.reader()
    answers = []
    with bar("candidates of every leg", len(part.targets.users)) as advance:
        for user in part.split.user_ids[part.targets.users]:
            query = Query(user=str(user), weights=everything, include_seen=part.split.repeat)
            _, plan = searcher.plan(reader, query)
            legs = reader.retrieve(plan.request).candidates
            legs = [replace(leg, documents=rows[leg.documents]) for leg in legs]
            answers.append(Asked(legs, retriever_weights(plan.retrievers, everything)))
            advance(1)
    return answers


def pool(answers: Sequence[Asked], relevant: sparse.csr_array, fusion: Fusion, depth: int) -> Pool:
    """Return what each kind of leg adds to each candidate under a rule of fusion at a depth.

    Args:
        answers: of each user, asked at this depth or deeper.
        relevant: (u, n), 1 for what was to be found, by document.
        fusion: `rrf` or `minmax`.
        depth: candidates of each leg that count.
    """
    unions = [_union(asked, depth) for asked in answers]
    width = max((len(union) for union in unions), default=0)
    added = np.zeros((len(answers), width, len(KINDS)), dtype=np.float32)
    documents = np.full((len(answers), width), -1, dtype=np.int64)
    rule = reciprocal_rank if fusion == "rrf" else min_max_mean
    for row, (asked, union) in enumerate(zip(answers, unions, strict=True)):
        documents[row, : len(union)] = union
        for leg, share in zip(asked.legs, asked.shares, strict=True):
            cut = _cut(leg, depth)
            places = np.searchsorted(union, cut.documents)
            added[row, places, KINDS.index(leg.kind)] += share * rule([cut], [1.0])[0]
    there = documents >= 0
    rows, columns = np.nonzero(there)
    hits = np.asarray(relevant[rows, documents[rows, columns]]).ravel() > 0
    found = np.stack([rows[hits], columns[hits]], axis=1)
    return Pool(added, there, found, np.diff(relevant.indptr).astype(np.int64), documents)


def _union(asked: Asked, depth: int) -> Ints:
    parts = [leg.documents[:depth] for leg in asked.legs]
    return np.unique(np.concatenate(parts)) if parts else np.array([], dtype=np.int64)


def _cut(leg: Candidates, depth: int) -> Candidates:
    return replace(leg, documents=leg.documents[:depth], scores=leg.scores[:depth])


K = 10
Weights = Mapping[str, float]


def judge(pool: Pool, weights: Weights) -> tuple[Floats, Floats]:
    """Return nDCG@10 and R@10 of each user, float64 (u,), under weights of the kinds of legs.

    Only the ranks of what was to be found are computed: one more than the documents with a larger score, and those
    with an equal one that come first.
    """
    scores = _scores(pool, weights)
    ranks = _ranks(pool, scores)
    near = (ranks <= K) & (scores[pool.found[:, 0], pool.found[:, 1]] >= 0)
    users = len(pool.wanted)
    gains = np.bincount(pool.found[near, 0], weights=1.0 / np.log2(ranks[near] + 1.0), minlength=users)
    hits = np.bincount(pool.found[near, 0], minlength=users)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2.0, K + 2.0)))])
    return gains / ideal[np.minimum(pool.wanted, K)], hits / pool.wanted


def judge_diverse(
    pool: Pool, weights: Weights, diversity: float, vectors: npt.NDArray[np.float32], relevant: sparse.csr_array
) -> tuple[Floats, Floats]:
    """Return nDCG@10 and R@10 of each user, float64 (u,), after maximal marginal relevance as in a search.

    Args:
        pool: of `relevant`.
        weights: of the kinds of legs.
        diversity: as in a query.
        vectors: unit rows (n, d) of the documents.
        relevant: (u, n), 1 for what was to be found.
    """
    rankings = np.full((len(pool.wanted), K), NOBODY, dtype=np.int64)
    for row, scores in enumerate(_scores(pool, weights)):
        best = np.argsort(-scores, kind="stable")[: POOL * K]
        best = best[scores[best] >= 0]
        if len(best):
            documents = pool.documents[row, best]
            chosen, _ = diversify(vectors[documents], scores[best].astype(np.float64), diversity, K)
            rankings[row, : len(chosen)] = documents[chosen]
    found = accuracy(rankings, relevant, ("nDCG@10", "R@10"))
    return found[:, 0], found[:, 1]


def _scores(pool: Pool, weights: Weights) -> npt.NDArray[np.float32]:
    """Return the fused score of each document, float32 (u, w), -1 where no leg of the weighting found it."""
    vector = np.array([weights[kind] for kind in KINDS], dtype=np.float32)
    heard = pool.there & (pool.added[:, :, vector > 0] > 0).any(axis=2)
    scores: npt.NDArray[np.float32] = np.where(heard, pool.added @ vector, np.float32(-1.0)).round(7)
    return scores


def _ranks(pool: Pool, scores: npt.NDArray[np.float32], block: int = 2_000) -> npt.NDArray[np.int64]:
    ranks = np.empty(len(pool.found), dtype=np.int64)
    places = np.arange(scores.shape[1])
    for low in range(0, len(ranks), block):
        rows, columns = pool.found[low : low + block].T
        own = scores[rows, columns][:, None]
        others = scores[rows]
        ahead = (others > own) | ((others == own) & (places[None, :] < columns[:, None]))
        ranks[low : low + block] = ahead.sum(axis=1) + 1
    return ranks


def grid(step: float) -> Iterator[dict[str, float]]:
    """Yield every weighting of the kinds in steps that sums to 1."""
    parts = round(1 / step)
    for numbers in product(range(parts + 1), repeat=len(KINDS) - 1):
        if sum(numbers) <= parts:
            yield _weights([*numbers, parts - sum(numbers)], parts)


def around(best: Weights, step: float) -> Iterator[dict[str, float]]:
    """Yield the weightings that move one step from one kind to another."""
    for giver, taker in product(KINDS, repeat=2):
        if giver != taker and best[giver] >= step:
            yield {**best, giver: round(best[giver] - step, 6), taker: round(best[taker] + step, 6)}


def best_weights(pool: Pool) -> tuple[dict[str, float], float, int]:
    """Return the weighting with the largest mean nDCG@10, in steps of 0.1 and then of 0.05, that mean, and how many
    weightings were judged.
    """
    value, best = max(_judged(pool, grid(0.1)), key=lambda pair: pair[0])
    tried = sum(1 for _ in grid(0.1))
    while True:
        near = _judged(pool, around(best, 0.05))
        tried += len(near)
        higher, candidate = max(near, key=lambda pair: pair[0])
        if higher <= value:
            return best, value, tried
        value, best = higher, candidate


def _judged(pool: Pool, weightings: Iterable[dict[str, float]]) -> list[tuple[float, dict[str, float]]]:
    return [(float(judge(pool, weights)[0].mean()), weights) for weights in weightings]


def _weights(numbers: list[int], parts: int) -> dict[str, float]:
    return {kind: number / parts for kind, number in zip(KINDS, numbers, strict=True)}
