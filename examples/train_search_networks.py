"""Train the networks on which the proxy `tapc-1` was searched, and measure them; goes on where it was killed.

    python examples/train_search_networks.py --data DIR --output build/search-networks
    python examples/train_search_networks.py plain tokens --data DIR --output build/search-networks --jobs 2

None of them is a network of tapc-bench, nor has the architecture of one: what a search finds on them is judged there
by networks that it never saw. DIR holds cifar10-train.zip and cifar10-original-subset.npz; images go in as raw values
0 to 255. `sounds`, an autoencoder, is trained on synthesized machine sounds.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from train_cifar10 import augment, estimate_statistics, evaluate, load_jpegs

from tapc.base.files import write_whole
from tapc.flow.losses import save_losses
from tapc.flow.losses.generate import generate
from tapc.flow.losses.identities import save_identities
from tapc.flow.losses.measure import Source
from tapc.flow.losses.sounds import machine_sounds
from tapc.flow.losses.table import SUFFIX
from tapc.frontend import load
from tapc.frontend.identity import network_digest

ORIGINALS = "cifar10-original-subset.npz"


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution with batch normalization."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Inverted(nn.Module):
    """Inverted residual: 1x1 convolution to four times the channels, 3x3 depthwise, 1x1 back."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inputs
        self.body = nn.Sequential(
            *convolution(inputs, wide, 1), nn.ReLU6(),
            *convolution(wide, wide, 3, stride, wide), nn.ReLU6(),
            *convolution(wide, outputs, 1),
        )  # fmt: skip
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for an input (N, ...)."""
        y: Tensor = self.body(x)
        return x + y if self.adds else y


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions, Relu after the addition."""

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(inputs, middle, 1), nn.ReLU(),
            *convolution(middle, middle, 3, stride), nn.ReLU(),
            *convolution(middle, outputs, 1),
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.beside = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for an input (N, ...)."""
        return functional.relu(self.body(x) + self.beside(x))


class Tokens(nn.Module):
    """Three transformer blocks of two heads over 16 tokens of 64 channels, mean of the tokens, classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*convolution(3, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 64, 4, 4))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, 64))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(64, 2, 192, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(3)
        )
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for an input (N, ...)."""
        x = self.stem(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))  # type: ignore[no-any-return]


def inverted() -> nn.Module:
    """Return a narrow network of inverted residuals."""
    widths = [(16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1)]
    last = [*convolution(40, 96, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10)]
    return nn.Sequential(*convolution(3, 16, 3), nn.ReLU6(), *(Inverted(*w) for w in widths), *last)


def bottlenecks() -> nn.Module:
    """Return four residual bottlenecks behind a convolution."""
    widths = [(16, 12, 32, 1), (32, 16, 48, 2), (48, 24, 64, 2), (64, 24, 64, 1)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*convolution(3, 16, 3), nn.ReLU(), *(Bottleneck(*w) for w in widths), *last)


def plain() -> nn.Module:
    """Return convolutions and max pooling in a row, and two dense layers."""
    layers: list[nn.Module] = []
    for inputs, outputs, pools in [(3, 16, False), (16, 16, True), (16, 32, False), (32, 32, True), (32, 64, True)]:
        layers += [*convolution(inputs, outputs, 3), nn.ReLU()] + ([nn.MaxPool2d(2)] if pools else [])
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 48), nn.ReLU(), nn.Linear(48, 10))


def sounds() -> nn.Module:
    """Return a dense autoencoder of log-mel spectra."""
    widths, layers = [640, 96, 64, 12, 64, 96], []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(96, 640))


CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], int, int, float]] = {
    "plain": (plain, 1, 4, 0.1),
    "bottlenecks": (bottlenecks, 2, 4, 0.2),
    "inverted": (inverted, 2, 4, 0.2),
    "tokens": (Tokens, 2, 6, 2e-3),
}
"""Network -> its builder; each how many-th image it is trained on, how often, and at what rate."""


def classifier(name: str, data: Path, seed: int) -> nn.Module:
    """Train a classifier of CIFAR-10 images; its first convolution takes raw pixels in the end."""
    build, step, epochs, rate = CLASSIFIERS[name]
    images, labels = load_jpegs(data / "cifar10-train.zip")
    with np.load(data / ORIGINALS) as original:
        plain_x = torch.from_numpy(original["train_x"])
        x = torch.cat([torch.from_numpy(images[::step]), plain_x])
        y = torch.cat([torch.from_numpy(a.astype(np.int64)) for a in (labels[::step], original["train_y"])])
        test = (torch.from_numpy(original["test_x"]), torch.from_numpy(original["test_y"].astype(np.int64)))
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = build()
    steps = len(x) // 128
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
        if name == "tokens"
        else torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=2e-4)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps, pct_start=0.15)
    for epoch in range(epochs):
        model.train()
        size = 32 if name in ("plain", "tokens") or epoch == epochs - 1 else 24
        order = torch.randperm(len(x), generator=generator)[: steps * 128]
        for batch in track(order.split(128), f"{name} epoch {epoch}"):
            loss = functional.cross_entropy(model(augment(x[batch].float() / 255, size, generator)), y[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    estimate_statistics(model, plain_x)
    print(f"{name}: {evaluate(model, *test):.1f} % top-1 of {len(test[1])} original test images", flush=True)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        first.weight /= 255
    return model


def autoencoder(seed: int) -> nn.Module:
    """Train `sounds`."""
    torch.manual_seed(seed)
    x = torch.from_numpy(machine_sounds(6000, seed + 1000))
    model = sounds()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=40 * (len(x) // 100))
    for _ in track(range(40), "sounds"):
        for batch in torch.randperm(len(x)).split(100):
            loss = functional.mse_loss(model(x[batch]), x[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        print(f"sounds: squared error {functional.mse_loss(model(x), x):.3f} of variance {x.var():.1f}", flush=True)
    return model


def trained(name: str, data: Path, seed: int) -> bytes:
    """Return a trained network as ONNX."""
    model = (autoencoder(seed) if name == "sounds" else classifier(name, data, seed)).eval()
    example = torch.zeros(1, 640) if name == "sounds" else torch.zeros(1, 3, 32, 32)
    program = torch.onnx.export(model, (example,), dynamo=True, external_data=False)
    assert program is not None
    return program.model_proto.SerializeToString()


def shown(name: str, done: int, total: int) -> None:
    """Say how far a table is."""
    print(f"{name}: {done} of {total}", file=sys.stderr, flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join([*CLASSIFIERS, 'sounds'])}; all by default")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=110, help="configurations; default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--identities", action="store_true", help="write the networks' digests into tapc, too")
    options = parser.parse_args()
    names = options.networks or [*CLASSIFIERS, "sounds"]
    if unknown := set(names) - {*CLASSIFIERS, "sounds"}:
        parser.error(f"no network {unknown.pop()!r}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = options.output / f"{name}.onnx"
        if not path.exists():
            write_whole(path, trained(name, options.data, options.seed))
        table = options.output / f"{name}{SUFFIX}"
        if not table.exists():
            source = Source(name, str(path), None if name == "sounds" else options.data / ORIGINALS, 256, 128, 508)
            command = f"python examples/train_search_networks.py {name} --data DIR --count {options.count}"
            advance = partial(shown, name)
            found = generate(
                source, count=options.count, folder=options.output, command=command, jobs=options.jobs, advance=advance
            )
            save_losses(found, table)
    if options.identities:
        save_identities({n: network_digest(load(str(options.output / f"{n}.onnx"), keep=False).onnx) for n in names})


if __name__ == "__main__":
    main()
