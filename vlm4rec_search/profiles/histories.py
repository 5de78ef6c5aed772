"""Histories and item vectors as matrices, and matrices as columns of frames."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.vectors import Texts, Vectors


class Histories(NamedTuple):
    """The weights of u users for n items.

    Attributes:
        user_ids: (u,) ids as text, sorted.
        matrix: float64 (u, n) without stored zeros, with sorted columns.
    """

    user_ids: Texts
    matrix: sparse.csr_array


def build_histories(weights: pd.DataFrame, item_ids: pd.Series) -> Histories:
    """Return the matrix of the rows user_id, item_id, weight.

    The weights of a repeated pair are added. Items that are not in `item_ids` are left out.

    Raises:
        RunError: a weight is not finite.
    """
    values = weights["weight"].to_numpy(np.float64)
    if not np.isfinite(values).all():
        user = weights["user_id"].to_numpy()[~np.isfinite(values)][0]
        raise RunError(f"a profile weight of user {user!r} is not a finite number: correct profiles.profile_weights")
    rows, users = pd.factorize(weights["user_id"], sort=True)
    columns = pd.Index(item_ids).get_indexer(pd.Index(weights["item_id"]))
    known = columns >= 0
    cells = (values[known], (rows[known], columns[known]))
    matrix = sparse.coo_array(cells, shape=(len(users), len(item_ids))).tocsr()
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return Histories(np.asarray(users, dtype=object), matrix)


def stack_vectors(vectors: pd.Series) -> Vectors:
    """Return the vectors as float32 (n, d), or (0, 0) if there are none.

    Raises:
        RunError: the vectors have different lengths.
    """
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        raise RunError(f"item vectors have different lengths {sorted(lengths)}: embed all items with one encoder")
    return np.stack(list(vectors)).astype(np.float32) if lengths else np.zeros((0, 0), np.float32)


def keep_largest(matrix: sparse.csr_array, limit: int) -> sparse.csr_array:
    """Return a matrix with the `limit` largest positive weights of each row; of equal weights, the first columns."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    positive = matrix.data > 0
    rows, columns, values = rows[positive], matrix.indices[positive], matrix.data[positive]
    order = np.lexsort((columns, -values, rows))
    starts = np.searchsorted(rows, np.arange(matrix.shape[0]))
    largest = np.sort(order[np.arange(len(rows)) - starts[rows] < limit])
    return sparse.csr_array(sparse.coo_array((values[largest], (rows[largest], columns[largest])), shape=matrix.shape))


def vector_column(vectors: Vectors) -> pd.Series:
    """Return rows (n, d) as a column of Arrow lists, which DuckDB reads without a Python object for each number."""
    count, size = vectors.shape
    ends = pa.array(np.arange(count + 1, dtype=np.int64) * size)
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.LargeListArray.from_arrays(ends, pa.array(vectors.ravel()))))
