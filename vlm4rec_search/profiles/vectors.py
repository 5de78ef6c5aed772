"""The profile vector: one direction for a whole history."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from vlm4rec_search.profiles.histories import Floats, Integers, Vectors, histories, stacked, vector_column
from vlm4rec_search.profiles.incremental import computed_once

_MAKER = "mean@1"  # raise it when the vector of the same weights changes
_ZERO = 1e-9  # a sum this much shorter than its parts has cancelled out


def user_vectors(weights: pd.DataFrame, items: pd.DataFrame, cache: Path | None = None) -> pd.DataFrame:
    """Return the unit-length weighted sum of the vectors of each user's items.

    Args:
        weights: user_id, item_id, weight; weights may be negative, a repeated pair adds up.
        items: item_id (unique), vector (float32 arrays of one length).
        cache: folder of results, so that users with the same weights are not computed again; None for none.

    Returns:
        user_id, items (int: embedded items with a weight), length (float: of the weighted sum before it was scaled
        to 1), vector (float32 of length 1, an Arrow list), by user_id. Users without an embedded item of positive
        weight, or whose weighted vectors cancel out, have no profile and are left out.

    Raises:
        RunError: vectors of different lengths, a weight that is not finite, or a cache that cannot be used.
    """
    found = histories(weights, items["item_id"])
    vectors = stacked(items["vector"])
    relative, scales = _scaled(found.matrix)
    summed = vectors.astype(np.float64)

    def compute(rows: Integers) -> list[bytes]:
        return _sums(relative[rows], summed)

    results = computed_once("profile", _MAKER, relative, vectors, compute, cache)
    keep = np.array([row for row, value in enumerate(results) if value], dtype=np.int64)
    sums = np.frombuffer(b"".join(results), dtype=_record(vectors))
    columns = {
        "user_id": found.user_ids[keep],
        "items": np.diff(found.matrix.indptr)[keep].astype(np.int64),
        "length": sums["length"] * scales[keep],
    }
    return pd.DataFrame({**columns, "vector": vector_column(np.ascontiguousarray(sums["vector"]))})


def _record(vectors: Vectors | Floats) -> np.dtype[np.void]:
    """Describe a result: length of the weighted sum, and its direction."""
    return np.dtype([("length", "<f8"), ("vector", "<f4", (vectors.shape[1],))])


def _scaled(matrix: sparse.csr_array) -> tuple[sparse.csr_array, Floats]:
    """Divide each row by its largest absolute weight, and return that too (1 for empty rows)."""
    scales = abs(matrix).max(axis=1).toarray().ravel() if matrix.shape[1] else np.zeros(matrix.shape[0])
    scales[scales == 0] = 1.0
    weights = matrix.data / np.repeat(scales, np.diff(matrix.indptr))
    return sparse.csr_array((weights, matrix.indices, matrix.indptr), shape=matrix.shape), scales


def _sums(block: sparse.csr_array, vectors: Floats) -> list[bytes]:
    """Return a record of each row as bytes, nothing for a row without a profile."""
    sums = block @ vectors
    lengths = np.linalg.norm(sums, axis=1)
    liked = sparse.csr_array(block > 0).sum(axis=1) > 0
    good = liked & (lengths > _ZERO * abs(block).sum(axis=1))
    found = np.zeros(len(good), dtype=_record(vectors))
    found["length"], found["vector"] = lengths, sums / np.where(good, lengths, 1)[:, None]
    return [found[row].tobytes() if good[row] else b"" for row in range(len(good))]
