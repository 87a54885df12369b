"""Networks of pictures."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, inner: int, gate: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), act, nn.Conv2d(inner, channels, 1), gate
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x)


class Inverted(nn.Module):
    """An inverted residual with squeeze-and-excitation."""

    def __init__(
        self, inputs: int, inner: int, outputs: int, kernel: int, stride: int, act: Any, se: nn.Module
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, inner, 1), nn.BatchNorm2d(inner), act(),
            nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner), nn.BatchNorm2d(inner), act(), se,
            nn.Conv2d(inner, outputs, 1), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def mobilenet_v3() -> nn.Module:
    """MobileNetV3-small, narrow (Howard et al., arXiv 1905.02244)."""

    def se(channels: int) -> nn.Module:
        return SqueezeExcite(channels, 4, nn.Hardsigmoid(), nn.ReLU())

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish(),
        Inverted(8, 8, 8, 3, 2, nn.ReLU, se(8)), Inverted(8, 24, 12, 3, 1, nn.ReLU, nn.Identity()),
        Inverted(12, 32, 12, 5, 1, nn.Hardswish, se(32)), nn.Conv2d(12, 32, 1), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 24), nn.Hardswish(), nn.Linear(24, 10),
    )  # fmt: skip


def efficientnet() -> nn.Module:
    """EfficientNet-B0's blocks, narrow (Tan and Le, arXiv 1905.11946)."""

    def se(channels: int) -> nn.Module:
        return SqueezeExcite(channels, 4, nn.Sigmoid(), nn.SiLU())

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), Inverted(8, 8, 8, 3, 1, nn.SiLU, se(8)),
        Inverted(8, 32, 12, 5, 2, nn.SiLU, se(32)), Inverted(12, 48, 12, 3, 1, nn.SiLU, se(48)),
        nn.Conv2d(12, 32, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class Ghost(nn.Module):
    """A GhostNet module (Han et al., arXiv 1911.11907): cheap features beside the others."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.primary = nn.Sequential(nn.Conv2d(inputs, half, 1), nn.BatchNorm2d(half), nn.ReLU())
        self.cheap = nn.Sequential(nn.Conv2d(half, half, 3, 1, 1, groups=half), nn.BatchNorm2d(half), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], 1)


class ShuffleBlock(nn.Module):
    """ShuffleNetV2 (Ma et al., arXiv 1807.11164): half of the channels pass, then all are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(
            nn.Conv2d(half, half, 1), nn.ReLU(), nn.Conv2d(half, half, 3, 1, 1, groups=half), nn.Conv2d(half, half, 1),
            nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        kept, moved = x.chunk(2, 1)
        y = torch.cat([kept, self.layers(moved)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Fire(nn.Module):
    """SqueezeNet (Iandola et al., arXiv 1602.07360)."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, inner, 1)
        self.one, self.three = nn.Conv2d(inner, outputs, 1), nn.Conv2d(inner, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], 1)


class UNet(nn.Module):
    """One step down and up; the way up is a transposed convolution or an interpolation."""

    def __init__(self, up: str) -> None:
        super().__init__()
        self.up = up
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.inner = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.deconv = nn.ConvTranspose2d(16, 8, 2, 2) if up == "deconv" else nn.Conv2d(16, 8, 1)
        self.last = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        y = self.deconv(self.inner(first))
        if self.up == "nearest":
            y = functional.interpolate(y, scale_factor=2, mode="nearest")
        elif self.up == "bilinear":
            y = functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return self.last(torch.cat([first, y], 1))


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 4, 3, 2, 1), nn.LeakyReLU(0.1),
        nn.ConvTranspose2d(4, 8, 3, 2, 1, output_padding=1), nn.LeakyReLU(0.1),
        nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


class Normalized(nn.Module):
    """Group, instance and layer normalization, ELU, pixel shuffle, reflection."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ELU(), nn.Conv2d(8, 8, 3, 2, 1),
            nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.Conv2d(8, 12, 1), nn.PixelShuffle(2), nn.PReLU(3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _classes(*layers: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


PICTURE = ((1, 3, 24, 24),)
ARCHITECTURES: dict[str, Any] = {
    "mobilenet-v3": lambda: (mobilenet_v3(), PICTURE),
    "efficientnet": lambda: (efficientnet(), PICTURE),
    "ghostnet": lambda: (_classes(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), Ghost(8, 16), Ghost(16, 16), channels=16),
        PICTURE),
    "shufflenet": lambda: (
        _classes(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), ShuffleBlock(16), ShuffleBlock(16), channels=16), PICTURE,
    ),
    "squeezenet": lambda: (
        nn.Sequential(nn.Conv2d(3, 12, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(12, 6, 8),
                      Fire(16, 6, 8), nn.Conv2d(16, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), PICTURE,
    ),
    "u-net, transposed convolution": lambda: (UNet("deconv"), ((1, 1, 16, 16),)),
    "u-net, nearest": lambda: (UNet("nearest"), ((1, 1, 16, 16),)),
    "u-net, bilinear": lambda: (UNet("bilinear"), ((1, 1, 16, 16),)),
    "autoencoder": lambda: (autoencoder(), ((1, 1, 16, 16),)),
    "normalizations": lambda: (Normalized(), ((1, 3, 12, 12),)),
}  # fmt: skip
