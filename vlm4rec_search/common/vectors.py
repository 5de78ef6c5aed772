"""Arrays that the whole package shares: their types, unit rows, the exact scan, and the largest values of rows."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vlm4rec_search.common.errors import RunError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Scores: TypeAlias = npt.NDArray[np.float32]
Vectors: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Texts: TypeAlias = npt.NDArray[np.object_]
Times: TypeAlias = npt.NDArray[np.datetime64]

UNIT_TOLERANCE = 2e-3
"""How far the squared length of a unit vector may be from 1: the length by 0.001, as in `audits/vectors.sql`."""


def unit_rows(rows: npt.NDArray[np.floating]) -> Vectors:
    """Scale each row of (n, d) to length 1; a row of zeros becomes the row of equal components.

    Raises:
        RunError: a number is not finite: the model or its weights are damaged, and nothing of it may be kept.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise RunError("the encoder returned numbers that are not finite: its weights or the model are damaged")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    equal = np.full_like(rows, 1.0 / np.sqrt(rows.shape[1]))
    return np.where(norms > 0.0, rows / np.where(norms > 0.0, norms, 1.0), equal).astype(np.float32)


def unit(rows: Scores) -> Scores:
    """Return float32 rows (n, d) scaled to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Scores = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def cosines(vectors: Vectors, query: Vectors) -> Vectors:
    """Return the cosine of every unit row (n, d) with a unit vector (d,), float32 (n,), rounded to 6 decimals.

    By `vecdot`, which computes every row alike, so that equal vectors tie, and in one thread: the scan is bound by
    memory, and a threaded BLAS waits for its slowest thread whenever the machine is busy.
    """
    found: Vectors = np.vecdot(vectors, query).round(6)
    return found


def largest_columns(values: npt.NDArray[np.floating], count: int) -> Ints:
    """Return the columns of the largest values of each row, best first, equal values by column, int64 (b, k).

    Where equal values stand at the end of a list, any of them may be left out.

    Args:
        values: (b, n).
        count: k is this, or n where that is less.
    """
    kept = min(count, values.shape[1])
    if kept == 0:
        return np.zeros((len(values), 0), dtype=np.int64)
    columns = np.sort(np.argpartition(-values, kept - 1, axis=1)[:, :kept], axis=1)
    order = np.argsort(-np.take_along_axis(values, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1).astype(np.int64)
