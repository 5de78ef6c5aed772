"""The plug-in type of encoders: an id, and one method that turns a batch of inputs into unit vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from PIL.Image import Image

from vlm4rec_search.common.vectors import Vectors

Input = TypeVar("Input")


class Encoder(ABC, Generic[Input]):
    """Turns inputs into vectors. Subclass `SentenceEncoder` for texts, `ImageEncoder` for photos.

    `embeddings.encoders` maps the names in the settings to encoders. Every plan creates the encoder for its `id`, and
    calls `encode` only for inputs whose vector is not in the cache. Creating an encoder must therefore be cheap: load
    weights, and import torch, in the first call of `encode`.

    Attributes:
        id: name@revision. The id and the input are the cache key of a vector: raise the revision whenever the same
            input gets another vector.
    """

    id: str

    @abstractmethod
    def encode(self, inputs: Sequence[Input], /) -> Vectors:
        """Return one finite row of length 1 for each input, float32 (n, d), in the order of the inputs.

        Raises:
            UsageError: a package that the encoder needs is not installed.
            RunError: the weights cannot be loaded.
        """


class SentenceEncoder(Encoder[str]):
    """Encodes texts; an empty text gets a vector too."""


class ImageEncoder(Encoder[Image]):
    """Encodes RGB photos."""
