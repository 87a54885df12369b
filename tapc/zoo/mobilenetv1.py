"""MobileNetV1, in the layout of MLPerf Tiny's visual wake words."""

from torch import Tensor, nn

# channels and stride of each pair: Table 1 of arXiv 1704.04861
_PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class Separable(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the pair; x is (N, inputs, H, W)."""
        result: Tensor = self.relu(self.bn2(self.pointwise(self.relu(self.bn1(self.depthwise(x))))))
        return result


class MobileNetV1(nn.Module):
    """MobileNetV1 (arXiv 1704.04861).

    Parameters
    ----------
    classes : int
    width : float
        Multiplier of the channels.
    small : bool
        Strides of 1 in the first convolution and the first pair that halves, for images of 32 x 32.
    """

    def __init__(self, classes: int = 1000, width: float = 1.0, small: bool = False) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Conv2d(3, channels, 3, 1 if small else 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        pairs = []
        for index, (wide, stride) in enumerate(_PAIRS):
            outputs = int(wide * width)
            pairs.append(Separable(channels, outputs, 1 if small and index == 1 else stride))
            channels = outputs
        self.pairs = nn.Sequential(*pairs)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) for x (N, 3, H, W)."""
        x = self.pairs(self.relu(self.bn1(self.conv1(x))))
        result: Tensor = self.fc(self.avgpool(x).flatten(1))
        return result
