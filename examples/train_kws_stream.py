"""Train the zoo's streaming keyword spotter on MFCC features, and write its weights.

    python examples/train_kws_stream.py FEATURES.npz --output kws-stream.safetensors

FEATURES.npz holds x (N, 490), int8 codes of 49 frames of 10 coefficients, their scale and zero_point, and labels y of
12 classes. A random 40 % is kept out of the training and tells the accuracy. Both parts are written beside the weights,
kws-stream-train.npz and kws-stream-test.npz, as real values (N, 1, 49, 10). Held out or not, the same seed always.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tapc.zoo.kws_stream import KwsStream

FRAMES, COEFFICIENTS = 49, 10


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift features in time, stretch them, mask frames and a coefficient, and add noise."""
    result = torch.empty_like(x)
    for index, own in enumerate(x):
        shift = int(torch.randint(-6, 7, (1,), generator=generator))
        own = own.roll(shift, 1)
        rate = float(0.85 + 0.3 * torch.rand(1, generator=generator))
        places = (torch.arange(FRAMES) * rate + (1 - rate) * FRAMES / 2).round().long().clamp(0, FRAMES - 1)
        own = own[:, places]
        first = int(torch.randint(0, FRAMES - 8, (1,), generator=generator))
        own[:, first : first + int(torch.randint(0, 9, (1,), generator=generator))] = 0
        own[:, :, int(torch.randint(0, COEFFICIENTS, (1,), generator=generator))] *= 0.3
        result[index] = own
    noise = torch.randn(x.shape, generator=generator) * 0.15
    gains = 1 + 0.2 * torch.randn((len(x), 1, 1, COEFFICIENTS), generator=generator)
    return result * gains + noise + 0.15 * torch.randn((len(x), 1, 1, COEFFICIENTS), generator=generator)


def main() -> None:
    """Train, test and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--output", type=Path, default=Path("kws-stream.safetensors"))
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=250)
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
        np.savez(given.output.with_name(f"{given.output.stem}-{name}.npz"), x=x[rows], y=y[rows])
    mean, deviation = (torch.from_numpy(v) for v in (x[train].mean(axis=(0, 1, 2)), x[train].std(axis=(0, 1, 2))))
    seen, labels = (torch.from_numpy(x[train]) - mean) / deviation, torch.from_numpy(y[train])
    model, generator = KwsStream(given.width), torch.Generator().manual_seed(given.seed)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.epochs)
    for _ in range(given.epochs):
        for rows in torch.randperm(len(seen), generator=generator).split(50):
            mixed, other = augmented(seen[rows], generator), torch.randperm(len(rows), generator=generator)
            share = float(torch.distributions.Beta(0.3, 0.3).sample())
            logits = model(share * mixed + (1 - share) * mixed[other])
            loss = share * functional.cross_entropy(logits, labels[rows], label_smoothing=0.1)
            loss = loss + (1 - share) * functional.cross_entropy(logits, labels[rows][other], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():  # the network takes features as they are
        weights, norm = model.layers[0].weight, model.layers[1]
        weights /= deviation
        norm.running_mean += (weights * mean).sum(dim=(1, 2, 3))
        for name, chosen in (("train", train), ("test", test)):
            right = model(torch.from_numpy(x[chosen])).argmax(1).numpy() == y[chosen]
            print(f"{name}: {right.mean():.2%} of {len(chosen)}")
    save_file(model.state_dict(), given.output)
    digest = hashlib.sha256(given.output.read_bytes()).hexdigest()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, sha256 {digest}")


if __name__ == "__main__":
    main()
