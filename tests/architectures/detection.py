"""Detectors."""

from typing import Any

import torch
from torch import Tensor, nn


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.SiLU())


class TinyYolo(nn.Module):
    """Anchors decoded in the network: (1, boxes, 5 + classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(_layer(3, 8, 2), _layer(8, 12, 2), _layer(12, 16, 2))
        self.head = nn.Conv2d(16, 3 * 8, 1)
        rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
        self.register_buffer("grid", torch.stack([columns, rows], -1).view(1, 1, 4, 4, 2))
        self.register_buffer("anchors", torch.tensor([[8.0, 8.0], [12.0, 16.0], [16.0, 12.0]]).view(1, 3, 1, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.layers(x)).view(1, 3, 8, 4, 4).permute(0, 1, 3, 4, 2).sigmoid()
        place = (y[..., 0:2] * 2 - 0.5 + self.grid) * 8
        size = (y[..., 2:4] * 2) ** 2 * self.anchors
        return torch.cat([place, size, y[..., 4:]], -1).view(1, -1, 8)


class TwoHeads(nn.Module):
    """Boxes and scores, of two scales, as separate outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Sequential(_layer(3, 8, 2), _layer(8, 12, 2)), _layer(12, 16, 2)
        self.box = nn.ModuleList([nn.Conv2d(12, 8, 1), nn.Conv2d(16, 8, 1)])
        self.score = nn.ModuleList([nn.Conv2d(12, 6, 1), nn.Conv2d(16, 6, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x)
        maps = (first, self.second(first))
        boxes = [head(y).permute(0, 2, 3, 1).reshape(1, -1, 4) for head, y in zip(self.box, maps, strict=True)]
        scores = [head(y).permute(0, 2, 3, 1).reshape(1, -1, 3) for head, y in zip(self.score, maps, strict=True)]
        return torch.cat(boxes, 1), torch.cat(scores, 1).sigmoid()


class Fomo(nn.Module):
    """A grid of class probabilities (Edge Impulse's FOMO)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(_layer(1, 8, 2), _layer(8, 12, 2), _layer(12, 16, 2), nn.Conv2d(16, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).softmax(1)


ARCHITECTURES: dict[str, Any] = {
    "tiny yolo": lambda: (TinyYolo(), ((1, 3, 32, 32),)),
    "two heads": lambda: (TwoHeads(), ((1, 3, 32, 32),)),
    "fomo": lambda: (Fomo(), ((1, 1, 32, 32),)),
}
