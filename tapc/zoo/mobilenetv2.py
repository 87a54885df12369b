"""MobileNetV2 with torchvision's module names."""

from torch import Tensor, nn

# expansion, channels, blocks, stride of the first: Table 2 of arXiv 1801.04381
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def divisible(channels: float, divisor: int = 8) -> int:
    """Return the nearest multiple of `divisor`, never less than nine tenths of `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _activated(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and linear projection, with a shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        expand = [_activated(inputs, hidden, 1, 1, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _activated(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block; x is (N, inputs, H, W)."""
        result: Tensor = x + self.conv(x) if self.shortcut else self.conv(x)
        return result


class MobileNetV2(nn.Module):
    """MobileNetV2 (arXiv 1801.04381).

    Parameters
    ----------
    classes : int
    width : float
        Multiplier of the channels.
    small : bool
        Strides of 1 in the first convolution and in the first stage that halves, for images of 32 x 32.
    """

    def __init__(self, classes: int = 1000, width: float = 1.0, small: bool = False) -> None:
        super().__init__()
        channels = divisible(32 * width)
        last = divisible(1280 * max(1.0, width))
        features: list[nn.Module] = [_activated(3, channels, 3, 1 if small else 2, 1)]
        for expansion, wide, blocks, stride in _STAGES:
            outputs = divisible(wide * width)
            for block in range(blocks):
                step = stride if block == 0 and not (small and wide == 24) else 1
                features.append(InvertedResidual(channels, outputs, step, expansion))
                channels = outputs
        features.append(_activated(channels, last, 1, 1, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) for x (N, 3, H, W)."""
        result: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return result
