"""Networks of signals: one dimension of time."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Ecg(nn.Module):
    """A residual network of 1-D convolutions for an electrocardiogram of one lead."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, 8, 7, 2, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(3, 2, 1))
        self.a = nn.Sequential(
            nn.Conv1d(8, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 5, padding=2)
        )
        self.b = nn.Sequential(nn.Conv1d(8, 16, 5, 2, 2), nn.ReLU(), nn.Conv1d(16, 16, 5, padding=2))
        self.skip = nn.Conv1d(8, 16, 1, 2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.a(x))
        x = torch.relu(self.skip(x) + self.b(x))
        return self.head(x.mean(-1))


class Har(nn.Module):
    """Human activity recognition: (time, axes) in, as sensors deliver it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(6, 16, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 24, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.layers(x.transpose(1, 2))), -1)


class CausalBlock(nn.Module):
    """Two causal convolutions whose taps lie apart."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.pad = (2 * dilation, 0)
        self.first = nn.Conv1d(inputs, outputs, 3, dilation=dilation)
        self.second = nn.Conv1d(outputs, outputs, 3, dilation=dilation)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(functional.pad(x, self.pad)))
        y = torch.relu(self.second(functional.pad(y, self.pad)))
        return torch.relu(y + self.skip(x))


class Tcn(nn.Module):
    """A temporal convolutional network; the last step is what counts."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(CausalBlock(4, 8, 1), CausalBlock(8, 8, 2), CausalBlock(8, 12, 4))
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x)[:, :, -1])


class SubSpectralNorm(nn.Module):
    """Batch normalization of each band of frequencies on its own."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.bands, self.norm = bands, nn.BatchNorm2d(channels * bands)

    def forward(self, x: Tensor) -> Tensor:
        n, c, f, t = x.shape
        return self.norm(x.reshape(n, c * self.bands, f // self.bands, t)).reshape(n, c, f, t)


class BroadcastBlock(nn.Module):
    """BC-ResNet (Kim et al., arXiv 2106.04140): a mean over frequencies is added to all of them."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.frequency = nn.Sequential(
            nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), groups=channels), SubSpectralNorm(channels, 2)
        )
        self.time = nn.Sequential(
            nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=channels),
            nn.BatchNorm2d(channels), nn.SiLU(), nn.Conv2d(channels, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.frequency(x)
        return torch.relu(x + y + self.time(y.mean(2, keepdim=True)))


class BcResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 5, (2, 1), 2), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(BroadcastBlock(8, 1), BroadcastBlock(8, 2))
        self.head = nn.Conv2d(8, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3), keepdim=True)).flatten(1)


class Mlp(nn.Module):
    """Tanh and sigmoid; a vector in."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 24), nn.Tanh(), nn.Linear(24, 16), nn.Sigmoid(), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TwoInputs(nn.Module):
    """A signal and some numbers about it."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = nn.Sequential(nn.Conv1d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.numbers = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, signal: Tensor, numbers: Tensor) -> Tensor:
        return self.head(torch.cat([self.signal(signal), self.numbers(numbers)], 1))


class Best(nn.Module):
    """Ends in the class itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(3, 8, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 7)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).argmax(1)


ARCHITECTURES: dict[str, Any] = {
    "ecg": lambda: (Ecg(), ((1, 1, 128),)),
    "har": lambda: (Har(), ((1, 64, 6),)),
    "tcn": lambda: (Tcn(), ((1, 4, 48),)),
    "bc-resnet": lambda: (BcResNet(), ((1, 1, 16, 20),)),
    "mlp": lambda: (Mlp(), ((1, 10),)),
    "two-inputs": lambda: (TwoInputs(), ((1, 3, 40), (1, 4))),
    "argmax": lambda: (Best(), ((1, 3, 32),)),
}
