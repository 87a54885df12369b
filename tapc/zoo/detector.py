"""A small detector that finds the centres of objects, and what is around each, on a grid of its pictures."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


def _layer(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Detector(nn.Module):
    """Scores of classes and distances to the four sides of a box, for every 4 x 4 pixels.

    Parameters
    ----------
    classes : int
    """

    detector: ClassVar[dict[str, str | float]] = {
        "scores": "scores", "sides": "sides", "cell": 4, "unit": 4.0, "threshold": 0.1, "overlap": 0.5, "most": 16,
    }  # fmt: skip
    """How its maps become detections, see `tapc.base.detector`."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = _layer(3, 16, 2)
        self.conv2 = _layer(16, 24, 2)
        self.conv3 = _layer(24, 48, 2)
        self.conv4 = _layer(48, 48)
        self.conv5 = _layer(48, 48)
        self.lateral = _layer(48, 24, kernel=1)
        self.conv6 = _layer(24, 32)
        self.scores = nn.Conv2d(32, classes, 1)
        self.sides = nn.Conv2d(32, 4, 1)

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, classes, H/4, W/4) and distances in cells (N, 4, H/4, W/4) of pictures (N, 3, H, W)."""
        fine = self.conv2(self.conv1(x))
        coarse = self.conv4(self.conv3(fine))
        coarse = self.lateral(coarse + self.conv5(coarse))
        y = self.conv6(fine + functional.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        return self.scores(y), torch.relu(self.sides(y))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return scores in 0..1 and distances to the left, upper, right and lower side in cells."""
        logits, sides = self.logits(x)
        return {"scores": torch.sigmoid(logits), "sides": sides}
