"""A small U-Net (Ronneberger et al., arXiv 1505.04597): a class for every pixel."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Twice(nn.Sequential):
    """Two 3x3 convolutions with batch normalization and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for before in (inputs, outputs):
            layers += [nn.Conv2d(before, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """Four levels; maps are halved by maxima, and doubled by transposed convolutions beside what was there.

    Parameters
    ----------
    classes : int
        With the background.
    width : int
        Channels of the first level.
    """

    def __init__(self, classes: int = 6, width: int = 8) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 6 * width]
        self.down = nn.ModuleList(map(Twice, [3, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, 2) for i in range(3))
        self.join = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * n, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n), nn.ReLU()) for n in widths[:-1]
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes, H, W)."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool2d(x, 2))
            kept.append(x)
        for level in (2, 1, 0):
            x = self.join[level](torch.cat([self.up[level](x), kept[level]], 1))
        logits: Tensor = self.head(x)
        return logits
