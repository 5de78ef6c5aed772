"""Vectors that a data set brings along: from .npy, memory-mapped, to Parquet, a chunk at a time."""

from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vlm4rec_search.common.errors import UsageError

_CHUNK = 4096  # rows: 4096 x 768 float64 are 25 MB
_SCHEMA = pa.schema([("item_id", pa.string()), ("vector", pa.list_(pa.float32()))])

Vectors = npt.NDArray[np.floating]

_NO_ARRAY = (ValueError, TypeError, EOFError, OverflowError, SyntaxError, TokenError, MemoryError, RecursionError)
"""What numpy raises for headers that are no header, or claim a shape that cannot be."""


def open_vectors(path: Path, rows: int) -> Vectors:
    """Map a .npy file of shape (rows, dimension), any float type, into memory; pickled objects are refused.

    Raises:
        UsageError: the file is no such array, or has another number of rows.
    """
    try:
        with np.errstate(over="ignore"):  # a header may claim any shape; numpy warns, then refuses
            array: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except _NO_ARRAY as error:
        # The first sentence alone: numpy goes on to recommend loading pickled objects.
        raise UsageError(f"{path} cannot be read as a plain numpy array: {str(error).split('. ')[0]}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        raise UsageError(f"{path} is no matrix of floating-point numbers")
    if len(array) != rows:
        raise UsageError(f"{path} has {len(array)} rows for {rows} items; it belongs to another data set")
    return array


def write_vectors(path: Path, ids: Sequence[str], vectors: Vectors) -> int:
    """Write (item_id, vector FLOAT[]) as Parquet; return how many rows, all zero or not finite, were left out.

    Args:
        path: file to write; replaced in one step.
        ids: item id of each row of `vectors`.
        vectors: shape (n, d), any float type; written as float32.
    """
    part, kept = path.with_name(f".{path.name}.part"), 0
    try:
        with pq.ParquetWriter(part, _SCHEMA, compression="zstd") as writer:
            for start in range(0, len(ids), _CHUNK):
                with np.errstate(over="ignore"):  # too large for float32: infinite, so left out
                    chunk = np.asarray(vectors[start : start + _CHUNK], dtype=np.float32)
                sound = np.flatnonzero(np.isfinite(chunk).all(axis=1) & chunk.any(axis=1))
                writer.write_table(_table([ids[start + row] for row in sound.tolist()], chunk[sound]))
                kept += len(sound)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return len(ids) - kept


def _table(ids: list[str], chunk: npt.NDArray[np.float32]) -> pa.Table:
    offsets = np.arange(len(chunk) + 1, dtype=np.int32) * chunk.shape[1]
    vectors = pa.ListArray.from_arrays(offsets, chunk.ravel())
    return pa.Table.from_arrays([pa.array(ids, pa.string()), vectors], schema=_SCHEMA)
