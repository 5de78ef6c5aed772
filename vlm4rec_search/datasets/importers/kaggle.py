"""Imports the paper's data: a folder of "Multimodal Recommendation" such as Clothing_Shoes_and_Jewelry-clip_clip.

Format: https://github.com/igui/Align-MacridVAE-data (the programs that made it). users.txt and items.txt number the
Amazon ids from 0. train.txt, validation.txt and test.txt are pairs `user,item` of those numbers, split at random within
each user. Row i of embed_image.npy and embed_text.npy is the vector of item i, all zero if the item has no photo or no
text. The folder has no times, titles, texts, photos or ratings.
"""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tokenize import TokenError

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.common.sql import quote_name
from vlm4rec_search.datasets.files import open_csv
from vlm4rec_search.datasets.importers.amazon import read_metadata
from vlm4rec_search.datasets.importers.write import (
    ABOUT_GIVEN,
    GIVEN_VECTORS,
    ImportSummary,
    Table,
    check_folders,
    connect,
    write_tables,
)

_CHUNK = 4096  # rows of vectors in memory at once: 4096 x 768 float64 are 25 MB
_SCHEMA = pa.schema([("item_id", pa.string()), ("vector", pa.list_(pa.float32()))])

Vectors = npt.NDArray[np.floating]

_BROKEN_ARRAY = (ValueError, TypeError, EOFError, OverflowError, SyntaxError, TokenError, MemoryError, RecursionError)
"""What numpy raises for a header that it cannot parse, or that claims an impossible shape."""

SPLITS = {"train": "2000-01-01", "validation": "2000-01-02", "test": "2000-01-03"}
"""A day for each split in place of times, which the data set does not have. With VLM4REC_AS_OF set to one of these days
the tables hold this split and the earlier ones, and nothing of the later ones."""

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
_INCOMPLETE_ITEMS = {"items_without_title": "title = item_id"}
_INCOMPLETE_INTERACTIONS = {
    "interactions_of_unknown_users": "user_id IS NULL",
    "interactions_of_unknown_items": "item_id IS NULL OR item_id NOT IN (SELECT id FROM items)",
}


def import_kaggle(source: Path, to: Path, meta: Path | None = None) -> ImportSummary:
    """Write the items, the interactions with their given split, and the given vectors into `to`.

    - items.parquet: `item_id` is the ASIN. Title, texts and the address of the photo come from `meta`; the title of an
      item that `meta` lacks is its id.
    - interactions.parquet: the column `split` is train, validation or test; `timestamp` is the day of the split.
    - image_vectors.parquet, text_vectors.parquet: item_id, vector FLOAT[] as given (float32, not normalised), without
      the items that have no vector.
    - GIVEN.json: the days, the dimensions of the vectors, and the counts of what was left out.

    Args:
        source: the folder of one data set.
        to: data folder; created if it does not exist. Tables of an earlier import are replaced.
        meta: Amazon item metadata, edition 2018 or 2023 (.json or .jsonl, one object per line; plain, .gz or .zst).

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
        items = _read_ids(connection, source / "items.txt", "items")
        _read_ids(connection, source / "users.txt", "users")
        vectors = {name: _open_vectors(source / f"embed_{name}.npy", len(items)) for name in ("image", "text")}

        def add_vectors(folder: Path, left_out: dict[str, int]) -> None:
            for name, array in vectors.items():
                left_out[f"items_without_{name}_vector"] = _write_vectors(folder / GIVEN_VECTORS[name], items, array)
            dimensions = {GIVEN_VECTORS[name]: {"dimension": array.shape[1]} for name, array in vectors.items()}
            _write_about(folder, dimensions, left_out)

        tables = _read_tables(connection, source, meta)
        return write_tables(connection, tables, source, to, images=meta is not None, add_files=add_vectors)


def _read_ids(connection: duckdb.DuckDBPyConnection, path: Path, view: str) -> list[str]:
    """Create a view (id, number) of users.txt or items.txt, and return the ids in the order of their numbers.

    In these files the header of the first column is empty, and in users.txt the second one is 0.
    """
    relation = open_csv(connection, path, [])
    if len(relation.columns) != 2:
        raise UsageError(f"{path} has the columns {', '.join(relation.columns)}; an id and its number were expected")
    first, second = map(quote_name, relation.columns)
    relation.project(f"{first} AS id, TRY_CAST({second} AS BIGINT) AS number").create_view(view)
    rows = connection.view(view).order("number NULLS FIRST").fetchall()
    if [number for _, number in rows] != list(range(len(rows))) or any(name is None for name, _ in rows):
        raise UsageError(f"{path} does not number its rows 0, 1, 2 ...: all other files refer to these numbers")
    ids = [str(name) for name, _ in rows]
    if repeated := next((name for name, times in Counter(ids).items() if times > 1), None):
        raise UsageError(f"{path} gives {repeated} more than one number, so its rows and vectors cannot be told apart")
    return ids


def _read_tables(connection: duckdb.DuckDBPyConnection, source: Path, meta: Path | None) -> dict[str, Table]:
    pairs = [
        open_csv(connection, source / f"{split}.txt", ("user", "item")).project(
            f""""user", item, {_number("user")} AS user_number, {_number("item")} AS item_number,
            '{split}' AS split, '{day}' AS day"""
        )
        for split, day in SPLITS.items()
    ]
    pairs[0].union(pairs[1]).union(pairs[2]).create_view("pairs")
    no_texts = "SELECT NULL::TEXT AS item_id, NULL::TEXT AS title"
    texts = read_metadata(connection, meta) if meta else connection.sql(no_texts)
    texts.create_view("texts")
    return {
        "items": Table(connection.sql(_ITEMS), meta or source / "items.txt", _INCOMPLETE_ITEMS),
        "interactions": Table(connection.sql(_INTERACTIONS), source, _INCOMPLETE_INTERACTIONS),
    }


def _number(column: str) -> str:
    """Return SQL for the number of a user or item; NULL for other text, which a cast alone would round to a number."""
    return f"TRY_CAST(REGEXP_EXTRACT({quote_name(column)}, '^(\\d+)(\\.0*)?$', 1) AS BIGINT)"


def _write_about(folder: Path, vectors: dict[str, dict[str, int]], left_out: dict[str, int]) -> None:
    """Write GIVEN.json, which says that the days are no real times and that the vectors were given."""
    about = {
        "times": "the data set has none; each split has a day that stands in for its times",
        "splits": SPLITS,
        "vectors": vectors,
        "left_out": left_out,
    }
    (folder / ABOUT_GIVEN).write_text(json.dumps(about, indent=2) + "\n")


def _open_vectors(path: Path, rows: int) -> Vectors:
    """Map a .npy file of shape (rows, dimension) and any float type into memory; pickled objects are refused.

    Raises:
        UsageError: the file holds no such array, or one with another number of rows.
    """
    try:
        with np.errstate(over="ignore"):  # a header may claim any shape; numpy warns, then refuses
            array: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN_ARRAY as error:
        # The first sentence only: the next one recommends loading pickled objects.
        raise UsageError(f"{path} cannot be read as a plain numpy array: {str(error).split('. ')[0]}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        raise UsageError(f"{path} is no matrix of floating-point numbers")
    if len(array) != rows:
        raise UsageError(f"{path} has {len(array)} rows for {rows} items; it belongs to another data set")
    return array


def _write_vectors(path: Path, ids: Sequence[str], vectors: Vectors) -> int:
    """Write (item_id, vector FLOAT[]) as Parquet, and return the number of rows that were left out.

    A row is left out if all its values are zero or one is not finite.

    Args:
        path: file to write; replaced in one step.
        ids: item id of each row of `vectors`.
        vectors: shape (n, d), any float type; written as float32.
    """
    written = 0
    with replacing_file(path) as part, pq.ParquetWriter(part, _SCHEMA, compression="zstd") as writer:
        for start in range(0, len(ids), _CHUNK):
            with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite
                chunk = np.asarray(vectors[start : start + _CHUNK], dtype=np.float32)
            sound = np.flatnonzero(np.isfinite(chunk).all(axis=1) & chunk.any(axis=1))
            writer.write_table(_table([ids[start + row] for row in sound.tolist()], chunk[sound]))
            written += len(sound)
    return len(ids) - written


def _table(ids: list[str], chunk: npt.NDArray[np.float32]) -> pa.Table:
    offsets = np.arange(len(chunk) + 1, dtype=np.int32) * chunk.shape[1]
    vectors = pa.ListArray.from_arrays(offsets, chunk.ravel())
    return pa.Table.from_arrays([pa.array(ids, pa.string()), vectors], schema=_SCHEMA)
