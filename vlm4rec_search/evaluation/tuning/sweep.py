"""Judges thousands of weightings: the candidates of every user are retrieved once, as arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse

from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.vectors import Floats, Ints, Mask
from vlm4rec_search.evaluation.data import are_set
from vlm4rec_search.evaluation.metrics import accuracy
from vlm4rec_search.evaluation.splits import Part
from vlm4rec_search.evaluation.top_k import NOBODY, bound_of_top, top_k
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.blocks import retrieve_users
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.fusion import BY_WEIGHT, Candidates, rank_share, score_share
from vlm4rec_search.search.planning import NEIGHBOUR_KINDS, TIE_BREAK, retriever_weights
from vlm4rec_search.search.query import KINDS, Fusion, Kind, Mode, Query
from vlm4rec_search.search.ranking import Ranking, Weights
from vlm4rec_search.search.reranking import POOL, diversify

K = 10  # hits that are judged
Tensor = npt.NDArray[np.float32]
_BLOCK = 2_000  # documents whose users' scores are in memory at once


@dataclass(frozen=True)
class UserCandidates:
    """The candidates of one user's retrievers, the share of each in its kind, and the number of items seen."""

    retrievers: Sequence[Candidates]
    shares: Sequence[float]
    seen: int = 0

    def with_semantic(self, other: "UserCandidates") -> "UserCandidates":
        """Return the same candidates with the semantic retrievers of another profile of the user."""
        pairs = [pair for pair in zip(self.retrievers, self.shares, strict=True) if pair[0].kind != "semantic"]
        pairs += [pair for pair in zip(other.retrievers, other.shares, strict=True) if pair[0].kind == "semantic"]
        return UserCandidates([each for each, _ in pairs], [share for _, share in pairs], self.seen)


@dataclass(frozen=True)
class Pool:
    """The union of all retrievers' candidates for u users, at most w each, and what each kind of retriever adds.

    Attributes:
        added: float32 (columns, u, w): one for each of `KINDS`; in a blend, the same kinds' ranks follow.
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

    @cached_property
    def known(self) -> Mask:
        """Whether a kind of retriever found something for a user, (kinds, u)."""
        return np.asarray((self.added[: len(KINDS)] > 0.0).any(axis=2))

    def some(self, users: Ints) -> "Pool":
        """Return the rows of some users, given in ascending order."""
        rows = np.searchsorted(users, self.relevant[:, 0])
        kept = np.isin(self.relevant[:, 0], users)
        cells = np.stack([rows[kept], self.relevant[kept, 1]], axis=1)
        count = self.relevant_count[users]
        return Pool(np.take(self.added, users, axis=1), self.is_document[users], cells, count, self.documents[users])


def join(pools: Sequence[Pool]) -> Pool:
    """Return one pool of the users of several, in order."""
    width = max(pool.documents.shape[1] for pool in pools)
    starts = np.cumsum([0, *(len(pool.documents) for pool in pools)])

    def widen(values: npt.NDArray[np.generic], filler: float) -> npt.NDArray[np.generic]:
        missing = width - values.shape[-1]
        return np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, missing)], constant_values=filler)

    return Pool(
        np.concatenate([widen(pool.added, 0.0) for pool in pools], axis=1).astype(np.float32),
        np.concatenate([widen(pool.is_document, False) for pool in pools]).astype(np.bool_),
        np.concatenate([pool.relevant + np.array([start, 0]) for pool, start in zip(pools, starts[:-1], strict=True)]),
        np.concatenate([pool.relevant_count for pool in pools]),
        np.concatenate([widen(pool.documents, -1) for pool in pools]).astype(np.int64),
    )


def retrieve_candidates(store: Store, part: Part, ranking: Ranking, mode: Mode = "hybrid") -> list[UserCandidates]:
    """Retrieve the candidates of every user of a part in a mode, in the order of its targets.

    Profile and depth are those of the configuration; its weights play no role. Documents become rows of the part's
    catalogue, which has the same order.
    """
    rows = part.split.catalogue.positions(list(store.numbers))
    equal: dict[str, float] = dict.fromkeys(KINDS, 1.0)
    names = part.split.user_ids[part.targets.users]
    queries = [
        Query(user=str(name), mode=mode, weights=equal, include_seen=part.split.repeat, buy_again=False)
        for name in names
    ]
    users = []
    with bar("candidates of every retriever", len(queries)) as advance:
        for plan, retrieved in retrieve_users(EmbeddedBackend(store), queries, ranking):
            in_catalogue = [replace(each, documents=rows[each.documents]) for each in retrieved.candidates]
            seen = len(plan.request.user.seen) if plan.request.user else 0
            users.append(UserCandidates(in_catalogue, retriever_weights(plan.retrievers, equal), seen))
            advance(1)
    return users


@dataclass(frozen=True)
class Arranged:
    """The candidates of users at a depth, arranged once for every fusion; the arrays are those of a `Pool`.

    Attributes:
        batches: the users' retrievers of one kind that found equally many, in rows: one formula scales them all. Each
            has the cells of the pool, int64 (m, found), the shares of the retrievers, float64 (m, 1), and documents and
            scores, (m, found).
    """

    batches: list[tuple[Ints, Floats, Candidates]]
    is_document: Mask
    relevant: Ints
    relevant_count: Ints
    documents: Ints


def arrange(users: Sequence[UserCandidates], relevant: sparse.csr_array, depth: int) -> Arranged:
    """Return the candidates of users as arrays.

    Args:
        users: candidates of each user, retrieved at this depth or deeper.
        relevant: (u, n), 1 for the relevant documents of a user.
        depth: candidates of each retriever that count.
    """
    unions = _unions(users, depth)
    width = max((1, *(len(union) for union in unions)))  # a column even where nothing was found
    documents = np.full((len(users), width), -1, dtype=np.int64)
    for row, union in enumerate(unions):
        documents[row, : len(union)] = union
    alike: dict[tuple[Kind, int], list[tuple[int, float, Candidates]]] = {}
    for row, user in enumerate(users):
        for candidates, share in zip(user.retrievers, user.shares, strict=True):
            found = min(len(candidates.documents), depth)
            alike.setdefault((candidates.kind, found), []).append((row, share, candidates))
    batches = []
    for (kind, found), batch in alike.items():
        cells = np.stack([row * width + np.searchsorted(unions[row], each.documents[:found]) for row, _, each in batch])
        shares = np.array([share for _, share, _ in batch])[:, None]
        parts = [(each.documents[:found], each.scores[:found]) for _, _, each in batch]
        batches.append((cells, shares, Candidates(kind, kind, *map(np.stack, zip(*parts, strict=True)))))
    is_document = documents >= 0
    rows, columns = np.nonzero(is_document)
    is_relevant = are_set(relevant, rows, documents[rows, columns])
    cells = np.stack([rows[is_relevant], columns[is_relevant]], axis=1)
    return Arranged(batches, is_document, cells, np.diff(relevant.indptr).astype(np.int64), documents)


def build_pool(arranged: Arranged, fusion: Fusion) -> Pool:
    """Return what each kind of retriever adds to each candidate under a fusion, by which scores or ranks are scaled."""
    formulas = (score_share, rank_share) if fusion == "blend" else (BY_WEIGHT[fusion],)
    added = np.zeros((len(KINDS) * len(formulas), *arranged.documents.shape), dtype=np.float32)
    for cells, shares, found in arranged.batches:
        for place, formula in enumerate(formulas):
            values = (shares * formula([found], [1.0])[0]).astype(np.float32)
            column = place * len(KINDS) + KINDS.index(found.kind)
            np.add.at(added[column].reshape(-1), cells.ravel(), values.ravel())  # retrievers of one kind add up
    return Pool(added, arranged.is_document, arranged.relevant, arranged.relevant_count, arranged.documents)


def _unions(users: Sequence[UserCandidates], depth: int) -> list[Ints]:
    """Return the documents that any retriever of each user found, in order."""
    parts = [[candidates.documents[:depth] for candidates in user.retrievers] for user in users]
    sizes = [sum(map(len, part)) for part in parts]
    flat = np.concatenate([np.empty(0, np.int64), *(each for part in parts for each in part)])
    documents = int(flat.max(initial=0)) + 1
    keys = np.repeat(np.arange(len(users)) * documents, sizes) + flat  # one sort for all users
    keys.sort()
    rows, flat = np.divmod(keys[np.diff(keys, prepend=-1) != 0], documents)
    return np.split(flat, np.searchsorted(rows, np.arange(1, len(users)))) if users else []


def as_vector(weights: Weights, rank_weights: Weights | None = None) -> Floats:
    """Return the weights in the order of the columns of a pool."""
    parts = [weights] if rank_weights is None else [weights, rank_weights]
    return np.array([float(getattr(part, kind)) for part in parts for kind in KINDS])


def as_weights(vector: Floats) -> Weights:
    """Return the first weights of a vector by kind, rounded to 4 decimals."""
    return Weights(**{kind: round(float(value), 4) for kind, value in zip(KINDS, vector[: len(KINDS)], strict=True)})


def judge(pool: Pool, weights: Floats) -> tuple[Floats, Floats]:
    """Return nDCG@10 and R@10 of each user, float64 (u,), for weights of the pool's columns.

    Only the ranks of relevant documents are computed, and only of those that reach a bound of their user's tenth score.
    """
    scores, users = _scores(pool, weights), len(pool.relevant_count)
    own = scores[pool.relevant[:, 0], pool.relevant[:, 1]]
    near = pool.relevant[(own >= 0) & (own >= bound_of_top(scores, K)[pool.relevant[:, 0]])]
    ranks = _ranks(near, scores)
    near, ranks = near[ranks <= K], ranks[ranks <= K]
    gains = np.bincount(near[:, 0], weights=1.0 / np.log2(ranks + 1.0), minlength=users)
    hits = np.bincount(near[:, 0], minlength=users)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2.0, K + 2.0)))])
    return gains / ideal[np.minimum(pool.relevant_count, K)], hits / pool.relevant_count


def judge_diverse(
    pool: Pool, weights: Floats, diversity: float, vectors: npt.NDArray[np.float32], relevant: sparse.csr_array
) -> tuple[Floats, Floats]:
    """Return nDCG@10 and R@10 of each user, float64 (u,), after maximal marginal relevance as in a search.

    Args:
        pool: of `relevant`.
        weights, diversity, vectors: as in `diverse_top_ten`.
        relevant: (u, n), 1 for the relevant documents of a user.
    """
    values = accuracy(diverse_top_ten(pool, weights, diversity, vectors), relevant, ("nDCG@10", "R@10"))
    return values[:, 0], values[:, 1]


def diverse_top_ten(pool: Pool, weights: Floats, diversity: float, vectors: npt.NDArray[np.float32]) -> Ints:
    """Return the first ten documents of each user after maximal marginal relevance, as `top_ten` does.

    Args:
        pool: of u users.
        weights: of the pool's columns.
        diversity: as in a query.
        vectors: unit rows (n, d) of the documents.
    """
    found = np.full((len(pool.relevant_count), K), NOBODY, dtype=np.int64)
    for row, scores in enumerate(_scores(pool, weights)):
        best = np.argsort(-scores, kind="stable")[: POOL * K]
        best = best[scores[best] >= 0]
        if len(best):
            documents = pool.documents[row, best]
            chosen, _ = diversify(vectors[documents], scores[best].astype(np.float64), diversity, K)
            found[row, : len(chosen)] = documents[chosen]
    return found


def top_ten(pool: Pool, weights: Floats) -> Ints:
    """Return the first ten documents of each user, int64 (u, 10), `NOBODY` where a list is shorter."""
    scores = _scores(pool, weights)
    np.copyto(scores, -np.inf, where=scores < 0)
    columns = top_k(scores, K)
    found = np.take_along_axis(pool.documents, np.maximum(columns, 0), axis=1)
    return np.where(columns == NOBODY, NOBODY, found)


def _scores(pool: Pool, weights: Floats) -> npt.NDArray[np.float32]:
    """Return the fused score of each document, float32 (u, w), -1 where no retriever with a weight found it.

    Users for whom the weighted kinds found nothing get the weights that a search gives them (`planning.make_plan`).
    """
    scores: npt.NDArray[np.float32] = np.tensordot(weights.astype(np.float32), pool.added, axes=1)
    if len(users := _without_say(pool, weights)):
        scores[users] = np.tensordot(_own_weights(weights), pool.added[: len(KINDS), users], axes=1)
    # What a retriever adds is above 0, so that a sum of 0 was found by none, or is no document; a blend may round to 0.
    by_none = scores <= 0
    np.round(scores, 7, out=scores)
    scores -= by_none
    return scores


def _without_say(pool: Pool, weights: Floats) -> Ints:
    """Return the users for whom popularity alone would count, although the ranking does not weigh it most.

    Of a retriever that is judged alone, without popularity, nothing is added to what it finds.
    """
    kinds = weights.reshape(-1, len(KINDS)).sum(axis=0)
    others = np.arange(len(KINDS)) != KINDS.index("popularity")
    if not 0.0 < kinds[~others].sum() <= kinds[others].sum() or (kinds[others] > 0.0).all():
        return np.empty(0, np.int64)
    has_say = pool.known[others & (kinds > 0.0)].any(axis=0)
    return np.flatnonzero(~has_say & pool.known[others].any(axis=0))


def _own_weights(weights: Floats) -> Tensor:
    """Return the weights of kinds where the weighted ones found nothing, float32 (kinds,)."""
    weighed = {KINDS[column % len(KINDS)] for column in np.flatnonzero(weights).tolist()}
    # A search sums neighbours of one kind where the ranking weighs the other.
    off = NEIGHBOUR_KINDS if weighed & NEIGHBOUR_KINDS else frozenset()
    own = {"popularity": TIE_BREAK, **dict.fromkeys(off, 0.0)}
    return np.array([own.get(kind, 1.0) for kind in KINDS], dtype=np.float32)


def _ranks(cells: Ints, scores: npt.NDArray[np.float32]) -> Ints:
    """Return one plus the number of the user's documents with a larger score, or the same and an earlier column, (p,).

    Args:
        cells: (p, 2), row and column of documents.
        scores: (u, w).
    """
    ranks = np.empty(len(cells), dtype=np.int64)
    places = np.arange(scores.shape[1])
    for low in range(0, len(ranks), _BLOCK):
        rows, columns = cells[low : low + _BLOCK].T
        own = scores[rows, columns][:, None]
        others = scores[rows]
        ahead = np.count_nonzero(others > own, axis=1)
        tied = np.flatnonzero(np.count_nonzero(others == own, axis=1) > 1)
        ahead[tied] += np.count_nonzero((others[tied] == own[tied]) & (places < columns[tied, None]), axis=1)
        ranks[low : low + _BLOCK] = ahead + 1
    return ranks


def climb(
    start: Floats,
    value: Callable[[Floats], float],
    steps: Sequence[float],
    price: Callable[[Floats], float] = lambda _: 0.0,
    columns: Sequence[int] | None = None,
) -> tuple[Floats, int]:
    """Raise or lower one weight after the other, as long as that helps (coordinate ascent, Metzler and Croft 2007).

    Args:
        start: weights that sum to 1, float64 (columns,).
        value: of weights; larger is better.
        steps: by which weights change, the largest first.
        price: of weights, 0 or more, which is taken from their value; asked for only where the value alone is better.
        columns: whose weights may change, None for all.

    Returns:
        The best weights, scaled to a sum of 1, and how many were judged.
    """
    best, highest, tried = start, value(start) - price(start), 1
    for step in steps:
        improved = True
        while improved:
            improved = False
            for column, change in product(range(len(start)) if columns is None else columns, (step, -step)):
                weights = best.copy()
                weights[column] = max(0.0, weights[column] + change)
                if weights[column] == best[column] or not weights.any():
                    continue
                found, tried = value(weights), tried + 1
                if found > highest + 1e-6:
                    found -= price(weights)
                if found > highest + 1e-6:
                    best, highest, improved = weights / weights.sum(), found, True
    return best, tried


def fit_blend(pool: Pool) -> Floats:
    """Return weights of 0 or more for the columns of a `blend` pool, with a sum of 1, float64 (2 x kinds,).

    Non-negative least squares from what retrievers add to whether a document is relevant: with such weights a better
    score or rank never lowers a document.
    """
    added = pool.added[:, pool.is_document].T.astype(np.float64)
    is_relevant = np.zeros(pool.is_document.shape, dtype=np.bool_)
    is_relevant[pool.relevant[:, 0], pool.relevant[:, 1]] = True
    labels = is_relevant[pool.is_document].astype(np.float64)
    weights, _ = optimize.nnls(added - added.mean(axis=0), labels - labels.mean())  # centred: with an intercept
    total = float(weights.sum())
    blend: Floats = weights / total if total > 0.0 else np.full(len(weights), 1.0 / len(weights))
    return blend
