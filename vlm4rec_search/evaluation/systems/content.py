"""Systems of the paper's table that need no training: one kind of vector, or two of them side by side or averaged."""

import numpy as np

from vlm4rec_search.evaluation.data import Scores, Split, has_vector
from vlm4rec_search.evaluation.systems.base import VectorSystem, require, unit


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
    if vectors.shape[1] <= size:
        return vectors
    _, directions = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
    return unit((vectors @ directions[:, ::-1][:, :size]).astype(np.float32))
