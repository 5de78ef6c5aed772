"""Imports the paper's data: a folder of "Multimodal Recommendation" such as Clothing_Shoes_and_Jewelry-clip_clip.

Format: https://github.com/igui/Align-MacridVAE-data (the programs that made it). users.txt and items.txt number the
Amazon ids from 0; train.txt, validation.txt and test.txt are pairs `user,item` of those numbers, split at random within
each user; row i of embed_image.npy and embed_text.npy is the vector of item i, all zero where the item had no photo or
text. The folder has no times, titles, texts, photos or ratings.
"""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tokenize import TokenError

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.files import open_csv, quoted
from vlm4rec_search.datasets.importers.amazon import metadata
from vlm4rec_search.datasets.importers.write import (
    ABOUT_GIVEN,
    GIVEN_VECTORS,
    ImportSummary,
    Table,
    check_folders,
    connect,
    count,
    write_tables,
)

# Vectors that a data set brings along: from .npy, memory-mapped, to Parquet, a chunk at a time.

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


SPLITS = {"train": "2000-01-01", "validation": "2000-01-02", "test": "2000-01-03"}
"""The day that stands in for the times of each split, which the data set does not have: whoever takes one of these days
as the moment of the tables sees this split and those before it, and nothing of the later ones."""

_FILES = ("items.txt", "users.txt", *(f"{split}.txt" for split in SPLITS), "embed_image.npy", "embed_text.npy")
_ITEMS = """
  SELECT
    items.id AS item_id,
    COALESCE(NULLIF(TRIM(texts.title), ''), items.id) AS title,
    texts.* EXCLUDE (item_id, title),
    items.number AS item_number
  FROM items
  LEFT JOIN (
    SELECT * FROM texts
    WHERE item_id IN (SELECT id FROM items)
    QUALIFY ROW_NUMBER() OVER (PARTITION BY item_id) = 1
  ) AS texts
    ON texts.item_id = items.id
  ORDER BY items.number
"""
_INTERACTIONS = """
  SELECT
    users.id AS user_id,
    COALESCE(items.id, pairs.item) AS item_id,
    pairs.day AS timestamp,
    'review' AS event_type,
    pairs.split,
    pairs.user AS user_number,
    pairs.item AS item_number
  FROM pairs
  LEFT JOIN items ON items.number = pairs.item_number
  LEFT JOIN users ON users.number = pairs.user_number
  ORDER BY timestamp, pairs.user_number, pairs.item_number
"""


def import_kaggle(source: Path, to: Path, meta: Path | None = None) -> ImportSummary:
    """Write the items, the interactions with their given split, and the given vectors into `to`.

    - items.parquet: `item_id` is the ASIN. Title, texts and the address of the photo come from `meta`; an item that is
      not in it has its id for a title.
    - interactions.parquet: the column `split` is train, validation or test; `timestamp` is the day of the split.
    - image_vectors.parquet, text_vectors.parquet: item_id, vector FLOAT[] as given (float32, not normalised); items
      without a vector are left out.
    - GIVEN.json says all this, with counts.

    Args:
        source: the folder of one data set.
        to: data folder; made when absent. Tables of an earlier import are replaced.
        meta: Amazon item metadata, edition 2018 or 2023 (.json or .jsonl, one object a line; plain, .gz or .zst).

    Raises:
        UsageError: a file is missing, cannot be read or does not fit the others, or `to` holds a table in another
            format.
    """
    check_folders(source, to, {"items", "interactions"})
    if missing := [source / name for name in _FILES if not (source / name).is_file()]:
        raise UsageError(f"there is no file {missing[0]}: SRC is the folder of one data set, with {', '.join(_FILES)}")
    if meta and not meta.is_file():
        raise UsageError(f"there is no file {meta}: --meta is a file of Amazon item metadata")
    with closing(connect()) as connection:
        items, _ = (_numbered(connection, source / f"{view}.txt", view) for view in ("items", "users"))
        vectors = {name: open_vectors(source / f"embed_{name}.npy", len(items)) for name in ("image", "text")}
        tables = _tables(connection, source, meta)
        finish = partial(_write_given, connection, items, vectors)
        return write_tables(connection, tables, source, to, images=meta is not None, finish=finish)


def _numbered(connection: duckdb.DuckDBPyConnection, path: Path, view: str) -> list[str]:
    """Make a view (id, number) of users.txt or items.txt; return the ids in order of number.

    The header of the first column is empty in these files, and in users.txt the second is called 0.
    """
    relation = open_csv(connection, path, [])
    if len(relation.columns) != 2:
        raise UsageError(f"{path} has the columns {', '.join(relation.columns)}; an id and its number were expected")
    first, second = map(quoted, relation.columns)
    relation.project(f"{first} AS id, TRY_CAST({second} AS BIGINT) AS number").create_view(view)
    rows = connection.view(view).order("number NULLS FIRST").fetchall()
    if [number for _, number in rows] != list(range(len(rows))) or any(name is None for name, _ in rows):
        raise UsageError(f"{path} does not number its rows 0, 1, 2 ...: everything else goes by that number")
    ids = [str(name) for name, _ in rows]
    if twice := next((name for name, times in Counter(ids).items() if times > 1), None):
        raise UsageError(f"{path} gives {twice} more than one number: whose rows and vectors are its own?")
    return ids


def _tables(connection: duckdb.DuckDBPyConnection, source: Path, meta: Path | None) -> dict[str, Table]:
    pairs = [
        open_csv(connection, source / f"{split}.txt", ("user", "item")).project(
            f""""user", item, {_number("user")} AS user_number, {_number("item")} AS item_number,
            '{split}' AS split, '{day}' AS day"""
        )
        for split, day in SPLITS.items()
    ]
    pairs[0].union(pairs[1]).union(pairs[2]).create_view("pairs")
    texts = metadata(connection, meta) if meta else connection.sql("SELECT NULL::TEXT AS item_id, NULL::TEXT AS title")
    texts.create_view("texts")
    return {
        "items": Table(connection.sql(_ITEMS), meta or source / "items.txt"),
        "interactions": Table(connection.sql(_INTERACTIONS), source),
    }


def _number(column: str) -> str:
    """SQL: the number of a user or item; NULL for anything else, which a cast alone would round to somebody's."""
    return f"TRY_CAST(REGEXP_EXTRACT({quoted(column)}, '^(\\d+)(\\.0*)?$', 1) AS BIGINT)"


def _write_given(
    connection: duckdb.DuckDBPyConnection, items: list[str], vectors: dict[str, Vectors], folder: Path
) -> dict[str, int]:
    """Write the vectors and GIVEN.json beside the tables; return what was left out."""
    left_out = _left_out(connection, folder)
    for name, array in vectors.items():
        left_out[f"items_without_{name}_vector"] = write_vectors(folder / GIVEN_VECTORS[name], items, array)
    _tell(folder, left_out, {name: array.shape[1] for name, array in vectors.items()})
    return left_out


def _left_out(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, int]:
    items, interactions = folder / "items.parquet", folder / "interactions.parquet"
    unknown = "item_id IS NULL OR item_id NOT IN (SELECT id FROM items)"
    return {
        "items_without_title": count(connection, items, "title = item_id"),
        "interactions_of_unknown_users": count(connection, interactions, "user_id IS NULL"),
        "interactions_of_unknown_items": count(connection, interactions, unknown),
    }


def _tell(folder: Path, left_out: dict[str, int], dimensions: dict[str, int]) -> None:
    """Write GIVEN.json, so that nobody takes the days for times, or the vectors for this product's own."""
    about = {
        "times": "the data set has none; each split has a day that stands in for its times",
        "splits": SPLITS,
        "vectors": {GIVEN_VECTORS[name]: {"dimension": size} for name, size in dimensions.items()},
        "left_out": left_out,
    }
    (folder / ABOUT_GIVEN).write_text(json.dumps(about, indent=2) + "\n")
