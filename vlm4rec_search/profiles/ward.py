"""Ward's agglomerative clustering of many small sets at once: scipy's takes a millisecond of checks for each."""

import numpy as np

from vlm4rec_search.profiles.histories import Integers, Vectors

NEAR = 0.8  # clusters whose Ward distance is smaller are one: two unit vectors of a cosine of 0.68 or more


def ward(squares: Vectors, sizes: Integers, limit: int) -> Integers:
    """Return the cluster of each item, (b, w), from 0 in order of the first item; -1 for padding.

    The pair of clusters that is nearest is merged while there are more than `limit` clusters or the pair is nearer than
    `NEAR`. The distance of a merged cluster follows from those of its parts (Lance and Williams 1967), as in
    `scipy.cluster.hierarchy.linkage(..., "ward")`: d(k, ij)^2 = ((n_k + n_i) d(k, i)^2 + (n_k + n_j) d(k, j)^2 -
    n_k d(i, j)^2) / (n_k + n_i + n_j).

    Args:
        squares: float32 (b, w, w), squared Euclidean distances; symmetric.
        sizes: (b,), items of each set; what lies beyond is padding.
        limit: most clusters, at least 1.
    """
    blocks, width = squares.shape[:2]
    real = np.arange(width) < sizes[:, None]
    distances = np.where(real[:, :, None] & real[:, None, :], squares, np.float32(np.inf))
    distances[:, np.arange(width), np.arange(width)] = np.inf
    counts = real.astype(np.float32)
    labels = np.where(real, np.arange(width), -1)
    open_sets = np.arange(blocks)
    for merged in range(width - 1):
        flat = distances[open_sets].reshape(len(open_sets), -1)
        nearest = flat.argmin(axis=1)
        heights = flat[np.arange(len(open_sets)), nearest]
        wanted = (sizes[open_sets] - merged > limit) | (heights < NEAR**2)
        open_sets, nearest = open_sets[wanted], nearest[wanted]
        if not len(open_sets):
            break
        first, second = np.divmod(nearest, width)
        _merge(distances, counts, labels, open_sets, first, second)
    return _renumbered(labels)


def _merge(
    distances: Vectors, counts: Vectors, labels: Integers, sets: Integers, first: Integers, second: Integers
) -> None:
    """Merge cluster `second` of each set into cluster `first`, in place."""
    one, other, third = counts[sets, first, None], counts[sets, second, None], counts[sets]
    apart = distances[sets, first, second][:, None]
    joined = (third + one) * distances[sets, first] + (third + other) * distances[sets, second] - third * apart
    joined /= third + one + other
    distances[sets, first], distances[sets, :, first] = joined, joined
    distances[sets, second], distances[sets, :, second] = np.inf, np.inf
    distances[sets, first, first] = np.inf
    counts[sets, first] += counts[sets, second]
    counts[sets, second] = 0
    found = labels[sets]
    labels[sets] = np.where(found == second[:, None], first[:, None], found)


def _renumbered(labels: Integers) -> Integers:
    """Number the clusters of each row from 0 by their first item; a cluster is called after that item so far."""
    firsts = labels == np.arange(labels.shape[1])
    numbers = np.cumsum(firsts, axis=1) - 1
    return np.where(labels >= 0, np.take_along_axis(numbers, np.maximum(labels, 0), axis=1), -1)
