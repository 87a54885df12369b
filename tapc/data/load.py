"""Samples of a network: read from files, divided, brought to the network's shape and units."""

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tapc.data.samples import Samples, Split
from tapc.data.units import PixelUnits
from tapc.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm")
CALIBRATION_LIMIT = 512
"""Most samples that an archive without a training set gives to calibration."""

_CLASS_PREFIX = re.compile(r"^(\d{4})_")
_SPLIT_FOLDERS = {"train": "train", "calibration": "train", "test": "test", "val": "test"}
_PART = {"calibration": "train", "train": "train", "test": "test"}
"""Which part of a divided set a split takes."""


@dataclass(frozen=True)
class _ImageFile:
    name: str
    open: Callable[[], IO[bytes]]


def load_samples(
    path: Path,
    shape: tuple[int, ...],
    *,
    pixel_scale: float | PixelUnits,
    count: int | None,
    split: Split,
    seed: int = 0,
    reserve: int = CALIBRATION_LIMIT,
) -> Samples:
    """Load samples from an npz archive, or a folder or zip of images.

    npz: `x` and optionally `y`, or `train_x`/`train_y` and `test_x`/`test_y`. With `scale` (and `zero_point`)
    integers are dequantized; other integers are multiplied by `pixel_scale`; floats are taken as they are.
    Images: CLASS/NAME.jpg, labels numbered in the sorted order of the class folders, or CCCC_NAME.jpg with
    CCCC the class; folders named train, calibration, test or val separate the splits.

    "calibration" takes the training set and "test" the test set where both exist. From a single set,
    calibration takes the first part of a permutation drawn from `seed` (half, at most `reserve`) and test the
    rest, so that they never overlap. "train" takes the training set, or all of a single set; "all" takes everything
    there is. Samples for calibration and training come shuffled, the others in file order.

    Parameters
    ----------
    path : Path
        npz, zip or folder.
    shape : tuple of int
        The network's input shape, (1, C, H, W) or (1, F).
    pixel_scale : float or PixelUnits
        What raw integer values are multiplied with, or how else they become inputs.
    count : int or None
        Number of samples, drawn with `seed`; None or more than there are means all.
    split : {"calibration", "train", "test", "all"}
    seed : int
    reserve : int
        Most samples of a single set that are kept for calibration.

    Raises
    ------
    DataError
        Missing, corrupt or empty data, or samples of another size than the network takes.
    """
    units = pixel_scale if isinstance(pixel_scale, PixelUnits) else PixelUnits(pixel_scale)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give an npz archive, or a zip or folder of images")
    if count is not None and count < 1:
        raise DataError(f"{path}: {count} samples asked for; give at least 1")
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        images = [_ImageFile(item.relative_to(path).as_posix(), lambda item=item: item.open("rb")) for item in files]  # type: ignore[misc]
        return _load_images(path, images, shape, units, count, split, seed, reserve)
    if path.suffix == ".npz":
        return _load_npz(path, shape, units, count, split, seed, reserve)
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if not name.endswith("/"))
                images = [_ImageFile(name, lambda name=name: archive.open(name)) for name in names]  # type: ignore[misc]
                return _load_images(path, images, shape, units, count, split, seed, reserve)
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: not a readable zip archive ({error}); download or pack it again") from None
    raise DataError(f"{path}: unknown kind of data; give an npz archive, or a zip or folder of images")


def _choose(total: int, count: int | None, split: Split, seed: int, reserve: int, *, single: bool) -> NDArray[np.intp]:
    """Return the chosen indices; `single` divides one set between calibration and test."""
    order = np.random.default_rng(seed).permutation(total)
    if single and split in ("calibration", "test"):
        # Depends on the total and seed alone, so that calibration and test agree on it. One sample serves both.
        first = min(total // 2, reserve)
        order = order[:first] if split == "calibration" else order[first:]
        if total == 1:
            order = np.zeros(1, np.intp)
    order = order[:count]
    # Calibration stays shuffled: its users take the first few samples, and archives are often sorted by class.
    return order if split in ("calibration", "train") else np.sort(order)


def _units(
    x: NDArray[Any], archive: dict[str, NDArray[Any]], units: PixelUnits
) -> tuple[NDArray[np.float32], PixelUnits]:
    if np.issubdtype(x.dtype, np.floating):
        return x.astype(np.float32), PixelUnits()
    if "scale" in archive:
        zero_point = float(archive["zero_point"]) if "zero_point" in archive else 0.0
        scale = float(archive["scale"])
        values = ((x.astype(np.float64) - zero_point) * scale).astype(np.float32)
        return values, PixelUnits(scale, (zero_point * scale,))
    return units.apply(x), units


def _range(raw: NDArray[Any]) -> tuple[float, float]:
    return float(raw.min()), float(raw.max())


def _pictures(raw: NDArray[Any], archive: dict[str, NDArray[Any]]) -> bool:
    """Whether an array holds colour pictures: raw bytes with three channels, no side of a few samples."""
    return (
        raw.dtype == np.uint8
        and "scale" not in archive
        and raw.ndim == 4
        and raw.shape[1] == 3
        and min(raw.shape[2:]) >= 8
    )


def _fit(path: Path, x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Bring samples to the network's shape where there is one way to do it."""
    wanted, given = shape[1:], x.shape[1:]
    if given == wanted:
        return x
    if len(wanted) == 3 and given == (*wanted[1:], wanted[0]):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    flat = len(wanted) == 1 or wanted[0] == 1 or wanted[1:] == (1, 1)
    if int(np.prod(given)) == int(np.prod(wanted)) and flat:
        return x.reshape(len(x), *wanted)
    raise DataError(
        f"{path}: samples have shape {given}, the network takes {wanted}; "
        "resize or reorder the data, or compile a model with that input shape"
    )


def _load_npz(
    path: Path, shape: tuple[int, ...], units: PixelUnits, count: int | None, split: Split, seed: int, reserve: int
) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as stored:
            archive = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable npz archive ({error}); write it with numpy.savez") from None
    present = [prefix for prefix in ("train_", "test_", "") if f"{prefix}x" in archive]
    if not present:
        raise DataError(f"{path}: holds {sorted(archive)}; needs 'x', or 'train_x' and 'test_x' (and labels 'y')")
    if "train_" in present and "test_" in present:
        chosen = [f"{_PART[split]}_"] if split in _PART else ["train_", "test_"]
    else:
        chosen = [present[0]]
    x = np.concatenate([archive[f"{prefix}x"] for prefix in chosen])
    labelled = all(f"{prefix}y" in archive for prefix in chosen)
    y = np.concatenate([archive[f"{prefix}y"] for prefix in chosen]).astype(np.int64) if labelled else None
    if x.ndim < 2 or len(x) == 0:
        raise DataError(f"{path}: {'+'.join(f'{p}x' for p in chosen)} is empty; the data set needs samples")
    if y is not None and y.shape != (len(x),):
        raise DataError(f"{path}: {len(x)} samples but labels of shape {y.shape}; needs one label per sample")
    single = not ("train_" in present and "test_" in present)
    index = _choose(len(x), count, split, seed, reserve, single=single)
    raw = _fit(path, x[index], shape)
    samples, units = _units(raw, archive, units)
    labels = None if y is None else y[index]
    return _finite(
        path,
        Samples(samples, labels, _describe(path, split, len(index)), None, units, _range(raw), _pictures(raw, archive)),
    )


def _split_of(name: str) -> str | None:
    for part in PurePosixPath(name).parts[:-1]:
        if part.lower() in _SPLIT_FOLDERS:
            return _SPLIT_FOLDERS[part.lower()]
    return None


def _class_of(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or parts[-2].lower() in _SPLIT_FOLDERS:
        return None
    return parts[-2]


def _labels(names: list[str]) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Return class indices from CCCC_ prefixes or from the sorted class folders, or None, and the folders' names."""
    prefixes = [_CLASS_PREFIX.match(PurePosixPath(name).name) for name in names]
    if all(prefixes):
        return np.array([int(match.group(1)) for match in prefixes if match], np.int64), None
    folders = [_class_of(name) for name in names]
    classes = sorted({folder for folder in folders if folder is not None})
    if None in folders or not classes:
        return None, None
    number = {folder: index for index, folder in enumerate(classes)}
    return np.array([number[folder] for folder in folders if folder is not None], np.int64), tuple(classes)


def _load_images(
    path: Path,
    files: list[_ImageFile],
    shape: tuple[int, ...],
    units: PixelUnits,
    count: int | None,
    split: Split,
    seed: int,
    reserve: int,
) -> Samples:
    files = [file for file in files if file.name.lower().endswith(IMAGE_SUFFIXES)]
    if not files:
        raise DataError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)}); the data set needs samples")
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise DataError(f"{path}: images cannot feed a network with input shape {shape}; use an npz archive")
    y, classes = _labels([file.name for file in files])
    splits = [_split_of(file.name) for file in files]
    both = {"train", "test"} <= set(splits)
    pool = np.array([i for i, of in enumerate(splits) if not both or split == "all" or of == _PART[split]], np.intp)
    index = pool[_choose(len(pool), count, split, seed, reserve, single=not both)]
    x = np.stack([_image(path, files[i], shape) for i in index])
    labels = None if y is None else y[index]
    return Samples(units.apply(x), labels, _describe(path, split, len(index)), classes, units, _range(x), True)


def _image(path: Path, file: _ImageFile, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape[1:]
    try:
        with file.open() as stream, Image.open(BytesIO(stream.read())) as image:
            if image.size != (width, height):
                raise DataError(
                    f"{path}: {file.name} is {image.size[0]}x{image.size[1]} pixels, the network takes "
                    f"{width}x{height}; crop or resize the images, or compile a model with that input size"
                )
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {file.name} is not a readable image ({error}); remove or replace it") from None
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _finite(path: Path, samples: Samples) -> Samples:
    if not np.isfinite(samples.x).all():
        raise DataError(f"{path}: samples hold NaN or infinite values; remove or repair them")
    return samples


def _describe(path: Path, split: Split, count: int) -> str:
    return f"{path.name}: {count} samples ({split})"
