"""Train a small GRU that spots keywords in MFCC features, and write it as ONNX.

    python examples/train_kws_gru.py FEATURES.npz --output kws_gru

FEATURES.npz holds x (N, 490), int8 codes of 49 frames of 10 coefficients, their scale and zero_point, and labels y of
12 classes. A random 40 % is kept out of the training, and written beside the network as kws_gru-test.npz; what it is
trained on as kws_gru-train.npz. Both hold real values (N, 1, 49, 10).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

FRAMES, COEFFICIENTS, CLASSES = 49, 10, 12


class Spotter(nn.Module):
    """A GRU over the frames; its last hidden state tells the class."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gru = nn.GRU(COEFFICIENTS, units, batch_first=True)
        self.dense = nn.Linear(units, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits for features (N, 1, frames, coefficients)."""
        y, _ = self.gru(x[:, 0])
        result: Tensor = self.dense(y[:, -1])
        return result


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift frames, mask some of them and a coefficient, and add noise."""
    result = torch.empty_like(x)
    for index, own in enumerate(x):
        shift = int(torch.randint(-5, 6, (1,), generator=generator))
        result[index] = own.roll(shift, 1)
        first = int(torch.randint(0, FRAMES - 6, (1,), generator=generator))
        result[index, :, first : first + 6] = x.mean()
    noise = torch.randn(x.shape, generator=generator) * 0.1 * x.std()
    return result * (1 + 0.2 * torch.randn(len(x), 1, 1, 1, generator=generator)) + noise


def main() -> None:
    """Train, test and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--output", type=Path, default=Path("kws_gru"))
    parser.add_argument("--units", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    data = np.load(given.features)
    x = (data["x"].astype(np.float32) - float(data["zero_point"])) * np.float32(data["scale"])
    x, y = x.reshape(-1, 1, FRAMES, COEFFICIENTS), data["y"].astype(np.int64)
    order = np.random.default_rng(given.seed).permutation(len(x))
    test, train = order[: len(x) * 2 // 5], order[len(x) * 2 // 5 :]
    for name, rows in (("train", train), ("test", test)):
        np.savez(given.output.with_name(f"{given.output.name}-{name}.npz"), x=x[rows], y=y[rows])
    model, generator = Spotter(given.units), torch.Generator().manual_seed(given.seed)
    mean, deviation = x[train].mean(axis=(0, 1, 2)), x[train].std(axis=(0, 1, 2))
    seen, labels = torch.from_numpy((x[train] - mean) / deviation), torch.from_numpy(y[train])
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.epochs)
    for _ in range(given.epochs):
        for rows in torch.randperm(len(seen), generator=generator).split(32):
            loss = functional.cross_entropy(model(augmented(seen[rows], generator)), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()
    with torch.no_grad():  # the network takes features as they are
        weights = model.gru.weight_ih_l0
        weights /= torch.from_numpy(deviation)
        model.gru.bias_ih_l0 -= weights @ torch.from_numpy(mean)
        model.eval()
        for name, chosen in (("train", train), ("test", test)):
            right = model(torch.from_numpy(x[chosen])).argmax(1).numpy() == y[chosen]
            print(f"{name}: {right.mean():.2%} of {len(chosen)}")
    torch.onnx.export(
        model, (torch.zeros(1, 1, FRAMES, COEFFICIENTS),), given.output.with_suffix(".onnx"), dynamo=False
    )


if __name__ == "__main__":
    main()
