"""Which documents of a large release may be the nearest to a vector: those whose signs differ least from its own.

Each component of a vector leaves one bit, its sign. The bits of a million documents are 48 MB at 384 dimensions, and
comparing them with those of a query takes a twentieth of the time of the exact scan. The nearest by signs are the
shortlist, whose scores are computed exactly. How long it has to be is tried at publication on queries whose answers
are known.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlm4rec_search.common.vectors import Ints, Mask, Vectors, cosines

Signs: TypeAlias = NDArray[np.uint64]

RECALL = 0.98  # of the nearest 10 and of the nearest 200 documents
DEPTHS = (10, 200)
_SHARES = (0.01, 0.02, 0.05)  # of the documents: lengths that are tried, the shortest first
_BLOCK = 1 << 15  # documents at once, so that the work stays in the processor's cache
_FARTHEST = np.iinfo(np.uint16).max


@dataclass(frozen=True, slots=True)
class Trial:
    """How good shortlists of one length were.

    Attributes:
        length: documents of a shortlist.
        recall_10: share of the nearest 10 documents that were in it, mean over the queries.
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
        far = differences(self.signs, query)
        if allowed is not None:
            far[~allowed] = _FARTHEST
        return np.flatnonzero(far <= _radius(far, count))


def sign_bits(batches: Iterable[Vectors]) -> Signs:
    """Return the signs of rows of d components, one bit each, uint64 (w, n) with w = d / 64, rounded up.

    Args:
        batches: the rows, float32 (b, d), batch by batch.
    """
    packed = [_pack(batch) for batch in batches]
    return np.ascontiguousarray(np.concatenate(packed).T)


def _pack(rows: Vectors) -> Signs:
    bits = np.packbits(rows > 0.0, axis=1)
    whole = np.zeros((len(rows), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    whole[:, : bits.shape[1]] = bits
    return whole.view(np.uint64)


def differences(signs: Signs, query: Vectors) -> NDArray[np.uint16]:
    """Return in how many components the sign of each document differs from that of a query, uint16 (n,)."""
    of_query = _pack(query[np.newaxis])[0]
    found = np.zeros(signs.shape[1], dtype=np.uint16)
    for low in range(0, len(found), _BLOCK):
        part = found[low : low + _BLOCK]
        for word, row in zip(of_query, signs[:, low : low + _BLOCK], strict=True):
            part += np.bitwise_count(row ^ word)
    return found


def _radius(far: NDArray[np.uint16], count: int) -> int:
    """Return the smallest difference within which `count` documents lie, or all that are allowed."""
    within = np.cumsum(np.bincount(far)[:_FARTHEST])
    return min(int(np.searchsorted(within, count)), len(within) - 1)


def try_lengths(vectors: Vectors, signs: Signs, queries: Vectors, is_there: Mask | None = None) -> Trial:
    """Return the trial of the shortest length that is good enough, else of the longest one.

    Args:
        vectors: of the documents, float32 (n, d).
        signs: of the same documents.
        queries: unit vectors, float32 (q, d), at least one.
        is_there: which documents have a vector, bool (n,), None for all.
    """
    lengths = [max(DEPTHS[-1], round(share * len(vectors))) for share in _SHARES]
    found = np.zeros((len(lengths), len(DEPTHS)))
    for query in queries:
        scores, far = cosines(vectors, query), differences(signs, query)
        if is_there is not None:
            scores[~is_there], far[~is_there] = -np.inf, _FARTHEST
        nearest = np.argsort(-scores, kind="stable")[: DEPTHS[-1]]
        for row, length in enumerate(lengths):
            is_in = far[nearest] <= _radius(far, length)
            found[row] += [is_in[:depth].mean() for depth in DEPTHS]
    trials = [
        Trial(length, float(shares[0]), float(shares[1]), len(queries))
        for length, shares in zip(lengths, (found / len(queries)).round(4), strict=True)
    ]
    return next((trial for trial in trials if trial.passed), trials[-1])
