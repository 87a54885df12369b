"""Train the zoo's ResNet-8 on CIFAR-10; resumes from its checkpoint.

    python examples/train_resnet8.py --data DIR --epochs 36 --seed 0

DIR holds cifar10-train.zip (train/CLASS/NNNN.jpg) and cifar10-original-subset.npz (original pixels: train_x,
train_y, test_x, test_y). The few original training images are repeated so that the network sees pixels without
JPEG artefacts as well. The test images are only looked at once, after the last epoch.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from tapc.zoo.resnet8 import ResNet8


def load_jpegs(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read CLASS/NAME.jpg members; class indices follow the sorted class names."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[-2] for name in names})
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in track(names, "decode")]
    labels = [classes.index(name.split("/")[-2]) for name in names]
    return np.stack(pixels).transpose(0, 3, 1, 2), np.array(labels)


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the images and shift each by up to four pixels, zero padded."""
    n = len(x)
    flip = torch.rand(n, generator=generator) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    padded = functional.pad(x, (4, 4, 4, 4))
    dy, dx = torch.randint(0, 9, (2, n), generator=generator)
    rows = (dy[:, None] + torch.arange(32))[:, None, :, None]
    columns = (dx[:, None] + torch.arange(32))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns]


def evaluate(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Top-1 in percent."""
    model.eval()
    with torch.no_grad():
        hits = [
            (model(a.float() / 255).argmax(1) == b).sum().item()
            for a, b in zip(x.split(500), y.split(500), strict=True)
        ]
    return 100.0 * sum(hits) / len(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--decay", type=float, default=2e-4)
    parser.add_argument("--originals", type=int, default=2, help="how often each original image is seen in an epoch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=Path("build/train_resnet8.pt"))
    parser.add_argument("--output", type=Path, default=Path("tapc/zoo/weights/resnet8.safetensors"))
    parser.add_argument("--stop-after", type=int, default=None, help="stop after this epoch (for timing)")
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    images, labels = load_jpegs(options.data / "cifar10-train.zip")
    with np.load(options.data / "cifar10-original-subset.npz") as original:
        images = np.concatenate([images] + [original["train_x"]] * options.originals)
        labels = np.concatenate([labels] + [original["train_y"].astype(np.int64)] * options.originals)
        test_x, test_y = torch.from_numpy(original["test_x"]), torch.from_numpy(original["test_y"].astype(np.int64))
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    model = ResNet8().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999), use_buffers=True
    )
    steps = len(x) // options.batch
    optimizer = torch.optim.SGD(
        model.parameters(), lr=options.rate, momentum=0.9, nesterov=True, weight_decay=options.decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.rate, total_steps=options.epochs * steps, pct_start=0.15
    )
    generator = torch.Generator().manual_seed(options.seed)
    first = 0
    if options.checkpoint.exists():
        state = torch.load(options.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        first = state["epoch"] + 1
    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)

    for epoch in range(first, options.epochs):
        model.train()
        total = 0.0
        order = torch.randperm(len(x), generator=generator)[: steps * options.batch]
        for batch in track(order.split(options.batch), f"epoch {epoch}"):
            inputs = augment(x[batch].float() / 255, generator).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(model(inputs), y[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            total += loss.item()
        print(f"epoch {epoch}: loss {total / steps:.4f}", flush=True)
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "generator": generator.get_state(),
            "epoch": epoch,
        }
        torch.save(state, options.checkpoint.with_suffix(".part"))
        options.checkpoint.with_suffix(".part").replace(options.checkpoint)
        if epoch == options.stop_after:
            return

    accuracy = evaluate(average.module, test_x, test_y)
    weights = {k: v.contiguous() for k, v in average.module.state_dict().items() if v.is_floating_point()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, options.output)
    print(
        json.dumps(
            {"top1_original_test": accuracy, "samples": len(test_y), "epochs": options.epochs, "seed": options.seed}
        )
    )


if __name__ == "__main__":
    main()
