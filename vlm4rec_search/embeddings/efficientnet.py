"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946): the Lite variant has ReLU6 and no squeeze-and-excitation.

The attributes have the names of the published weights. The module imports torch: import it late.
"""

from torch import Tensor, nn

# expansion, output channels, number of blocks, stride of the first block, kernel size
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


class MBConv(nn.Module):
    """Inverted residual block: expansion, depthwise convolution, projection."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expanded = expansion != 1
        if self.expanded:
            self._expand_conv = _conv(inputs, hidden)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = _conv(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = _conv(hidden, outputs)
        self._bn2 = _norm(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        x = nn.functional.relu6(self._bn0(self._expand_conv(inputs))) if self.expanded else inputs
        x = nn.functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        outputs: Tensor = x + inputs if self.residual else x
        return outputs


class EfficientNetLite0(nn.Module):
    """The network up to its pooled features; the classifier exists only so that the published weights load strictly."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _conv(3, 32, kernel=3, stride=2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head = _conv(320, 1280)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)  # unused

    def forward(self, photos: Tensor) -> Tensor:
        """Return the pooled features (n, 1280) of photos (n, 3, 224, 224)."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(photos)))
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return x.mean(dim=(2, 3))


def _blocks() -> list[MBConv]:
    blocks, inputs = [], 32
    for expansion, outputs, repeats, stride, kernel in _STAGES:
        for position in range(repeats):
            blocks.append(MBConv(inputs, outputs, expansion, kernel, stride if position == 0 else 1))
            inputs = outputs
    return blocks
