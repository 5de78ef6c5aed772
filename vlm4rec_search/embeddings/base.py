"""What an encoder is: an id that costs nothing, and one batch method to unit vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vlm4rec_search.common.errors import RunError

Vectors = NDArray[np.float32]


class SentenceEncoder(ABC):
    """Encodes texts. `id` is name@revision and decides, with the text, what the vector is."""

    id: str

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one finite unit row for each text, float32 (n, d); an empty text has a vector too."""


class ImageEncoder(ABC):
    """Encodes RGB photos. `id` is name@revision and decides, with the pixels, what the vector is."""

    id: str

    @abstractmethod
    def encode(self, photos: Sequence[Image]) -> Vectors:
        """Return one finite unit row for each photo, float32 (n, d)."""


def unit_rows(rows: NDArray[np.floating]) -> Vectors:
    """Scale each row of (n, d) to length 1; a row of zeros becomes the row of equal components.

    Raises:
        RunError: a number is not finite: the model or its weights are damaged, and nothing of it may be kept.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise RunError("the encoder returned numbers that are not finite: its weights or the model are damaged")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    equal = np.full_like(rows, 1.0 / np.sqrt(rows.shape[1]))
    return np.where(norms > 0.0, rows / np.where(norms > 0.0, norms, 1.0), equal).astype(np.float32)
