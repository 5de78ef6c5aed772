"""The photo encoder EfficientNet-Lite0, an ImageNet CNN; ONNX Runtime is imported when the first photo is encoded."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageOps
from PIL.Image import Image, Resampling

from vlm4rec_search.common.vectors import Vectors, unit_rows
from vlm4rec_search.embeddings.base import ImageEncoder
from vlm4rec_search.embeddings.onnx import load_network

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

EFFICIENTNET = "efficientnet-lite0"
NETWORK = Path(__file__).with_name("efficientnet-lite0.onnx")
"""The packaged network up to its pooled features; `embeddings/convert.py` made it."""
PUBLISHED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The hash of the published weights that the network has."""
SIDE = 224  # pixels
_REVISION = 1  # raise it when the network, or the steps before or after it, give other vectors


class EfficientNetEncoder(ImageEncoder):
    """Pooled features (1280-d) of EfficientNet-Lite0, trained on ImageNet; they are not comparable to text vectors."""

    id = f"{EFFICIENTNET}@{PUBLISHED_SHA256[:12]}-{_REVISION}"

    def encode(self, photos: Sequence[Image]) -> Vectors:
        """Return unit rows, float32 (n, 1280); each photo is scaled to fit into 224 x 224, padded with white."""
        if not photos:
            return np.zeros((0, 1280), dtype=np.float32)
        pixels = np.stack([_prepare_pixels(photo) for photo in photos])
        (features,) = self._network.run(None, {"photos": pixels})
        return unit_rows(features)

    @cached_property
    def _network(self) -> "InferenceSession":
        return load_network(NETWORK)


def _prepare_pixels(photo: Image) -> np.typing.NDArray[np.float32]:
    """Return float32 (3, 224, 224) with values (v - 127) / 128, as in training."""
    square = ImageOps.pad(photo, (SIDE, SIDE), method=Resampling.BICUBIC, color="white")
    pixels = (np.asarray(square, dtype=np.float32) - 127.0) / 128.0
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
