"""Histories and item vectors as matrices, and matrices as columns of frames."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import sparse
from sqlglot import exp

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.python_models import BATCH
from vlm4rec_search.common.vectors import Ints, Mask, Texts, Vectors
from vlm4rec_search.profiles.numbered import read_numbered

Number = TypeVar("Number", bound=np.generic)


class Histories(NamedTuple):
    """The weights of u users for n items.

    Attributes:
        user_ids: (u,) ids as text, sorted.
        matrix: float64 (u, n) without stored zeros, with sorted columns.
    """

    user_ids: Texts
    matrix: sparse.csr_array


def read_weights(fetch: Callable[[exp.Expr], pd.DataFrame], weights: str) -> pd.DataFrame:
    """Return user_id, item_id and weight of a table such as profiles.profile_weights; the ids are categories.

    As texts, the ids of 20 million rows would take 2.4 GB more.

    Args:
        fetch: returns the rows of a query.
        weights: name of the table.
    """
    user_ids, item_ids, rows = read_numbered(fetch, weights, "given.weight")

    def texts(numbers: str, ids: Texts) -> pd.Categorical:
        return pd.Categorical.from_codes(rows[numbers].to_numpy(np.int32), pd.Index(ids, dtype=object))

    columns = {"user_id": texts("user_number", user_ids), "item_id": texts("item_number", item_ids)}
    return pd.DataFrame({**columns, "weight": rows["weight"]})


def build_histories(weights: pd.DataFrame, item_ids: pd.Series) -> Histories:
    """Return the matrix of the rows user_id, item_id, weight.

    The weights of a repeated pair are added. Items that are not in `item_ids` are left out.

    Raises:
        RunError: a weight is not finite.
    """
    values = weights["weight"].to_numpy(np.float64)
    if not np.isfinite(values).all():
        user = weights["user_id"][~np.isfinite(values)].iloc[0]
        raise RunError(f"a profile weight of user {user!r} is not a finite number: correct profiles.profile_weights")
    rows, users = pd.factorize(weights["user_id"], sort=True)
    codes, items = pd.factorize(weights["item_id"])
    columns = pd.Index(item_ids).get_indexer(np.asarray(items, dtype=object))[codes]
    known = columns >= 0
    cells = (values[known], (rows[known], columns[known]))
    matrix = sparse.coo_array(cells, shape=(len(users), len(item_ids))).tocsr()
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return Histories(np.asarray(users, dtype=object), matrix)


def read_item_vectors(fetch: Callable[[exp.Expr], pd.DataFrame], embeddings: str, weights: str) -> pd.DataFrame:
    """Return item_id and vector (Arrow lists) of the items with a weight, by item_id.

    They are read in batches: as an array for each item, the vectors of a million items would take twice their memory.

    Args:
        fetch: returns the rows of a query.
        embeddings: name of a table of items, such as embeddings.item_embeddings.
        weights: name of a table such as profiles.profile_weights.

    Raises:
        RunError: the vectors have different lengths.
    """

    def items(*columns: str, within: exp.Expr | None = None) -> pd.DataFrame:
        weighed = exp.column("item_id").isin(query=exp.select("item_id").from_(weights).where(within))
        return fetch(exp.select(*columns).from_(embeddings).where(within, weighed).order_by("item_id"))

    ids = items("item_id")["item_id"].to_numpy(object)
    vectors = np.zeros((0, 0), np.float32)
    for low in range(0, len(ids), BATCH):
        last = ids[min(low + BATCH, len(ids)) - 1]
        within = exp.column("item_id").between(exp.Literal.string(ids[low]), exp.Literal.string(last))
        batch = stack_vectors(items("vector", within=within)["vector"])
        if not low:
            vectors = np.empty((len(ids), batch.shape[1]), np.float32)
        _check_lengths({batch.shape[1], vectors.shape[1]})
        vectors[low : low + BATCH] = batch
    return pd.DataFrame({"item_id": ids, "vector": vector_column(vectors)})


def stack_vectors(vectors: pd.Series) -> Vectors:
    """Return the vectors, arrays or Arrow lists, as float32 (n, d), or (0, 0) if there are none.

    Raises:
        RunError: the vectors have different lengths.
    """
    if isinstance(vectors.array, pd.arrays.ArrowExtensionArray):
        lists = pa.array(vectors.array)
        lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists  # which makes a copy
        _check_lengths(set(lists.value_lengths().unique().to_pylist()))
        numbers: Vectors = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
        return numbers.reshape(len(lists), len(numbers) // max(len(lists), 1))
    lengths = {len(vector) for vector in vectors}
    _check_lengths(lengths)
    return np.stack(list(vectors)).astype(np.float32) if lengths else np.zeros((0, 0), np.float32)


def _check_lengths(lengths: set[int]) -> None:
    if len(lengths) > 1:
        raise RunError(f"item vectors have different lengths {sorted(lengths)}: embed all items with one encoder")


class Cells(NamedTuple):
    """Cells of a matrix, by row and rank.

    Attributes:
        rows, columns: where they are.
        values: what they hold.
        ranks: place among the kept cells of the row, from 1.
    """

    rows: Ints
    columns: Ints
    values: npt.NDArray[np.floating]
    ranks: Ints


def largest_cells(matrix: sparse.csr_array, limit: int) -> Cells:
    """Return the `limit` largest positive cells of each row; equal ones are ordered by column."""
    kept = _are_largest(matrix, limit)
    rows = of_cells(matrix, np.arange(matrix.shape[0]))[kept]
    columns, values = matrix.indices[kept].astype(np.int64), matrix.data[kept]
    order = np.lexsort((columns, -values, rows))  # some rows have more than `limit`, where cells are equal
    rows, columns, values = rows[order], columns[order], values[order]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
    first = ranks <= limit
    return Cells(rows[first], columns[first], values[first], ranks[first])


def _are_largest(matrix: sparse.csr_array, limit: int) -> Mask:
    """Return whether each stored cell is positive and among the `limit` largest of its row, or equal to the last."""
    return (matrix.data > 0) & (matrix.data >= of_cells(matrix, nth_largest(matrix, limit)))


def nth_largest(matrix: sparse.csr_array, limits: Ints | int) -> npt.NDArray[np.floating]:
    """Return the value of the n-th largest stored cell of each row, -inf for rows with fewer, in the matrix's dtype.

    Args:
        matrix: of r rows.
        limits: n of all rows, or of each (r,).
    """
    ends, each = pairwise(matrix.indptr), np.broadcast_to(limits, matrix.shape[0])
    found = (
        np.partition(matrix.data[start:end], -limit)[-limit] if end - start >= limit else -np.inf
        for (start, end), limit in zip(ends, each.tolist(), strict=True)
    )
    return np.fromiter(found, matrix.data.dtype, matrix.shape[0])


def of_cells(matrix: sparse.csr_array, of_rows: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the value of its row for each stored cell, (cells,) of (rows,)."""
    return np.repeat(of_rows, np.diff(matrix.indptr))


def keep_largest(matrix: sparse.csr_array, limit: int) -> sparse.csr_array:
    """Return a matrix with the `limit` largest positive cells of each row; of equal ones, the first columns."""
    kept = _are_largest(matrix, limit)
    ends = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    if np.diff(ends).max(initial=0) > limit:  # equal cells
        rows, columns, values, _ = largest_cells(matrix, limit)
        return sparse.csr_array(sparse.coo_array((values, (rows, columns)), shape=matrix.shape))
    return sparse.csr_array((matrix.data[kept], matrix.indices[kept], ends), shape=matrix.shape)


def row_blocks(work: npt.NDArray[np.number], most: int) -> list[tuple[int, int]]:
    """Return the first row and the end of blocks of rows, in order: of at most so much work, or of one row.

    Args:
        work: of each row, (r,).
        most: of a block.
    """
    done = np.concatenate([[0.0], np.cumsum(work, dtype=np.float64)])
    blocks: list[tuple[int, int]] = []
    low = 0
    while low < len(work):
        high = max(low + 1, int(np.searchsorted(done, done[low] + most, side="right")) - 1)
        blocks.append((low, high))
        low = high
    return blocks


def vector_column(vectors: Vectors) -> pd.Series:
    """Return rows (n, d) as a column of Arrow lists, which DuckDB reads without a Python object for each number."""
    count, size = vectors.shape
    ends = pa.array(np.arange(count + 1, dtype=np.int64) * size)
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.LargeListArray.from_arrays(ends, pa.array(vectors.ravel()))))
