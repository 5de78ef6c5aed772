"""The rows of embeddings.item_embeddings and embeddings.image_embeddings, through the cache of model calls."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from vlm4rec_search.common import maven
from vlm4rec_search.common.cache import Cache, Codec, Failure, Results, result_key
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.python_models import nullable_texts
from vlm4rec_search.common.vectors import Vectors
from vlm4rec_search.datasets.photos.decode import PREPROCESSING, Photo, PhotoFile, read_photos
from vlm4rec_search.datasets.photos.locate import NO_FETCH, FetchPolicy, locate_photos
from vlm4rec_search.embeddings.encoders import NO_PHOTOS, load_image_encoder, load_sentence_encoder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Input = TypeVar("Input")
TEXT_BATCH = 256
PHOTO_BATCH = 32
SPARK_BATCH = 20_000
"""Results that Spark's workers make before they are kept; a killed plan loses no more."""
VECTOR: Codec[Vectors] = Codec(
    lambda vector: vector.astype("<f4").tobytes(), lambda stored: np.frombuffer(stored, dtype="<f4")
)


def embed_texts(
    texts: pd.DataFrame,
    encoder: str,
    cache: Path,
    weights_source: str = maven.CENTRAL,
    session: "SparkSession | None" = None,
) -> pd.DataFrame:
    """Encode the text of each item; equal texts are encoded once.

    Args:
        texts: columns item_id and text; null counts as an empty text.
        encoder: name for `load_sentence_encoder`.
        cache: folder of the results of model calls.
        weights_source: for `load_sentence_encoder`.
        session: of Spark, whose workers then encode what the cache does not have; else this process does.

    Returns:
        One row for each item, in the order of `texts`: item_id, encoder (id), text_hash (sha256 of the UTF-8 text) and
        vector (float32 (d,), length 1).

    Raises:
        UsageError: the encoder is unknown, or a package that it needs is not installed.
        RunError: the cache or the weights cannot be used.
    """
    loaded = load_sentence_encoder(encoder, weights_source)
    item_texts = [text or "" for text in nullable_texts(texts["text"])]
    distinct = sorted(set(item_texts), key=lambda text: (len(text), text))  # texts of similar length need less padding
    hashes = {text: text_hash(text) for text in distinct}
    keys = {text: result_key("sentence", loaded.id, hashes[text]) for text in distinct}
    with Cache(cache) as store:
        results = store.get_or_compute(
            "sentence",
            loaded.id,
            {key: text for text, key in keys.items()},
            _in_workers(partial(_encode_texts, encoder, weights_source), TEXT_BATCH, session),
            VECTOR,
            batch_size=SPARK_BATCH if session else TEXT_BATCH,
            label=f"text vectors by {loaded.id}",
        )
    _check_vectors(results, loaded.id)
    rows = zip(texts["item_id"], item_texts, strict=True)
    return _frame(loaded.id, "text_hash", ((item, hashes[text], results.values[keys[text]]) for item, text in rows))


def text_hash(text: str) -> str:
    """Return the sha256 of the UTF-8 text, in hex; with the encoder it is the key of the text's vector."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def embed_photos(
    items: pd.DataFrame,
    encoder: str,
    data_dir: Path,
    cache: Path,
    fetching: FetchPolicy = NO_FETCH,
    session: "SparkSession | None" = None,
) -> pd.DataFrame:
    """Encode the photo of each item that has a readable one; equal photos are encoded once.

    Args:
        items: columns item_id and image (path relative to `data_dir`, URL or null).
        encoder: name for `load_image_encoder`; `none` gives no rows.
        data_dir: folder that the photos must lie in.
        cache: folder of the results of model calls.
        fetching: which photos behind URLs are fetched now.
        session: as in `embed_texts`; its workers must see the photos under the same paths.

    Returns:
        Rows in the order of the items: item_id, encoder (id), photo_hash (sha256 of the bytes) and vector
        (float32 (d,), length 1). Items without a readable photo have no row; captions.all_captions shows the reason.

    Raises:
        UsageError: the encoder is unknown, or a package that it needs is not installed.
        RunError: the cache or the weights cannot be used.
    """
    if encoder == NO_PHOTOS:
        return _frame(encoder, "photo_hash", ())
    loaded = load_image_encoder(encoder)
    folder = data_dir.resolve() if session else data_dir  # workers may have another working directory
    with Cache(cache.resolve() if session else cache) as store:
        files = locate_photos(nullable_texts(items["image"]), folder, store, fetching)
        digests = dict.fromkeys(file.digest for file in files if file.digest)
        keys = {digest: result_key("image", loaded.id, PREPROCESSING, digest) for digest in digests}
        results = store.get_or_compute(
            "image",
            loaded.id,
            {keys[file.digest]: file for file in files if file.digest},
            _in_workers(partial(_encode_photos, encoder), PHOTO_BATCH, session),
            VECTOR,
            batch_size=SPARK_BATCH if session else PHOTO_BATCH,
            label=f"photo vectors by {loaded.id}",
        )
    _check_vectors(results, loaded.id)
    vectors = {digest: results.values[key] for digest, key in keys.items() if key in results.values}
    rows = zip(items["item_id"], (file.digest for file in files), strict=True)
    return _frame(
        loaded.id, "photo_hash", ((item, digest, vectors[digest]) for item, digest in rows if digest in vectors)
    )


def _in_workers(
    compute: Callable[[Sequence[Input]], Sequence[Vectors | Failure]], chunk: int, session: "SparkSession | None"
) -> Callable[[Sequence[Input]], Sequence[Vectors | Failure]]:
    """Return a function that computes in Spark's workers, or `compute` without a session."""
    if session is None:
        return compute
    from vlm4rec_search.common.spark.worker import map_in_workers

    return partial(map_in_workers, session, compute, chunk)


def _encode_texts(encoder: str, weights_source: str, batch: Sequence[str]) -> list[Vectors | Failure]:
    return list(load_sentence_encoder(encoder, weights_source).encode(batch))


def _encode_photos(encoder: str, batch: Sequence[PhotoFile]) -> list[Vectors | Failure]:
    loaded = load_image_encoder(encoder)
    photos = read_photos(batch)
    images = [photo.image for photo in photos if isinstance(photo, Photo)]
    vectors = loaded.encode(images) if images else ()
    if len(vectors) != len(images):
        raise RunError(f"{loaded.id} returned {len(vectors)} vectors for {len(images)} photos: this is a defect in it")
    remaining = iter(vectors)
    return [photo if isinstance(photo, Failure) else next(remaining) for photo in photos]


def _check_vectors(results: Results[Vectors], encoder: str) -> None:
    """Check that the vectors have one dimension, are finite and have length 1.

    Raises:
        RunError: a vector fails the check.
    """
    vectors = results.values.values()
    if len({vector.size for vector in vectors}) > 1 or any(not abs(float(v @ v) - 1.0) < 1e-3 for v in vectors):
        raise RunError(
            f"vectors of {encoder} are not unit vectors of one dimension: the encoder or the cache is damaged"
        )


def _frame(encoder: str, hash_column: str, rows: Iterable[tuple[str, str, Vectors]]) -> pd.DataFrame:
    columns = ["item_id", "encoder", hash_column, "vector"]
    values = [(item, encoder, digest, vector) for item, digest, vector in rows]
    return pd.DataFrame(values, columns=columns, dtype=object)
