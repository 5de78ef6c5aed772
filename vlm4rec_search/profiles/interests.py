"""Several interests for each shopper: Ward clusters of the history's vectors, as PinnerSage has them (KDD 2020)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from threadpoolctl import threadpool_limits

from vlm4rec_search.profiles.histories import (
    Floats,
    Integers,
    Texts,
    Vectors,
    histories,
    stacked,
    strongest,
    vector_column,
)
from vlm4rec_search.profiles.incremental import computed_once

# Ward's agglomerative clustering of many small sets at once: scipy's takes a millisecond of checks for each.

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


ITEMS = 30  # of a history that are clustered, the most weighted ones (64 at most); 80 found no more in Online Retail
_MAKER = "ward@2"  # raise it when the interests of the same weights change


class _Block(NamedTuple):
    """Histories side by side, padded with weight 0: weights (b, w), vectors (b, w, d), squared distances (b, w, w)."""

    sizes: Integers
    weights: Floats
    vectors: Vectors
    distances: Vectors


def user_interests(weights: pd.DataFrame, items: pd.DataFrame, limit: int, cache: Path | None = None) -> pd.DataFrame:
    """Return up to `limit` interests of each user: clusters of the most positively weighted items.

    The vector of an interest is the unit-length weighted mean of its items; the medoid, the item that stands for it,
    has the least weighted sum of squared distances to them. (PinnerSage searches with the medoid itself; the mean
    found more in Online Retail.) Ward's linkage is cut at `limit` clusters, or fewer where they are near (`ward.NEAR`).

    Args:
        weights: user_id, item_id, weight; items that push away have no interest.
        items: item_id (unique), vector (float32 unit vectors of one length).
        limit: most interests of a user, at least 1.
        cache: folder of results, so that users with the same weights are not computed again; None for none.

    Returns:
        user_id, rank (from 1, by importance), importance (share of the weights, sums to 1), medoid (item_id), items
        (list of the item_ids that the vector is the mean of), vector (float32 of length 1, an Arrow list), by user_id
        and rank. Opposites that cancel out are told by the medoid alone.

    Raises:
        RunError: vectors of different lengths, a weight that is not finite, or a cache that cannot be used.
    """
    found = histories(weights, items["item_id"])
    vectors = stacked(items["vector"])
    best = strongest(found.matrix, ITEMS)
    users = np.flatnonzero(np.diff(best.indptr))
    best = best[users]
    best.data /= np.repeat(np.maximum.reduceat(best.data, best.indptr[:-1]), np.diff(best.indptr)) if len(users) else 1
    record = _record(vectors.shape[1])

    def compute(rows: Integers) -> list[bytes]:
        with threadpool_limits(1, "blas"):  # thousands of small products: threads only wait for each other there
            return _clustered(best[rows], vectors, limit, record)

    results = computed_once("interests", f"{_MAKER} {limit}", best, vectors, compute, cache)
    return _frame(found.user_ids[users], best, results, items["item_id"].to_numpy(dtype=object), record)


def _record(size: int) -> np.dtype[np.void]:
    """Describe an interest: the medoid's place in the user's row, a bit for each item's place, importance, vector."""
    return np.dtype([("medoid", "<u1"), ("items", "<u8"), ("importance", "<f8"), ("vector", "<f4", (size,))])


def _frame(
    user_ids: Texts, best: sparse.csr_array, results: list[bytes], item_ids: Texts, record: np.dtype[np.void]
) -> pd.DataFrame:
    found = np.frombuffer(b"".join(results), dtype=record)
    counts = np.array([len(result) // record.itemsize for result in results], dtype=np.int64)
    rows = np.repeat(np.arange(len(results)), counts)
    starts = np.cumsum(counts) - counts
    firsts = best.indptr[:-1][rows]
    medoids = best.indices[firsts + found["medoid"]]
    columns = {
        "user_id": user_ids[rows],
        "rank": np.arange(len(rows)) - starts[rows] + 1,
        "importance": found["importance"],
        "medoid": item_ids[medoids],
        "items": _members(found["items"], best.indices, firsts, item_ids),
    }
    return pd.DataFrame({**columns, "vector": vector_column(np.ascontiguousarray(found["vector"]))})


def _members(
    bits: npt.NDArray[np.uint64], indices: npt.NDArray[np.integer], firsts: npt.NDArray[np.integer], item_ids: Texts
) -> pd.Series:
    """Return the items of each interest, by their bits, as a column of lists."""
    import pyarrow as pa

    chosen = (bits[:, None] >> np.arange(ITEMS, dtype=np.uint64)) & np.uint64(1) == 1
    rows, places = np.nonzero(chosen)
    ends = pa.array(np.concatenate([[0], np.cumsum(chosen.sum(axis=1))]).astype(np.int64))
    items = pa.array(item_ids[indices[firsts[rows] + places]], pa.string())
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.LargeListArray.from_arrays(ends, items)))


def _clustered(best: sparse.csr_array, vectors: Vectors, limit: int, record: np.dtype[np.void]) -> list[bytes]:
    """Return the interests of each row, the most important first, as bytes."""
    block = _padded(best, vectors)
    labels = ward(block.distances, block.sizes, limit)
    member = labels[:, None, :] == np.arange(limit)[:, None]  # (b, limit, w)
    shares = member * block.weights[:, None, :]
    masses = shares.sum(axis=2)
    costs = np.where(member, shares @ block.distances, np.inf)
    medoids = costs.argmin(axis=2)
    means = shares.astype(np.float32) @ block.vectors
    lengths = np.linalg.norm(means, axis=2, keepdims=True)
    at_medoid = np.take_along_axis(block.vectors, medoids[:, :, None], axis=1)
    told = lengths > 1e-6 * masses[:, :, None]
    units = np.where(told, means / np.maximum(lengths, 1e-30), at_medoid)
    bit = np.uint64(1) << np.arange(member.shape[2], dtype=np.uint64)
    bits = np.where(told[:, :, 0], (member * bit).sum(axis=2, dtype=np.uint64), bit[medoids])
    found = np.zeros(masses.shape, dtype=record)
    found["medoid"], found["items"], found["vector"] = medoids, bits, units
    found["importance"] = masses / masses.sum(axis=1, keepdims=True)
    order = np.lexsort((medoids, -masses))
    return [found[row, places][masses[row, places] > 0].tobytes() for row, places in enumerate(order)]


def _padded(best: sparse.csr_array, vectors: Vectors) -> _Block:
    sizes = np.diff(best.indptr).astype(np.int64)
    places = np.arange(sizes.max())[None, :] < sizes[:, None]
    weights = np.zeros(places.shape)
    weights[places] = best.data
    stack = np.zeros((*places.shape, vectors.shape[1]), dtype=np.float32)
    stack[places] = vectors[best.indices]
    cosines = stack @ stack.transpose(0, 2, 1)
    return _Block(sizes, weights, stack, np.maximum(2.0 - 2.0 * cosines, 0.0))
