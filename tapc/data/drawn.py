"""A set that is drawn: shapes and digits on photographs or gradients, with boxes and masks.

It is a test of the machinery, not of the world: its figures say how much quantization costs a detector, not how well
one would do on a camera's pictures. Same seed and backgrounds: same pictures.
"""

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tapc.data.images import pictures_of_zip, pixels

SIDE = 64
NAMES = ("circle", "square", "triangle", "cross", "digit")
MOST = 4
"""Objects of a picture."""
CALIBRATION, TESTS = 256, 500
"""Pictures of the set that tapc draws for a network of its own."""
_LEAST, _LARGEST, _TRIES = 10, 28, 12
_APART = 90.0
_DIGITS = (
    "01110 10001 10011 10101 11001 10001 01110", "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111", "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010", "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110", "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110", "01110 10001 10001 01111 00001 00010 01100",
)  # fmt: skip

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pictures and what is on them.

    Attributes
    ----------
    x : uint8 (N, 3, 64, 64)
    boxes : float32 (N, 4, 5)
        Rows of class, x0, y0, x1, y1 in pixels; class -1 where there are fewer.
    masks : uint8 (N, 64, 64)
        0 for the background, else the class plus 1.
    """

    x: Bytes
    boxes: NDArray[np.float32]
    masks: Bytes


def draw(count: int, seed: int, backgrounds: Bytes | None = None) -> Drawn:
    """Draw pictures of one to four objects.

    Parameters
    ----------
    count, seed : int
    backgrounds : uint8 (B, 3, 32, 32), optional
        Photographs, shown at twice their size; gradients and noise where None.
    """
    generator = np.random.default_rng(seed)
    drawn = Drawn(
        np.empty((count, 3, SIDE, SIDE), np.uint8),
        np.full((count, MOST, 5), -1, np.float32),
        np.zeros((count, SIDE, SIDE), np.uint8),
    )
    for index in range(count):
        picture = _background(generator, backgrounds)
        _objects(generator, picture, drawn.boxes[index], drawn.masks[index])
        drawn.x[index] = np.clip(np.rint(picture), 0, 255)
    return drawn


def archive(name: str, carried: Path, folder: Path) -> Path:
    """Return the npz archive of the drawn set, and draw it where the folder has none of this code and these pictures.

    Parameters
    ----------
    name : {"drawn-boxes", "drawn-masks"}
        What its labels are.
    carried : Path
        Pictures in train/ and test/ of a zip, for backgrounds; gradients where there is none.
    folder : Path
    """
    own = hashlib.sha256(Path(__file__).read_bytes())
    own.update(carried.read_bytes() if carried.is_file() else b"")
    path = folder / "drawn" / f"{name}-{own.hexdigest()[:12]}.npz"
    if path.is_file():
        return path
    arrays: dict[str, NDArray[Any]] = {}
    for part, count, seed in (("train", CALIBRATION, 1), ("test", TESTS, 2)):
        drawn = draw(count, seed, _carried(carried, part))
        arrays |= {f"{part}_x": drawn.x, f"{part}_y": drawn.boxes if name == "drawn-boxes" else drawn.masks}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        np.savez_compressed(stream, **cast(dict[str, Any], arrays))
    temporary.replace(path)
    return path


def _carried(path: Path, part: str) -> Bytes | None:
    if not path.is_file():
        return None
    found = [picture for picture in pictures_of_zip(path) if picture.name.startswith(f"{part}/")]
    return np.stack([pixels(path, picture, (1, 3, 32, 32)) for picture in found]) if found else None


def _background(generator: np.random.Generator, photographs: Bytes | None) -> NDArray[np.float64]:
    if photographs is not None:
        photograph = photographs[int(generator.integers(len(photographs)))].astype(np.float64)
        photograph = photograph[:, :, ::-1] if generator.integers(2) else photograph
        twice: NDArray[np.float64] = photograph.repeat(2, axis=1).repeat(2, axis=2)
        return twice
    ends = generator.integers(0, 256, (2, 3, 1, 1)).astype(np.float64)
    way, places = generator.random(), np.arange(SIDE) / (SIDE - 1)
    share = way * places[:, None] + (1 - way) * places[None, :]
    gradient: NDArray[np.float64] = ends[0] + (ends[1] - ends[0]) * share
    return gradient + generator.integers(-12, 13, (3, SIDE, SIDE))


def _objects(
    generator: np.random.Generator, picture: NDArray[np.float64], boxes: NDArray[np.float32], mask: Bytes
) -> None:
    """Draw objects onto a picture; note their boxes and where they are."""
    done = 0
    for _ in range(int(generator.integers(1, MOST + 1))):
        kind = int(generator.integers(len(NAMES)))
        for _ in range(_TRIES):
            side = int(generator.integers(_LEAST, _LARGEST + 1))
            shape = _shape(kind, side, int(generator.integers(10)))
            height, width = shape.shape
            top, left = (int(generator.integers(0, SIDE - extent + 1)) for extent in (height, width))
            own = np.array([left, top, left + width, top + height], np.float32)
            if not _meets(own, boxes[:done, 1:]):
                break
        else:
            continue
        where = (slice(top, top + height), slice(left, left + width))
        behind = picture[:, where[0], where[1]]
        picture[:, where[0], where[1]] = np.where(shape, _colour(generator, behind.mean(axis=(1, 2))), behind)
        mask[where][shape] = kind + 1
        boxes[done] = (kind, *own)
        done += 1


def _colour(generator: np.random.Generator, behind: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a colour that is told from what is behind it."""
    while True:
        colour = generator.integers(0, 256, 3).astype(np.float64)
        if np.linalg.norm(colour - behind) >= _APART:
            return colour[:, None, None]


def _meets(own: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Whether a box lies on another one."""
    apart = (own[0] >= others[:, 2]) | (own[2] <= others[:, 0]) | (own[1] >= others[:, 3]) | (own[3] <= others[:, 1])
    return bool((~apart).any())


@functools.cache
def _shape(kind: int, side: int, digit: int) -> NDArray[np.bool_]:
    """Return the pixels of an object, cut to what it covers."""
    u, v = np.meshgrid(*2 * [(np.arange(side) + 0.5) / side])
    if kind == NAMES.index("digit"):
        rows = np.array([[dot == "1" for dot in row] for row in _DIGITS[digit].split()])
        u, v = np.meshgrid(
            (np.arange(max(side * 5 // 7, 5)) + 0.5) / max(side * 5 // 7, 5), (np.arange(side) + 0.5) / side
        )
        found = rows[(v * 7).astype(int), (u * 5).astype(int)]
    else:
        found = (
            np.hypot(u - 0.5, v - 0.5) <= 0.5,
            np.ones_like(u, bool),
            np.abs(u - 0.5) <= v / 2,
            (np.abs(u - 0.5) <= 0.17) | (np.abs(v - 0.5) <= 0.17),
        )[kind]
    rows_, columns = found.any(axis=1).nonzero()[0], found.any(axis=0).nonzero()[0]
    cut: NDArray[np.bool_] = found[rows_[0] : rows_[-1] + 1, columns[0] : columns[-1] + 1]
    return cut
