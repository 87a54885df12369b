"""Folders and zips of pictures: classes and parts from the names of folders, values from the pixels."""

import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.data.dataset import DataSet, Part, PartName, part_of
from tapc.data.limits import check_memory, read_bytes, reading

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "PPM")
"""Of Pillow: others may start programs (EPS) or hide behind another suffix."""
_LARGEST = 64 << 20
_MOST_FILES = 4_000_000
_CLASS_PREFIX = re.compile(r"^(\d{4})_")
_SIXTEEN = 257  # 65535 / 255


@dataclass(frozen=True)
class Picture:
    """A picture's path inside its folder or archive, and what reads its bytes."""

    name: str
    read: Callable[[], bytes | bytearray]


def pictures_of_folder(path: Path) -> list[Picture]:
    """List the pictures of a folder, hidden ones left out, in sorted order."""
    found = []
    with reading(str(path), "a readable folder", "give a folder of images"):
        for count, item in enumerate(path.rglob("*")):
            if count > _MOST_FILES:
                raise DataError(f"{path}: holds more than {_MOST_FILES:,} files; give the folder of the samples")
            name = item.relative_to(path).as_posix()
            if _wanted(name) and item.is_file():
                found.append(Picture(name, partial(read_file, path, item)))
    return sorted(found, key=lambda picture: picture.name)


def pictures_of_zip(path: Path) -> list[Picture]:
    """List the pictures of a zip archive, those that macOS adds left out, in sorted order."""
    with reading(str(path), "a readable zip archive", "download or pack it again"), zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir() and _wanted(info.filename)]
    opened: list[zipfile.ZipFile] = []  # when the first picture is read; closed with the pictures
    read = [Picture(info.filename, partial(_read_member, path, opened, info)) for info in infos]
    return sorted(read, key=lambda picture: picture.name)


def _wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(IMAGE_SUFFIXES)


def read_file(folder: Path, file: Path) -> bytearray:
    """Return the bytes of a picture in a folder."""
    with file.open("rb") as stream:
        return _read_limited(stream, file.stat().st_size, f"{folder}: {file.relative_to(folder).as_posix()}")


def _read_member(path: Path, opened: list[zipfile.ZipFile], info: zipfile.ZipInfo) -> bytearray:
    if info.flag_bits & 1:
        raise DataError(f"{path}: {info.filename} is encrypted; pack the archive without a password")
    if not opened:
        opened.append(zipfile.ZipFile(path))
    with opened[0].open(info) as stream:
        return _read_limited(stream, info.file_size, f"{path}: {info.filename}")


def _read_limited(stream: Any, size: int, what: str) -> bytearray:
    if size > _LARGEST:
        raise DataError(f"{what}: has {size:,} bytes; pictures have at most {_LARGEST:,}")
    return read_bytes(stream, size, what)


def data_set(path: Path, found: list[Picture], shape: tuple[int, ...]) -> DataSet:
    """Return the data set of pictures.

    CLASS/NAME.jpg with classes in sorted order, or CCCC_NAME.jpg with CCCC the class; folders named train, val or test
    (or their like) anywhere above divide the set.

    Parameters
    ----------
    path : Path
    found : list of Picture
    shape : tuple of int
        The network's input shape, (1, 1 or 3, H, W).
    """
    if not found:
        raise DataError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)}); the data set needs samples")
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise DataError(f"{path}: images cannot feed a network with input shape {shape}; use an npz archive")
    notes: list[str] = []
    names = [picture.name for picture in found]
    splits = _splits(names, path, notes)
    y, classes, why = _labels(names, divided=splits is not None)

    def taken(pool: NDArray[np.intp], index: NDArray[np.intp]) -> NDArray[Any]:
        check_memory(len(index) * shape[1] * shape[2] * shape[3], str(path))
        return np.stack([pixels(path, found[i], shape) for i in pool[index]])

    def part(pool: NDArray[np.intp]) -> Part:
        return Part(len(pool), partial(taken, pool), None if y is None else y[pool])

    parts: dict[PartName, Part] = {}
    if splits is None:
        parts[""] = part(np.arange(len(found)))
    else:
        for name in dict.fromkeys(splits):
            if name is not None:
                parts[name] = part(np.array([i for i, split in enumerate(splits) if split == name], np.intp))
    return DataSet(str(path), parts, classes, pictures=True, unlabelled=why, warnings=tuple(notes))


def _splits(names: list[str], path: Path, notes: list[str]) -> list[PartName | None] | None:
    """Return the part of each picture, or None where folders do not divide the set."""
    splits = [_split(PurePosixPath(name)) for name in names]
    kinds = {split for split in splits if split}
    outside = splits.count(None)
    if not kinds or (outside and len(kinds) == 1):
        return None  # a class may be called "training", beside others
    if outside:
        notes.append(f"{path}: {outside} images lie outside of the folders of training and test samples: not used")
    return splits


def _split(name: PurePosixPath) -> PartName | None:
    return next((part for folder in name.parts[:-1] if (part := part_of(folder)) is not None), None)


def _labels(names: list[str], *, divided: bool) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None, str]:
    """Return class indices from CCCC_ prefixes or from the sorted class folders, their names, or why there are none."""
    prefixes = [_CLASS_PREFIX.match(PurePosixPath(name).name) for name in names]
    if all(prefixes):
        return np.array([int(match.group(1)) for match in prefixes if match], np.int64), None, ""
    folders = [_class_of(name, divided) for name in names]
    classes = sorted({folder for folder in folders if folder is not None})
    if not classes:
        return None, None, "the images lie in no folders of classes (CLASS/NAME.png)"
    if None in folders:
        loose = next(name for name, folder in zip(names, folders, strict=True) if folder is None)
        return None, None, f"{folders.count(None)} images lie beside the folders of classes, as {loose}"
    if len(classes) == 1:
        return None, None, f"all images lie in one folder, {classes[0]}; classes need a folder each"
    number = {folder: index for index, folder in enumerate(classes)}
    return np.array([number[folder] for folder in folders if folder is not None], np.int64), tuple(classes), ""


def _class_of(name: str, divided: bool) -> str | None:
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or (divided and part_of(parts[-2])):
        return None
    return parts[-2]


def pixels(path: Path, picture: Picture, shape: tuple[int, ...], *, resized: bool = False) -> NDArray[Any]:
    """Return a picture as (C, H, W): bytes, or floats from 0 to 255 where it has 16 bits.

    One of another size is an error, or is `resized`, whatever becomes of its proportions.
    """
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape[1:]
    what = f"{path}: {picture.name}"
    with reading(what, "a readable image", "remove or replace it"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = Image.open(BytesIO(picture.read()), formats=FORMATS)
        except UnidentifiedImageError:
            kinds = ", ".join(FORMATS)
            raise DataError(f"{what} is not a readable image (none of {kinds}); remove or replace it") from None
        with opened as stored:
            other = resized and stored.size != (width, height)
            image = stored.convert("RGB").resize((width, height), Image.Resampling.BILINEAR) if other else stored
            if image.size != (width, height):
                turned = image.size == (height, width)
                advice = "width and height are exchanged: turn them" if turned else "crop or resize the images"
                raise DataError(
                    f"{what} is {image.size[0]}x{image.size[1]} pixels, the network takes {width}x{height}; "
                    f"{advice}, or compile a model with that input size"
                )
            if image.mode.startswith(("I", "F")):
                grey = np.asarray(image).astype(np.float32) / _SIXTEEN
                if grey.ndim != 2 or grey.min() < 0 or grey.max() > 255:
                    raise DataError(f"{what}: pixels of mode {image.mode} have no known range; give 8 or 16 bits")
                return np.repeat(grey[None], channels, axis=0)
            values = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    return values.reshape(height, width, channels).transpose(2, 0, 1)
