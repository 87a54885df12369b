"""Train the zoo's detector or U-Net on the set that tapc draws: shapes and digits on CIFAR-10 pictures.

    python examples/train_drawn.py detector --data DIR --epochs 10
    python examples/train_drawn.py unet --data DIR --pictures 8000 --epochs 6 --stop-after 4

DIR holds cifar10-train.zip (train/CLASS/NNNN.jpg), of which a few thousand are backgrounds; without --data they are
gradients and noise. It goes on from its checkpoint.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from tapc.data.drawn import SIDE, Drawn, draw
from tapc.zoo.detector import Detector
from tapc.zoo.storage import pack
from tapc.zoo.unet import UNet

CELL, GRID = 4, SIDE // 4


def photographs(path: Path, count: int) -> NDArray[np.uint8]:
    """Return every so manieth picture of an archive."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        chosen = names[:: max(1, len(names) // count)][:count]
        return np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in chosen]).transpose(
            0, 3, 1, 2
        )


def targets(drawn: Drawn, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return heat maps (N, classes, 16, 16), distances (N, 4, 16, 16) in cells, and where these count (N, 16, 16)."""
    count = len(drawn.x)
    heat = np.zeros((count, classes, GRID, GRID), np.float32)
    sides = np.zeros((count, 4, GRID, GRID), np.float32)
    counts = np.zeros((count, GRID, GRID), np.float32)
    middles = (np.arange(GRID) + 0.5) * CELL
    for n, boxes in enumerate(drawn.boxes):
        for kind, x0, y0, x1, y1 in boxes:
            if kind < 0:
                continue
            column, row = (min(int((a + b) / 2 / CELL), GRID - 1) for a, b in ((x0, x1), (y0, y1)))
            spread = max(x1 - x0, y1 - y0) / CELL / 6
            away = np.square(np.arange(GRID) - row)[:, None] + np.square(np.arange(GRID) - column)[None]
            own = np.exp(-away / (2 * spread * spread)).astype(np.float32)
            np.maximum(heat[n, int(kind)], own, out=heat[n, int(kind)])
            near = np.zeros((GRID, GRID), bool)
            near[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
            across, down = np.meshgrid(middles, middles)
            around = np.stack([across - x0, down - y0, x1 - across, y1 - down]) / CELL
            near &= (around > 0).all(axis=0)
            sides[n][:, near] = around[:, near]
            counts[n][near] = 1
    return tuple(map(torch.from_numpy, (heat, sides, counts)))  # type: ignore[return-value]


def detector_loss(model: Detector, x: Tensor, heat: Tensor, sides: Tensor, counts: Tensor) -> Tensor:
    """CenterNet's focal loss of the scores (Zhou et al., arXiv 1904.07850), and 1 - IoU of the boxes near centres."""
    logits, found = model.logits(x)
    p = torch.sigmoid(logits)
    right = functional.logsigmoid(logits) * (1 - p).square() * (heat == 1)
    wrong = functional.logsigmoid(-logits) * p.square() * (1 - heat).pow(4) * (heat < 1)
    focal = -(right + wrong).sum() / (heat == 1).sum()
    least, most = torch.minimum(found, sides), torch.maximum(found, sides)
    inner = (least[:, 0] + least[:, 2]) * (least[:, 1] + least[:, 3])
    outer = (most[:, 0] + most[:, 2]) * (most[:, 1] + most[:, 3])
    own, true = ((a[:, 0] + a[:, 2]) * (a[:, 1] + a[:, 3]) for a in (found, sides))
    union = own + true - inner
    giou = inner / (union + 1e-6) - (outer - union).clamp_min(0) / (outer + 1e-6)
    return focal + 2 * ((1 - giou) * counts).sum() / counts.sum()


def main() -> None:
    """Draw, train and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["detector", "unet"])
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--pictures", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--stop-after", type=int, default=None, help="store the weights of this epoch already")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    behind = None if given.data is None else photographs(given.data / "cifar10-train.zip", 6000)
    drawn = draw(given.pictures, 1000 + given.seed, behind)
    x = torch.from_numpy(drawn.x)
    model: Detector | UNet
    if given.network == "detector":
        model, known = Detector(), targets(drawn, 5)
        torch.nn.init.constant_(model.scores.bias, -3.0)
    else:
        model, known = UNet(), (torch.from_numpy(drawn.masks).long(),)  # type: ignore[assignment]
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), given.rate, weight_decay=1e-2)
    steps = given.epochs * (len(x) // given.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, given.rate, steps, pct_start=0.15)
    checkpoint, first = Path(f"build/train_{given.network}.pt"), 0
    checkpoint.parent.mkdir(exist_ok=True)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        first = state["epoch"]
        for own, name in ((model, "model"), (optimizer, "optimizer"), (schedule, "schedule")):
            own.load_state_dict(state[name])  # type: ignore[attr-defined]
    for epoch in range(first, given.stop_after or given.epochs):
        model.train()
        order, total = torch.randperm(len(x), generator=torch.Generator().manual_seed(given.seed + epoch)), 0.0
        for rows in order[: len(x) // given.batch * given.batch].split(given.batch):
            pictures = x[rows].float() / 255
            if isinstance(model, Detector):
                loss = detector_loss(model, pictures, *(part[rows] for part in known))
            else:
                loss = functional.cross_entropy(model(pictures), known[0][rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows) / len(x)
        print(f"epoch {epoch + 1}: loss {total:.4f}", flush=True)
        torch.save({"epoch": epoch + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict()}, checkpoint)  # fmt: skip
    output = given.output or Path(f"tapc/zoo/weights/{given.network}.safetensors")
    save_file(pack({k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}), output)
    checkpoint.unlink()


if __name__ == "__main__":
    main()
