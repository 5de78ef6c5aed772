"""Sentence and image encoders by name; loading one reads no weights and imports no torch."""

import re
from functools import cache

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.embeddings.base import ImageEncoder, SentenceEncoder

__all__ = ["ImageEncoder", "SentenceEncoder", "load_image_encoder", "load_sentence_encoder"]


@cache
def load_sentence_encoder(name: str) -> SentenceEncoder:
    """Return the encoder of that name (`VLM4REC_ENCODER`).

    Args:
        name: all-MiniLM-L6-v2 (packaged weights), hashing-<dimension> (no model), a folder, or a name on the hub.

    Raises:
        UsageError: there is no such encoder.
    """
    if dimension := _size("hashing", name):
        from vlm4rec_search.embeddings.hashing import HashingEncoder

        return HashingEncoder(dimension)
    from vlm4rec_search.embeddings.sentence import MINILM, MiniLMEncoder, SentenceTransformerEncoder

    return MiniLMEncoder() if name == MINILM else SentenceTransformerEncoder(name)


@cache
def load_image_encoder(name: str) -> ImageEncoder:
    """Return the encoder of that name (`VLM4REC_IMAGE_ENCODER`): efficientnet-lite0 or thumbnail-<side>.

    Raises:
        UsageError: there is no such encoder.
    """
    if side := _size("thumbnail", name):
        from vlm4rec_search.embeddings.hashing import ThumbnailEncoder

        return ThumbnailEncoder(side)
    from vlm4rec_search.embeddings.image import EFFICIENTNET, EfficientNetEncoder

    if name == EFFICIENTNET:
        return EfficientNetEncoder()
    raise UsageError(f"unknown image encoder {name!r}: VLM4REC_IMAGE_ENCODER can be {EFFICIENTNET} or thumbnail-8")


def _size(family: str, name: str) -> int | None:
    """Return the number in `family-number`, 2 to 4096, or None for another family."""
    if not name.startswith(f"{family}-"):
        return None
    number = name.removeprefix(f"{family}-")
    if re.fullmatch(r"[0-9]{1,4}", number) and 2 <= int(number) <= 4096:
        return int(number)
    raise UsageError(f"{name!r}: write {family}-N with N from 2 to 4096")
