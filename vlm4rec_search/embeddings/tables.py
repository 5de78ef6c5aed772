"""Unit vectors of texts and photos through the cache; torch is imported only when something is computed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlm4rec_search.common.cache.cache import Cache, Filled, Result, result_key
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.frames import texts as text_list
from vlm4rec_search.common.vectors import Vectors
from vlm4rec_search.datasets.photos.decode import PREPROCESSING, Found, PhotoError, read
from vlm4rec_search.datasets.photos.locate import ONLY_FETCHED, Remote, find
from vlm4rec_search.embeddings.encoders import ImageEncoder, load_image_encoder, load_sentence_encoder

if TYPE_CHECKING:
    import pandas as pd

TEXT_BATCH = 256
PHOTO_BATCH = 32


def embed_texts(texts: "pd.DataFrame", encoder: str, cache: Path) -> "pd.DataFrame":
    """Encode the text of each item; equal texts are encoded once.

    Args:
        texts: columns item_id and text (null counts as empty).
        encoder: name for `load_sentence_encoder`.
        cache: folder of the results of model calls.

    Returns:
        One row for each item in the same order: item_id, encoder (id), text_hash (sha256 of the UTF-8 text) and
        vector (float32 (d,), length 1).

    Raises:
        UsageError: unknown encoder, or what it needs is not installed.
        RunError: the cache or the weights cannot be used.
    """
    maker = load_sentence_encoder(encoder)
    wanted = [text or "" for text in text_list(texts["text"])]
    distinct = sorted(set(wanted), key=lambda text: (len(text), text))  # batches of like length need little padding
    hashes = {text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in distinct}
    keys = [result_key("sentence", maker.id, hashes[text]) for text in distinct]

    def compute(positions: Sequence[int]) -> list[Result]:
        return _bytes(maker.encode([distinct[position] for position in positions]))

    with Cache(cache) as store:
        label = f"text vectors by {maker.id}"
        filled = store.fill("sentence", maker.id, keys, compute, batch_size=TEXT_BATCH, label=label)
    vectors = dict(zip(distinct, _vectors(filled, maker.id), strict=True))
    return _frame(texts["item_id"], maker.id, "text_hash", [(hashes[text], vectors[text]) for text in wanted])


def embed_photos(
    items: "pd.DataFrame", encoder: str, data_dir: Path, cache: Path, remote: Remote = ONLY_FETCHED
) -> "pd.DataFrame":
    """Encode the photo of each item that has a readable one; equal photos are encoded once.

    Args:
        items: columns item_id and image (path relative to `data_dir`, URL or null).
        encoder: name for `load_image_encoder`.
        data_dir: the folder that photos must lie in.
        cache: folder of the results of model calls.
        remote: how many photos behind URLs are fetched now.

    Returns:
        Rows in the order of the items: item_id, encoder (id), photo_hash (sha256 of the bytes) and vector
        (float32 (d,), length 1). Why the others are left out is in the captions.

    Raises:
        UsageError: unknown encoder, or what it needs is not installed.
        RunError: the cache or the weights cannot be used.
    """
    maker = load_image_encoder(encoder)
    with Cache(cache) as store:
        found = find(text_list(items["image"]), data_dir, store, remote)
        usable = [(item, photo) for item, photo in zip(items["item_id"], found, strict=True) if photo.digest]
        filled = _fill_photos(maker, [photo for _, photo in usable], store)
    pairs = zip(usable, _vectors(filled, maker.id), strict=True)
    kept = [(item, photo.digest or "", vector) for (item, photo), vector in pairs if vector is not None]
    return _frame([item for item, *_ in kept], maker.id, "photo_hash", [(key, vector) for _, key, vector in kept])


def _fill_photos(maker: ImageEncoder, photos: Sequence[Found], cache: Cache) -> Filled:
    keys = [result_key("image", maker.id, PREPROCESSING, photo.digest or "") for photo in photos]

    def compute(positions: Sequence[int]) -> list[Result]:
        return _encoded(maker, [photos[position] for position in positions])

    label = f"photo vectors by {maker.id}"
    return cache.fill("image", maker.id, keys, compute, batch_size=PHOTO_BATCH, label=label)


def encode_query(text: str, encoder: str) -> Vectors:
    """Return the unit vector float32 (d,) of one text, not cached.

    Raises:
        UsageError: unknown encoder, or what it needs is not installed.
        RunError: its weights cannot be used.
    """
    vector: Vectors = load_sentence_encoder(encoder).encode([text])[0]
    return vector


def _encoded(maker: ImageEncoder, photos: Sequence[Found]) -> list[Result]:
    results: dict[int, Result] = {}
    images = {}
    for position, photo in enumerate(photos):
        try:
            images[position] = read(photo).image
        except PhotoError as error:
            results[position] = error
    results |= dict(zip(images, _bytes(maker.encode(list(images.values()))), strict=True)) if images else {}
    return [results[position] for position in range(len(photos))]


def _bytes(vectors: Vectors) -> list[Result]:
    return [vector.astype("<f4").tobytes() for vector in vectors]


def _vectors(filled: Filled, maker: str) -> list[Vectors | None]:
    """Return each vector, or None for a failure.

    Raises:
        RunError: a vector has another dimension than the others, or is not finite and of length 1.
    """
    vectors = [np.frombuffer(value, dtype="<f4") if isinstance(value, bytes) else None for value in filled.values]
    good = [vector for vector in vectors if vector is not None]
    if len({vector.size for vector in good}) > 1 or any(not abs(float(v @ v) - 1.0) < 1e-3 for v in good):
        raise RunError(f"vectors of {maker} are not unit vectors of one dimension: the encoder or the cache is damaged")
    return vectors


def _frame(
    items: "pd.Series[str] | list[str]", maker: str, hashed: str, rows: list[tuple[str, Vectors | None]]
) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, list[object]] = {
        "item_id": list(items),
        "encoder": [maker] * len(rows),
        hashed: [value for value, _ in rows],
        "vector": [vector for _, vector in rows],
    }
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
