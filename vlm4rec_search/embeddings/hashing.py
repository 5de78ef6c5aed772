"""Encoders without a model, for tests and machines without torch: they compare words and layout, not meaning."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from PIL.Image import Image

from vlm4rec_search.common.vectors import Vectors, unit_rows
from vlm4rec_search.embeddings.base import ImageEncoder, SentenceEncoder

_WORD = re.compile(r"\w+")


class HashingEncoder(SentenceEncoder):
    """Bag of words by signed feature hashing (Weinberger et al. 2009); a count n has weight 1 + ln(n)."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.id = f"hashing-{dimension}@1"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows, float32 (n, dimension), the same in every process."""
        rows = np.zeros((len(texts), self.dimension))
        for row, text in zip(rows, texts, strict=True):
            for word, count in Counter(_WORD.findall(text.lower())).items():
                slot, sign = _hash_word(word)
                row[slot % self.dimension] += sign * (1.0 + np.log(count))
        return unit_rows(rows)


class ThumbnailEncoder(ImageEncoder):
    """The photo as side x side pixels: red, green, blue and their mean, each relative to mid-grey."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.id = f"thumbnail-{side}@1"

    def encode(self, photos: Sequence[Image]) -> Vectors:
        """Return unit rows, float32 (n, 4 * side * side)."""
        rows = np.zeros((len(photos), self.side * self.side, 4))
        for row, photo in zip(rows, photos, strict=True):
            pixels = np.asarray(photo.resize((self.side, self.side)), dtype=np.float64).reshape(-1, 3) / 255.0 - 0.5
            row[:] = np.column_stack([pixels, pixels.mean(axis=1)])
        return unit_rows(rows.reshape(len(photos), -1))


@lru_cache(maxsize=100_000)
def _hash_word(word: str) -> tuple[int, float]:
    number = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
    return number >> 1, 1.0 if number & 1 else -1.0
