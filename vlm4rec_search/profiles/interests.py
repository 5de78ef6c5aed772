"""Interests of each shopper: Ward clusters of the history's item vectors, as in PinnerSage (Pal et al., KDD 2020).

Many small histories are clustered at once: `scipy.cluster.hierarchy` spends a millisecond on checks for each.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import sparse
from threadpoolctl import threadpool_limits

from vlm4rec_search.common.vectors import Floats, Ints, Texts, Vectors
from vlm4rec_search.profiles.histories import build_histories, keep_largest, stack_vectors, vector_column
from vlm4rec_search.profiles.incremental import compute_changed_rows

ITEMS = 30  # largest weights of a history that are clustered, at most 64; 80 were no better on Online Retail
NEAR = 0.8  # clusters with a smaller Ward distance are merged: two unit vectors with a cosine of 0.68 or more
_PRODUCER = "ward@2"  # raise it when the interests of the same weights change


def cluster_ward(squares: Vectors, sizes: Ints, limit: int) -> Ints:
    """Cluster many small sets of items by Ward's agglomerative method.

    The nearest pair of clusters is merged while there are more than `limit` clusters or the pair is nearer than `NEAR`.
    The distance to a merged cluster follows from the distances before (Lance and Williams 1967), as in
    `scipy.cluster.hierarchy.linkage(..., "ward")`: d(k, ij)^2 = ((n_k + n_i) d(k, i)^2 + (n_k + n_j) d(k, j)^2 -
    n_k d(i, j)^2) / (n_k + n_i + n_j).

    Args:
        squares: float32 (b, w, w), squared Euclidean distances; symmetric.
        sizes: (b,), number of items in each set; the items after them are padding.
        limit: most clusters of a set, at least 1.

    Returns:
        The cluster of each item, (b, w): numbers from 0 in the order of the clusters' first items, -1 for padding.
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
    return _number_by_first_item(labels)


def _merge(distances: Vectors, counts: Vectors, labels: Ints, sets: Ints, first: Ints, second: Ints) -> None:
    """Merge cluster `second` of each set into cluster `first`, in place."""
    n_i, n_j, n_k = counts[sets, first, None], counts[sets, second, None], counts[sets]
    between = distances[sets, first, second][:, None]
    merged = (n_k + n_i) * distances[sets, first] + (n_k + n_j) * distances[sets, second] - n_k * between
    merged /= n_k + n_i + n_j
    distances[sets, first], distances[sets, :, first] = merged, merged
    distances[sets, second], distances[sets, :, second] = np.inf, np.inf
    distances[sets, first, first] = np.inf
    counts[sets, first] += counts[sets, second]
    counts[sets, second] = 0
    labels[sets] = np.where(labels[sets] == second[:, None], first[:, None], labels[sets])


def _number_by_first_item(labels: Ints) -> Ints:
    """Renumber the clusters of each row from 0; so far, the label of a cluster is the position of its first item."""
    firsts = labels == np.arange(labels.shape[1])
    numbers = np.cumsum(firsts, axis=1) - 1
    return np.where(labels >= 0, np.take_along_axis(numbers, np.maximum(labels, 0), axis=1), -1)


class _Block(NamedTuple):
    """The histories of b users, padded to w items with weight 0.

    Attributes:
        sizes: (b,) number of items.
        weights: (b, w).
        vectors: (b, w, d).
        squares: (b, w, w) squared Euclidean distances.
    """

    sizes: Ints
    weights: Floats
    vectors: Vectors
    squares: Vectors


def user_interests(
    weights: pd.DataFrame, items: pd.DataFrame, limit: int, cache: Path | None = None
) -> Iterator[pd.DataFrame]:
    """Yield up to `limit` interests of each user, in blocks of users: clusters of the items of large positive weights.

    The vector of an interest is the weighted mean of its items, scaled to length 1. The medoid is the item with the
    smallest weighted sum of squared distances to the items of the interest. PinnerSage searches with the medoid; the
    mean found more on Online Retail. Near clusters (`NEAR`) are merged, so that a user may have fewer interests than
    `limit`.

    Args:
        weights: user_id, item_id, weight; items of weight 0 or less are ignored.
        items: item_id (unique), vector (float32 unit vectors of one length).
        limit: most interests of a user, at least 1.
        cache: folder of results, so that users with unchanged weights are not computed again; None for no cache.

    Yields:
        Rows by user_id and rank, and one empty frame where there are none: user_id, rank (from 1, by importance),
        importance (share of the clustered weights, sums to 1), medoid (item_id), items (list of item_ids whose mean is
        the vector), vector (float32 of length 1, an Arrow list). If the vectors of an interest cancel out, items and
        vector are those of the medoid alone.

    Raises:
        RunError: the vectors have different lengths, a weight is not finite, or the cache cannot be used.
    """
    histories = build_histories(weights, items["item_id"])
    vectors = stack_vectors(items["vector"])
    largest = keep_largest(histories.matrix, ITEMS)
    users = np.flatnonzero(np.diff(largest.indptr))
    largest = largest[users]
    if len(users):
        largest.data /= np.repeat(np.maximum.reduceat(largest.data, largest.indptr[:-1]), np.diff(largest.indptr))
    record_type = _record_type(vectors.shape[1])

    def compute(rows: Ints) -> list[bytes]:
        with threadpool_limits(1, "blas"):  # in thousands of small products, BLAS threads only wait for each other
            return _compute_interests(largest[rows], vectors, limit, record_type)

    user_ids, item_ids = histories.user_ids[users], items["item_id"].to_numpy(dtype=object)
    producer = f"{_PRODUCER} {limit}"
    for rows, results in compute_changed_rows("interests", producer, largest, vectors, compute, cache):
        yield _frame(user_ids[rows], largest[rows], results, item_ids, record_type)


def _record_type(size: int) -> np.dtype[np.void]:
    """Return the type of a stored interest; medoid and items are positions in the user's row, items one bit each."""
    return np.dtype([("medoid", "<u1"), ("items", "<u8"), ("importance", "<f8"), ("vector", "<f4", (size,))])


def _frame(
    user_ids: Texts, largest: sparse.csr_array, results: list[bytes], item_ids: Texts, record_type: np.dtype[np.void]
) -> pd.DataFrame:
    interests = np.frombuffer(b"".join(results), dtype=record_type)
    counts = np.array([len(result) // record_type.itemsize for result in results], dtype=np.int64)
    rows = np.repeat(np.arange(len(results)), counts)
    starts = np.cumsum(counts) - counts
    row_starts = largest.indptr[:-1][rows]
    medoids = largest.indices[row_starts + interests["medoid"]]
    columns = {
        "user_id": user_ids[rows],
        "rank": np.arange(len(rows)) - starts[rows] + 1,
        "importance": interests["importance"],
        "medoid": item_ids[medoids],
        "items": _item_lists(interests["items"], largest.indices, row_starts, item_ids),
    }
    return pd.DataFrame({**columns, "vector": vector_column(np.ascontiguousarray(interests["vector"]))})


def _item_lists(
    bits: npt.NDArray[np.uint64], indices: npt.NDArray[np.integer], row_starts: npt.NDArray[np.integer], item_ids: Texts
) -> pd.Series:
    """Return the items of each interest as a column of lists; bit n stands for the item at position n of the row."""
    is_member = (bits[:, None] >> np.arange(ITEMS, dtype=np.uint64)) & np.uint64(1) == 1
    rows, positions = np.nonzero(is_member)
    ends = pa.array(np.concatenate([[0], np.cumsum(is_member.sum(axis=1))]).astype(np.int64))
    items = pa.array(item_ids[indices[row_starts[rows] + positions]], pa.string())
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.LargeListArray.from_arrays(ends, items)))


def _compute_interests(
    largest: sparse.csr_array, vectors: Vectors, limit: int, record_type: np.dtype[np.void]
) -> list[bytes]:
    """Return the interests of each row as bytes, the most important first."""
    block = _pad_rows(largest, vectors)
    labels = cluster_ward(block.squares, block.sizes, limit)
    is_member = labels[:, None, :] == np.arange(limit)[:, None]  # (b, limit, w)
    weights = is_member * block.weights[:, None, :]
    totals = weights.sum(axis=2)
    costs = np.where(is_member, weights @ block.squares, np.inf)
    medoids = costs.argmin(axis=2)
    sums = weights.astype(np.float32) @ block.vectors
    lengths = np.linalg.norm(sums, axis=2, keepdims=True)
    medoid_vectors = np.take_along_axis(block.vectors, medoids[:, :, None], axis=1)
    has_direction = lengths > 1e-6 * totals[:, :, None]
    units = np.where(has_direction, sums / np.maximum(lengths, 1e-30), medoid_vectors)
    bit = np.uint64(1) << np.arange(is_member.shape[2], dtype=np.uint64)
    bits = np.where(has_direction[:, :, 0], (is_member * bit).sum(axis=2, dtype=np.uint64), bit[medoids])
    interests = np.zeros(totals.shape, dtype=record_type)
    interests["medoid"], interests["items"], interests["vector"] = medoids, bits, units
    interests["importance"] = totals / totals.sum(axis=1, keepdims=True)
    order = np.lexsort((medoids, -totals))
    return [interests[row, ranks][totals[row, ranks] > 0].tobytes() for row, ranks in enumerate(order)]


def _pad_rows(largest: sparse.csr_array, vectors: Vectors) -> _Block:
    sizes = np.diff(largest.indptr).astype(np.int64)
    is_item = np.arange(sizes.max())[None, :] < sizes[:, None]
    weights = np.zeros(is_item.shape)
    weights[is_item] = largest.data
    padded = np.zeros((*is_item.shape, vectors.shape[1]), dtype=np.float32)
    padded[is_item] = vectors[largest.indices]
    cosines = padded @ padded.transpose(0, 2, 1)
    return _Block(sizes, weights, padded, np.maximum(2.0 - 2.0 * cosines, 0.0))
