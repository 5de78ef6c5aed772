"""Judges thousands of weightings: the candidates of every user are retrieved once, as arrays."""

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
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.blocks import retrieve_users
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.fusion import Candidates, min_max_mean, reciprocal_rank
from vlm4rec_search.search.planning import retriever_weights
from vlm4rec_search.search.query import KINDS, Fusion, Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.reranking import POOL, diversify
from vlm4rec_search.search.searcher import Searcher

Tensor = npt.NDArray[np.float32]


@dataclass(frozen=True)
class UserCandidates:
    """The candidates of one user's retrievers, and the share of each retriever in its kind."""

    retrievers: Sequence[Candidates]
    shares: Sequence[float]


@dataclass(frozen=True)
class Pool:
    """The union of all retrievers' candidates for u users, at most w each, and what each kind of retriever adds.

    Attributes:
        added: float32 (u, w, kinds), in the order of `KINDS`; columns beyond a user's documents hold 0.
        is_document: bool (u, w); the columns of a user are in the order in which ties are broken.
        relevant: (p, 2), row and column of each relevant document in the pool.
        relevant_count: (u,), relevant documents of each user, in the pool or not.
        documents: int64 (u, w).
    """

    added: Tensor
    is_document: npt.NDArray[np.bool_]
    relevant: Ints
    relevant_count: Ints
    documents: Ints


def retrieve_candidates(searcher: Searcher, store: Store, part: Part, ranking: Ranking) -> list[UserCandidates]:
    """Retrieve the candidates of every user of a part, in the order of its targets.

    Profile and depth are those of the configuration; its weights play no role. Documents become rows of the part's
    catalogue, which has the same order.
    """
    rows = part.split.catalogue.positions(list(store.numbers))
    equal: dict[str, float] = dict.fromkeys(KINDS, 1.0)
    names = part.split.user_ids[part.targets.users]
    queries = [Query(user=str(name), weights=equal, include_seen=part.split.repeat) for name in names]
    users = []
    with bar("candidates of every retriever", len(queries)) as advance:
        for plan, retrieved in retrieve_users(EmbeddedBackend(store), queries, ranking):
            in_catalogue = [replace(each, documents=rows[each.documents]) for each in retrieved.candidates]
            users.append(UserCandidates(in_catalogue, retriever_weights(plan.retrievers, equal)))
            advance(1)
    return users


def build_pool(users: Sequence[UserCandidates], relevant: sparse.csr_array, fusion: Fusion, depth: int) -> Pool:
    """Return what each kind of retriever adds to each candidate under a fusion at a depth.

    Args:
        users: candidates of each user, retrieved at this depth or deeper.
        relevant: (u, n), 1 for the relevant documents of a user.
        fusion: `rrf` or `minmax`.
        depth: candidates of each retriever that count.
    """
    unions = [_union(user, depth) for user in users]
    width = max((len(union) for union in unions), default=0)
    added = np.zeros((len(users), width, len(KINDS)), dtype=np.float32)
    documents = np.full((len(users), width), -1, dtype=np.int64)
    formula = reciprocal_rank if fusion == "rrf" else min_max_mean
    for row, (user, union) in enumerate(zip(users, unions, strict=True)):
        documents[row, : len(union)] = union
        for candidates, share in zip(user.retrievers, user.shares, strict=True):
            cut = _cut(candidates, depth)
            columns = np.searchsorted(union, cut.documents)
            added[row, columns, KINDS.index(candidates.kind)] += share * formula([cut], [1.0])[0]
    is_document = documents >= 0
    rows, columns = np.nonzero(is_document)
    is_relevant = np.asarray(relevant[rows, documents[rows, columns]]).ravel() > 0
    cells = np.stack([rows[is_relevant], columns[is_relevant]], axis=1)
    return Pool(added, is_document, cells, np.diff(relevant.indptr).astype(np.int64), documents)


def _union(user: UserCandidates, depth: int) -> Ints:
    parts = [candidates.documents[:depth] for candidates in user.retrievers]
    return np.unique(np.concatenate(parts)) if parts else np.array([], dtype=np.int64)


def _cut(candidates: Candidates, depth: int) -> Candidates:
    return replace(candidates, documents=candidates.documents[:depth], scores=candidates.scores[:depth])


K = 10
Weights = Mapping[str, float]


def judge(pool: Pool, weights: Weights) -> tuple[Floats, Floats]:
    """Return nDCG@10 and R@10 of each user, float64 (u,), for weights of the kinds of retrievers.

    Only the ranks of the relevant documents are computed: one plus the number of documents with a larger score, or
    with the same score and an earlier column.
    """
    scores = _scores(pool, weights)
    ranks = _ranks(pool, scores)
    near = (ranks <= K) & (scores[pool.relevant[:, 0], pool.relevant[:, 1]] >= 0)
    users = len(pool.relevant_count)
    gains = np.bincount(pool.relevant[near, 0], weights=1.0 / np.log2(ranks[near] + 1.0), minlength=users)
    hits = np.bincount(pool.relevant[near, 0], minlength=users)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2.0, K + 2.0)))])
    return gains / ideal[np.minimum(pool.relevant_count, K)], hits / pool.relevant_count


def judge_diverse(
    pool: Pool, weights: Weights, diversity: float, vectors: npt.NDArray[np.float32], relevant: sparse.csr_array
) -> tuple[Floats, Floats]:
    """Return nDCG@10 and R@10 of each user, float64 (u,), after maximal marginal relevance as in a search.

    Args:
        pool: of `relevant`.
        weights: of the kinds of retrievers.
        diversity: as in a query.
        vectors: unit rows (n, d) of the documents.
        relevant: (u, n), 1 for the relevant documents of a user.
    """
    rankings = np.full((len(pool.relevant_count), K), NOBODY, dtype=np.int64)
    for row, scores in enumerate(_scores(pool, weights)):
        best = np.argsort(-scores, kind="stable")[: POOL * K]
        best = best[scores[best] >= 0]
        if len(best):
            documents = pool.documents[row, best]
            chosen, _ = diversify(vectors[documents], scores[best].astype(np.float64), diversity, K)
            rankings[row, : len(chosen)] = documents[chosen]
    values = accuracy(rankings, relevant, ("nDCG@10", "R@10"))
    return values[:, 0], values[:, 1]


def _scores(pool: Pool, weights: Weights) -> npt.NDArray[np.float32]:
    """Return the fused score of each document, float32 (u, w), -1 where no retriever with a weight found it."""
    vector = np.array([weights[kind] for kind in KINDS], dtype=np.float32)
    is_found = pool.is_document & (pool.added[:, :, vector > 0] > 0).any(axis=2)
    scores: npt.NDArray[np.float32] = np.where(is_found, pool.added @ vector, np.float32(-1.0)).round(7)
    return scores


def _ranks(pool: Pool, scores: npt.NDArray[np.float32], block: int = 2_000) -> npt.NDArray[np.int64]:
    ranks = np.empty(len(pool.relevant), dtype=np.int64)
    places = np.arange(scores.shape[1])
    for low in range(0, len(ranks), block):
        rows, columns = pool.relevant[low : low + block].T
        own = scores[rows, columns][:, None]
        others = scores[rows]
        ahead = (others > own) | ((others == own) & (places[None, :] < columns[:, None]))
        ranks[low : low + block] = ahead.sum(axis=1) + 1
    return ranks


def grid(step: float) -> Iterator[dict[str, float]]:
    """Yield every weighting of the kinds that sums to 1, in steps."""
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
    """Search the weighting with the largest mean nDCG@10, in steps of 0.1 and then of 0.05.

    Returns:
        The weighting, its mean nDCG@10, and how many weightings were judged.
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
