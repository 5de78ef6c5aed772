"""Sentence and image encoders by name; loading an encoder reads no weights and imports no torch."""

import re
from functools import cache

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.embeddings.base import ImageEncoder, SentenceEncoder
from vlm4rec_search.embeddings.hashing import HashingEncoder, ThumbnailEncoder
from vlm4rec_search.embeddings.image import EFFICIENTNET, EfficientNetEncoder
from vlm4rec_search.embeddings.sentence import MINILM, MiniLMEncoder, SentenceTransformerEncoder


@cache
def load_sentence_encoder(name: str) -> SentenceEncoder:
    """Return the sentence encoder with a name (`VLM4REC_ENCODER`).

    Args:
        name: all-MiniLM-L6-v2 (packaged weights), hashing-<dimension> (no model), the folder of a model of
            sentence-transformers, or its name on the Hugging Face hub.

    Raises:
        UsageError: the model, or its commit, cannot be found.
    """
    if dimension := _size("hashing", name):
        return HashingEncoder(dimension)
    return MiniLMEncoder() if name == MINILM else SentenceTransformerEncoder(name)


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
    raise UsageError(f"unknown image encoder {name!r}: VLM4REC_IMAGE_ENCODER can be {EFFICIENTNET} or thumbnail-8")


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
