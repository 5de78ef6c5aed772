"""Sentence and image encoders by name; loading an encoder reads no weights and imports no runtime."""

import re
from functools import cache

from vlm4rec_search.common import maven
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.embeddings.base import ImageEncoder, SentenceEncoder
from vlm4rec_search.embeddings.hashing import HashingEncoder, ThumbnailEncoder
from vlm4rec_search.embeddings.image import EFFICIENTNET, EfficientNetEncoder
from vlm4rec_search.embeddings.minilm import MINILM, MiniLMEncoder
from vlm4rec_search.embeddings.sentence import SentenceTransformerEncoder

NO_PHOTOS = "none"
"""The name in place of an image encoder that makes no vectors of photos."""


@cache
def load_sentence_encoder(name: str, weights: str = maven.CENTRAL) -> SentenceEncoder:
    """Return the sentence encoder with a name (`VLM4REC_ENCODER`).

    Args:
        name: all-MiniLM-L6-v2, hashing-<dimension> (no model), the folder of a model of
            sentence-transformers, or its name on the Hugging Face hub.
        weights: where the weights of all-MiniLM-L6-v2 come from (`VLM4REC_WEIGHTS`).

    Raises:
        UsageError: the model, or its commit, cannot be found.
    """
    if dimension := _size("hashing", name):
        return HashingEncoder(dimension)
    return MiniLMEncoder(weights) if name == MINILM else SentenceTransformerEncoder(name)


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
