"""Train one of the zoo's CIFAR-10 networks; resumes from its checkpoint.

    python examples/train_cifar10.py resnet8 --data DIR --epochs 36 --seed 0

DIR holds cifar10-train.zip (train/CLASS/NNNN.jpg) and cifar10-original-subset.npz (original pixels: train_x,
train_y, test_x, test_y). The few original training images are repeated so that the network sees pixels without
JPEG artefacts as well. The test images are only looked at once, after the last epoch. `--crop 24 --crop-epochs 9`
trains the first epochs on random 24 x 24 crops, which costs half as much; `--teacher NAME` distils from another
network of the zoo; `--bits 8` stores convolution and matrix weights as 8-bit codes with a scale per output channel.
`--statistics originals` estimates the batch normalizations' statistics once more after the training, over original
images alone: those of JPEG files differ from theirs (Li et al., Revisiting Batch Normalization, arXiv 1603.04779).
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

from tapc.zoo.registry import get, load_weights
from tapc.zoo.storage import pack


def load_jpegs(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read CLASS/NAME.jpg members; class indices follow the sorted class names."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[-2] for name in names})
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in track(names, "decode")]
    labels = [classes.index(name.split("/")[-2]) for name in names]
    return np.stack(pixels).transpose(0, 3, 1, 2), np.array(labels)


def augment(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Flip half of the images and cut `size` x `size` windows out of them, padded by four zeros where size is 32."""
    n = len(x)
    flip = torch.rand(n, generator=generator) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    padded = functional.pad(x, (4, 4, 4, 4)) if size == x.shape[2] else x
    dy, dx = torch.randint(0, padded.shape[2] - size + 1, (2, n), generator=generator)
    rows = (dy[:, None] + torch.arange(size))[:, None, :, None]
    columns = (dx[:, None] + torch.arange(size))[:, None, None, :]
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


def loss_of(logits: Tensor, labels: Tensor, teacher: Tensor | None, smoothing: float) -> Tensor:
    """Cross entropy, and with a teacher nine parts of Hinton's distillation at temperature 4 to one of it."""
    hard = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    if teacher is None:
        return hard
    soft = functional.kl_div(
        functional.log_softmax(logits / 4, 1), functional.softmax(teacher / 4, 1), reduction="batchmean"
    )
    return 0.1 * hard + 0.9 * 16 * soft


def estimate_statistics(model: torch.nn.Module, x: Tensor) -> None:
    """Replace the running statistics of every batch normalization by their averages over batches of `x`, uint8."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    model.train()
    with torch.no_grad():
        for batch in x.split(500):
            model(batch.float() / 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a name of `tapc models`")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--decay", type=float, default=2e-4)
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd")
    parser.add_argument("--smoothing", type=float, default=0.0, help="label smoothing")
    parser.add_argument("--average", type=float, default=0.999, help="decay of the weights' moving average")
    parser.add_argument("--originals", type=int, default=2, help="how often each original image is seen in an epoch")
    parser.add_argument("--crop", type=int, default=32, help="side of the training images in the first epochs")
    parser.add_argument("--crop-epochs", type=int, default=0)
    parser.add_argument("--teacher", default=None, help="a zoo network to distil from")
    parser.add_argument("--bits", type=int, choices=[8, 32], default=32, help="how weights are stored")
    parser.add_argument("--statistics", choices=["training", "originals"], default="training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--start", type=Path, default=None, help="weights to go on from, in place of random ones")
    parser.add_argument("--stop-after", type=int, default=None, help="stop after this epoch (for timing)")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    checkpoint: Path = options.checkpoint or Path(f"build/train_{options.network}.pt")
    output: Path = options.output or Path(f"tapc/zoo/weights/{options.network}.safetensors")

    images, labels = load_jpegs(options.data / "cifar10-train.zip")
    with np.load(options.data / "cifar10-original-subset.npz") as original:
        images = np.concatenate([images] + [original["train_x"]] * options.originals)
        labels = np.concatenate([labels] + [original["train_y"].astype(np.int64)] * options.originals)
        plain = torch.from_numpy(original["train_x"])
        test_x, test_y = torch.from_numpy(original["test_x"]), torch.from_numpy(original["test_y"].astype(np.int64))
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    model = get(options.network).build()
    if options.start is not None:
        load_weights(model, options.start)
    model = model.to(memory_format=torch.channels_last)
    teacher = get(options.teacher).module() if options.teacher else None
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(options.average), use_buffers=True
    )
    steps = len(x) // options.batch
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(model.parameters(), lr=options.rate, momentum=0.9, nesterov=True, weight_decay=options.decay)
        if options.optimizer == "sgd"
        else torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=options.decay)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.rate, total_steps=options.epochs * steps, pct_start=0.15
    )
    generator = torch.Generator().manual_seed(options.seed)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        first = state["epoch"] + 1
    checkpoint.parent.mkdir(parents=True, exist_ok=True)

    for epoch in range(first, options.epochs):
        model.train()
        total = 0.0
        size = options.crop if epoch < options.crop_epochs else x.shape[2]
        order = torch.randperm(len(x), generator=generator)[: steps * options.batch]
        for batch in track(order.split(options.batch), f"epoch {epoch}"):
            inputs = augment(x[batch].float() / 255, size, generator).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                guide = None if teacher is None else teacher(inputs)
            loss = loss_of(model(inputs), y[batch], guide, options.smoothing)
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
        torch.save(state, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)
        if epoch == options.stop_after:
            return

    if options.statistics == "originals":
        estimate_statistics(average.module, plain)
    weights = {k: v.contiguous() for k, v in average.module.state_dict().items() if v.is_floating_point()}
    output.parent.mkdir(parents=True, exist_ok=True)
    save_file(pack(weights) if options.bits == 8 else weights, output)
    trained = get(options.network).build()
    load_weights(trained, output)
    print(
        json.dumps(
            {
                "top1_original_test": evaluate(trained, test_x, test_y),
                "samples": len(test_y),
                "epochs": options.epochs,
                "seed": options.seed,
            }
        )
    )


if __name__ == "__main__":
    main()
