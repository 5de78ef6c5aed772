"""What an encoder is: an id that costs nothing, and one batch method to unit vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from PIL.Image import Image

from vlm4rec_search.common.vectors import Vectors


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
