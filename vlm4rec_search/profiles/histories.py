"""Histories and item vectors as matrices."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.errors import RunError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Texts = npt.NDArray[np.object_]


class Histories(NamedTuple):
    """The weights of u users for n items: user_ids sorted, matrix (u, n) float64 without zeros, columns in order."""

    user_ids: Texts
    matrix: sparse.csr_array


def histories(weights: pd.DataFrame, item_ids: pd.Series) -> Histories:
    """Return a matrix of user_id, item_id, weight; a repeated pair adds up, items not in `item_ids` are left out.

    Raises:
        RunError: a weight that is not finite.
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


def stacked(vectors: pd.Series) -> Vectors:
    """Return float32 (n, d), (0, 0) for no vectors.

    Raises:
        RunError: vectors of different lengths.
    """
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        raise RunError(f"item vectors have different lengths {sorted(lengths)}: embed all items with one encoder")
    return np.stack(list(vectors)).astype(np.float32) if lengths else np.zeros((0, 0), np.float32)


def strongest(matrix: sparse.csr_array, most: int) -> sparse.csr_array:
    """Return the most positive weights of each row, at most `most`; equal ones by column."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    positive = matrix.data > 0
    rows, columns, values = rows[positive], matrix.indices[positive], matrix.data[positive]
    order = np.lexsort((columns, -values, rows))
    starts = np.searchsorted(rows, np.arange(matrix.shape[0]))
    kept = np.sort(order[np.arange(len(rows)) - starts[rows] < most])
    return sparse.csr_array(sparse.coo_array((values[kept], (rows[kept], columns[kept])), shape=matrix.shape))


def vector_column(vectors: Vectors) -> pd.Series:
    """Return rows (n, d) as a column of lists that DuckDB takes over without a Python object for each number."""
    import pyarrow as pa

    count, size = vectors.shape
    ends = pa.array(np.arange(count + 1, dtype=np.int64) * size)
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.LargeListArray.from_arrays(ends, pa.array(vectors.ravel()))))
