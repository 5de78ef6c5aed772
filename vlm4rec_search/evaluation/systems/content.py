"""Systems of the paper's table that need no training: one kind of vector, or two of them side by side or averaged."""

import numpy as np
from scipy import sparse

from vlm4rec_search.common.analyzer import ENGLISH
from vlm4rec_search.common.bm25 import bm25, count_terms
from vlm4rec_search.common.vectors import Ints, Scores, unit
from vlm4rec_search.evaluation.data import Split, Targets, has_vector
from vlm4rec_search.evaluation.systems.base import NOT_FOUND, System, VectorSystem, require

# BM25 with the titles of the last items as the query: the product's own analyzer and weights, without its profiles.

LAST = 10


class BM25(System):
    """BM25 over titles; the query is the titles of the ten items that the user took last."""

    name = "bm25"

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Weigh the titles of the candidates and of the histories' items."""
        # Titles of items that do not exist yet must not weigh terms.
        exists = split.candidates | (split.popularity > 0)
        texts = [title if known else None for title, known in zip(split.catalogue.titles, exists, strict=True)]
        counts = count_terms(texts, split.tables.analyzer if split.tables else ENGLISH).counts
        self._weights = sparse.csr_array(bm25(counts).T)
        self._queries = sparse.csr_array(last_items(split, LAST) @ counts)

    def scores(self, users: Ints) -> Scores:
        """Return sums of BM25, float32 (b, n); items without a common word are not ranked."""
        found = (self._queries[users] @ self._weights).toarray()
        return np.where(found > 0, found, NOT_FOUND).astype(np.float32)


def last_items(split: Split, last: int) -> sparse.csr_array:
    """Return float32 (u, n) with 1 for the different items that each user took last, at most `last` of them."""
    rows = split.latest
    users = split.users[rows]
    ends = np.searchsorted(users, np.arange(split.shape[0]), side="right")
    kept = ends[users] - np.arange(len(rows)) <= last
    cells = (np.ones(int(kept.sum()), dtype=np.float32), (users[kept], split.items[rows[kept]]))
    return sparse.coo_array(cells, shape=split.shape).tocsr()


class OnlyOne(VectorSystem):
    """One kind of vector alone."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind, self.needs = name, kind, frozenset({kind})

    def item_vectors(self, split: Split) -> Scores:
        """Return the vectors of the kind, float32 (n, d)."""
        return require(split, self.kind)


class Pair(VectorSystem):
    """Two kinds of vectors of one item, together; items that lack one of them are not covered."""

    def __init__(self, name: str, first: str, second: str, average: bool) -> None:
        self.name, self.kinds, self.average = name, (first, second), average
        self.needs = frozenset(self.kinds)

    def item_vectors(self, split: Split) -> Scores:
        """Return float32 (n, d1 + d2) side by side, or (n, min(d1, d2)) for the mean."""
        first, second = (unit(require(split, kind)) for kind in self.kinds)
        joined = _mean(first, second) if self.average else np.hstack([first, second])
        both = has_vector(first) & has_vector(second)
        return np.where(both[:, None], joined, np.float32(0))


def _mean(first: Scores, second: Scores) -> Scores:
    """Return half of each; of the longer kind only its leading directions, as many as the shorter one has."""
    size = min(first.shape[1], second.shape[1])
    mean: Scores = (0.5 * leading(first, size) + 0.5 * leading(second, size)).astype(np.float32)
    return mean


def leading(vectors: Scores, size: int) -> Scores:
    """Project on the leading right singular vectors, which keep the inner products best (Eckart and Young 1936).

    Args:
        vectors: (n, d).
        size: how many directions are kept; all of them where d is not more.

    Returns:
        float32 (n, min(size, d)), unit rows where something was projected; rows of zeros stay.
    """
    return vectors if vectors.shape[1] <= size else unit(vectors @ directions(vectors, size))


def directions(vectors: Scores, size: int) -> Scores:
    """Return the leading right singular vectors, float32 (d, min(size, d)); the axes themselves where d is not more."""
    width = vectors.shape[1]
    if width <= size:
        return np.eye(width, dtype=np.float32)
    _, found = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
    return np.ascontiguousarray(found[:, ::-1][:, :size], dtype=np.float32)
