"""Which documents of a large release may be the nearest to a vector: those whose signs differ least from its own.

Each component of a vector leaves one bit, its sign. The bits of a million documents are 48 MB at 384 dimensions, a
thirtieth of the vectors. A sign that differs counts as much as the component matters in the query. The nearest by signs
are the shortlist, whose scores are computed exactly. How long it has to be is tried at publication on queries whose
answers are known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlm4rec_search.common.vectors import Floats, Ints, Mask, Vectors, cosines

Signs: TypeAlias = NDArray[np.uint64]

RECALL = 0.98  # of the nearest 10 and of the nearest 200 documents
DEPTHS = (10, 200)
_SHARES = (0.01, 0.02, 0.03)  # of the documents: lengths that are tried, the shortest first
_BLOCK = 1 << 15  # documents at once, so that the work stays in the processor's cache
_BITS, _LARGEST = 3, 7  # of the weight of a component
_FARTHEST = np.iinfo(np.uint16).max


@dataclass(frozen=True, slots=True)
class Trial:
    """How good shortlists of one length were.

    Attributes:
        length: documents of a shortlist.
        recall_10: share of the nearest 10 documents that were in it: mean of the sort of queries with the lowest one.
        recall_200: the same for the nearest 200.
        queries: number of queries.
    """

    length: int
    recall_10: float
    recall_200: float
    queries: int

    @property
    def passed(self) -> bool:
        """Whether both recalls reach `RECALL`."""
        return min(self.recall_10, self.recall_200) >= RECALL


@dataclass(frozen=True)
class Shortlist:
    """The signs of all documents, and how many of the nearest by signs are scored.

    Attributes:
        signs: uint64 (w, n), see `sign_bits`.
        length: documents of a shortlist for `DEPTHS[-1]` candidates, and in proportion for more.
    """

    signs: Signs
    length: int

    def documents(self, query: Vectors, allowed: Mask | None, depth: int) -> Ints | None:
        """Return the documents that may be the nearest, ascending; None where all have to be scored.

        Args:
            query: float32 (d,).
            allowed: which documents may be returned, bool (n,), None for all.
            depth: how many of the nearest are wanted.
        """
        count = self.length * max(1, -(-depth // DEPTHS[-1]))
        if count >= self.signs.shape[1] // 10:
            return None
        far = distances(self.signs, query)
        if allowed is not None:
            far[~allowed] = _FARTHEST
        return np.flatnonzero(far <= _radius(far, count))


def sign_bits(batches: Iterable[Vectors]) -> Signs:
    """Return the signs of rows of d components, one bit each, uint64 (w, n) with w = d / 64, rounded up.

    Args:
        batches: the rows, float32 (b, d), batch by batch.
    """
    packed = [_pack(batch > 0.0) for batch in batches]
    return np.ascontiguousarray(np.concatenate(packed).T)


def _pack(rows: NDArray[np.bool_]) -> Signs:
    bits = np.packbits(rows, axis=1)
    whole = np.zeros((len(rows), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    whole[:, : bits.shape[1]] = bits
    return whole.view(np.uint64)


def distances(signs: Signs, query: Vectors) -> NDArray[np.uint16]:
    """Return the sum of the weights of the components in which the sign of each document differs from a query's.

    The weight of a component is its size in the query, 0 to 7: three bits, each of which is counted for itself.

    Args:
        signs: uint64 (w, n), see `sign_bits`.
        query: float32 (d,).
    """
    sizes = np.abs(query) * (_LARGEST / max(2.5 * float(np.sqrt(np.mean(query**2))), 1e-30))
    weights = np.minimum(np.rint(sizes), _LARGEST).astype(np.uint8)
    (of_query,) = _pack(query[np.newaxis] > 0.0)
    planes = _pack((weights >> np.arange(_BITS, dtype=np.uint8)[:, np.newaxis] & 1).astype(np.bool_))
    found = np.zeros(signs.shape[1], dtype=np.uint16)
    for low in range(0, len(found), _BLOCK):
        part = found[low : low + _BLOCK]
        differing = signs[:, low : low + _BLOCK] ^ of_query[:, np.newaxis]
        for plane in planes[::-1]:  # the bit of the largest value first: it is doubled most often
            part <<= 1
            for word, row in zip(plane, differing, strict=True):
                part += np.bitwise_count(row & word)
    return found


def _radius(far: NDArray[np.uint16], count: int) -> int:
    """Return the smallest difference within which `count` documents lie, or all that are allowed."""
    within = np.cumsum(np.bincount(far)[:_FARTHEST])
    return min(int(np.searchsorted(within, count)), len(within) - 1)


def try_lengths(vectors: Vectors, signs: Signs, sorts: Sequence[Vectors], is_there: Mask | None = None) -> Trial:
    """Return the trial of the shortest length that is good enough for every sort of queries, else of the longest one.

    Args:
        vectors: of the documents, float32 (n, d).
        signs: of the same documents.
        sorts: unit vectors of each sort, float32 (q, d), at least one.
        is_there: which documents have a vector, bool (n,), None for all.
    """
    lengths = [max(DEPTHS[-1], round(share * len(vectors))) for share in _SHARES]
    recalls = np.min([_recalls(vectors, signs, queries, lengths, is_there) for queries in sorts], axis=0).round(4)
    count = sum(map(len, sorts))
    pairs = zip(lengths, recalls.tolist(), strict=True)
    trials = [Trial(length, ten, deep, count) for length, (ten, deep) in pairs]
    return next((trial for trial in trials if trial.passed), trials[-1])


def _recalls(vectors: Vectors, signs: Signs, queries: Vectors, lengths: Sequence[int], is_there: Mask | None) -> Floats:
    """Return the mean recall of each length (rows) at each of `DEPTHS` (columns)."""
    found = np.zeros((len(lengths), len(DEPTHS)))
    for query in queries:
        scores, far = cosines(vectors, query), distances(signs, query)
        if is_there is not None:
            scores[~is_there], far[~is_there] = -np.inf, _FARTHEST
        nearest = np.argsort(-scores, kind="stable")[: DEPTHS[-1]]
        for row, length in enumerate(lengths):
            is_in = far[nearest] <= _radius(far, length)
            found[row] += [is_in[:depth].mean() for depth in DEPTHS]
    return found / len(queries)
