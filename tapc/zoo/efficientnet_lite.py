"""EfficientNet-Lite0 with the module names of its torch port."""

from torch import Tensor, nn
from torch.nn import functional

# expansion, kernel, channels, blocks, stride of the first: Table 1 of arXiv 1905.11946
_STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
_EPSILON = 1e-3


class SamePadding(nn.Conv2d):
    """Convolution that pads as TensorFlow does: the odd line goes below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = kernel - stride if kernel > stride else 0
        self.border = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (N, inputs, H, W) of sides that the stride divides."""
        return super().forward(functional.pad(x, self.border))


class MBConv(nn.Module):
    """Expansion, depthwise convolution and linear projection, with a shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, _EPSILON)
        self._depthwise_conv = SamePadding(hidden, hidden, kernel, stride, hidden)
        self._bn1 = nn.BatchNorm2d(hidden, _EPSILON)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, _EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block; x is (N, inputs, H, W)."""
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        result: Tensor = x + y if self.shortcut else y
        return result


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: EfficientNet-B0 (arXiv 1905.11946) without squeeze-and-excitation, with ReLU6.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem = SamePadding(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, _EPSILON)
        blocks, inputs = [], 32
        for expansion, kernel, outputs, count, stride in _STAGES:
            for index in range(count):
                blocks.append(MBConv(inputs, outputs, kernel, 1 if index else stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, _EPSILON)
        self._fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) for x (N, 3, 224, 224)."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        result: Tensor = self._fc(x.mean((2, 3)))
        return result
