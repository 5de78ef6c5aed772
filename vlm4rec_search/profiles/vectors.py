"""The profile vector: the direction of a whole history."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from vlm4rec_search.common.vectors import Floats, Ints, Vectors
from vlm4rec_search.profiles.histories import build_histories, stack_vectors, vector_column
from vlm4rec_search.profiles.incremental import compute_changed_rows

_PRODUCER = "mean@1"  # raise it when the vector of the same weights changes
_ZERO = 1e-9  # weighted vectors have cancelled out if their sum is shorter than this share of their lengths


def user_vectors(weights: pd.DataFrame, items: pd.DataFrame, cache: Path | None = None) -> Iterator[pd.DataFrame]:
    """Yield the unit-length weighted sum of the vectors of each user's items, in blocks of users.

    Args:
        weights: user_id, item_id, weight; weights may be negative, those of a repeated pair are added.
        items: item_id (unique), vector (float32 arrays of one length).
        cache: folder of results, so that users with unchanged weights are not computed again; None for no cache.

    Yields:
        Rows by user_id, and one empty frame where there are none: user_id, items (int, embedded items with a weight),
        length (float, the length of the weighted sum before it is scaled to 1), vector (float32 of length 1, an Arrow
        list). A user without an embedded item of positive weight, or whose weighted vectors cancel out, has no profile
        and no row.

    Raises:
        RunError: the vectors have different lengths, a weight is not finite, or the cache cannot be used.
    """
    histories = build_histories(weights, items["item_id"])
    vectors = stack_vectors(items["vector"])
    relative, scales = _scale_rows(histories.matrix)

    def compute(rows: Ints) -> list[bytes]:
        return _sum_vectors(relative[rows], vectors)

    counts = np.diff(histories.matrix.indptr)
    for rows, results in compute_changed_rows("profile", _PRODUCER, relative, vectors, compute, cache):
        with_profile = rows[[bool(record) for record in results]]
        sums = np.frombuffer(b"".join(results), dtype=_record_type(vectors))
        columns = {
            "user_id": histories.user_ids[with_profile],
            "items": counts[with_profile].astype(np.int64),
            "length": sums["length"] * scales[with_profile],
        }
        yield pd.DataFrame({**columns, "vector": vector_column(np.ascontiguousarray(sums["vector"]))})


def _record_type(vectors: Vectors) -> np.dtype[np.void]:
    """Return the type of a stored result: length and direction of the weighted sum."""
    return np.dtype([("length", "<f8"), ("vector", "<f4", (vectors.shape[1],))])


def _scale_rows(matrix: sparse.csr_array) -> tuple[sparse.csr_array, Floats]:
    """Divide each row by its largest absolute weight; return the matrix and the divisors (1 for empty rows)."""
    scales = abs(matrix).max(axis=1).toarray().ravel() if matrix.shape[1] else np.zeros(matrix.shape[0])
    scales[scales == 0] = 1.0
    weights = matrix.data / np.repeat(scales, np.diff(matrix.indptr))
    return sparse.csr_array((weights, matrix.indices, matrix.indptr), shape=matrix.shape), scales


def _sum_vectors(block: sparse.csr_array, vectors: Vectors) -> list[bytes]:
    """Return the record of each row as bytes, b"" for a row without a profile."""
    items = np.unique(block.indices)  # as doubles, the vectors of a whole catalogue would take twice their memory
    sums = block[:, items] @ vectors[items].astype(np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    has_positive = sparse.csr_array(block > 0).sum(axis=1) > 0
    has_profile = has_positive & (lengths > _ZERO * abs(block).sum(axis=1))
    records = np.zeros(len(sums), dtype=_record_type(vectors))
    records["length"], records["vector"] = lengths, sums / np.where(has_profile, lengths, 1)[:, None]
    return [records[row].tobytes() if has_profile[row] else b"" for row in range(len(records))]
