"""Samples of a network: read from files or arrays, divided, brought to the network's shape and units."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.base.ports import Ports, sample_shape
from tapc.data import images
from tapc.data.annotations import is_coco, is_voc, open_coco, open_voc
from tapc.data.arrays import from_python
from tapc.data.csvfile import open_csv
from tapc.data.dataset import DataSet, labels_of
from tapc.data.fit import fitted
from tapc.data.limits import MEMORY, check_regular
from tapc.data.masks import has_masks, open_masks
from tapc.data.npz import open_npy, open_npy_folder, open_npz
from tapc.data.samples import Samples, Split, as_ports
from tapc.data.sequences import chosen_steps, stepwise
from tapc.data.several import open_several, tokens
from tapc.data.units import PixelUnits

CALIBRATION_LIMIT = 512
"""Most samples that an archive without a training set gives to calibration."""
KINDS = "an npz archive, a .npy or CSV file, or a zip or folder of images"

_SMALLEST_SIDE = 8


def load_samples(
    source: Any,
    shape: tuple[int, ...] | Ports,
    *,
    pixel_scale: float | PixelUnits,
    count: int | None,
    split: Split,
    seed: int = 0,
    reserve: int = CALIBRATION_LIMIT,
    sequences: bool = False,
    masks: tuple[int, int] | None = None,
) -> Samples:
    """Load samples from a file, a folder or arrays.

    npz: `x` and optionally `y`, or `train_x`/`train_y` and `test_x`/`test_y`, and other usual names (`X_train`,
    `images`, `labels` ...). With `scale` (and `zero_point`) integers are dequantized; other integers are multiplied by
    `pixel_scale`; floats are taken as they are, unless the units were given by the user.
    Images: CLASS/NAME.jpg, labels numbered in the sorted order of the class folders, or CCCC_NAME.jpg with
    CCCC the class; folders named train, val or test (and their like) separate the splits. CSV: one sample per row.
    Folders of Pascal VOC and COCO have boxes, see `tapc.data.annotations`, or masks, see `tapc.data.masks`.

    "calibration" takes the training set and "test" the test set where both exist. From a single set,
    calibration takes the first part of a permutation drawn from `seed` (half, at most `reserve`) and test the
    rest, so that they never overlap. "train" takes the training set, or all of a single set; "all" takes everything
    there is. Samples for calibration and training come shuffled, the others in file order.

    Parameters
    ----------
    source : path, arrays or DataSet
        npz, npy, CSV, zip or folder; an array of inputs, (inputs, labels), a dictionary of arrays, a torch data set or
        loader; or what `open_data` made of one of these, where several splits are loaded from it.
    shape : tuple of int or of Port
        The network's input shape, (1, C, H, W) or (1, F), or its inputs. Of several the samples are rows; npz archives,
        folders of .npy files and dictionaries have an array by the name of each.
    pixel_scale : float or PixelUnits
        What raw integer values are multiplied with, or how else they become inputs.
    count : int or None
        Number of samples, drawn with `seed`; None or more than there are means all.
    split : {"calibration", "train", "test", "all"}
    seed : int
    reserve : int
        Most samples of a single set that are kept for calibration.
    sequences : bool
        Samples are steps that follow each other, see `tapc.data.sequences`.
    masks : (int, int) or None
        Height and width of the masks that a folder is read for; see `tapc.data.masks.masks_of`.

    Raises
    ------
    DataError
        Missing, corrupt or empty data, or samples of another size than the network takes.
    """
    units = pixel_scale if isinstance(pixel_scale, PixelUnits) else PixelUnits(pixel_scale)
    ports = as_ports(shape)
    data = source if isinstance(source, DataSet) else open_data(source, ports, seed, masks)
    if (len(ports) > 1 or ports[0].tokens) and units.given:
        raise DataError(
            f"{data.name}: --pixel-scale, --mean and --std are for networks with one input of values; give the samples "
            "as the network takes them"
        )
    shape = (1, *sample_shape(ports))
    if count is not None and count < 1:
        raise DataError(f"{data.name}: {count} samples asked for; give at least 1")
    data, length = stepwise(data, ports) if sequences else (data, 0)
    parts, single = data.chosen(split)
    sizes = [part.size for part in parts]
    if sequences:
        index, steps = chosen_steps(sum(sizes), length, count, split, seed, reserve,
                                    single=single, whole=data.whole_labels)  # fmt: skip
    else:
        index, steps = _choose(sum(sizes), count, split, seed, reserve, single=single), 0
    warnings = list(data.warnings)
    most = max(1, MEMORY // (4 * max(1, int(np.prod(shape)))))
    if len(index) > most:
        warnings.append(f"{data.name}: {most} of {len(index)} samples are used; more would take over {MEMORY:,} bytes")
        index = index[: max(most - most % steps, 1) if steps else most]
    y, names = labels_of(parts, list(data.parts.values()), data.name)
    raw = _taken(data, [part.take for part in parts], sizes, index)
    if raw.dtype.kind not in "biuf":
        raise DataError(f"{data.name}: samples are of type {raw.dtype}; give integers or floats")
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise DataError(f"{data.name}: samples hold NaN or infinite values; remove or repair them")
    raw, doubts = fitted(ports[0].taken(raw) if len(ports) == 1 else raw, shape, data.name)
    x, own = (
        (tokens(raw, ports[0], data.name), PixelUnits())
        if len(ports) == 1 and ports[0].tokens
        else _inputs(raw, data, units)
    )
    if not np.isfinite(x).all():
        raise DataError(f"{data.name}: values are too large for 32-bit floats")
    return Samples(
        x,
        None if y is None else y[index],
        f"{Path(data.name).name}: {len(index)} samples ({split})",
        data.names or names,
        own,
        (float(raw.min()), float(raw.max())),
        data.pictures if data.pictures is not None else _pictures(raw, data),
        data.unlabelled if y is None else "",
        (*warnings, *doubts),
        raw.dtype.kind in "biu" or bool(data.pictures),
        min(steps, len(index)),
        steps if length and data.whole_labels else 1,
        next((int(part.y.shape[2]) for part in parts if part.y is not None and part.y.ndim == 3), 0),
    )


def open_data(
    source: Any, shape: tuple[int, ...] | Ports, seed: int = 0, masks: tuple[int, int] | None = None
) -> DataSet:
    """Open a data set for a network's input shape or its inputs; values are read when they are wanted.

    Raises
    ------
    DataError
        Missing, of an unknown kind, or damaged.
    """
    ports = as_ports(shape)
    if len(ports) > 1:
        return open_several(source, ports)
    shape = ports[0].shape
    if not isinstance(source, (str, os.PathLike)):
        return from_python(source, seed)
    path = Path(source)
    try:
        there = path.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise DataError(f"{path}: no such file or folder; give {KINDS}")
    check_regular(path)
    if has_masks(path) and (masks is not None or not is_voc(path)):
        return open_masks(path, shape, masks)
    if is_voc(path):
        return open_voc(path, shape)
    if is_coco(path):
        return open_coco(path, shape)
    if path.is_dir():
        arrays = sorted(file for file in path.glob("*.npy") if file.is_file())
        found = images.pictures_of_folder(path)
        return open_npy_folder(path, arrays) if arrays and not found else images.data_set(path, found, shape)
    kind = path.suffix.lower()
    if kind == ".npz":
        return open_npz(path)
    if kind == ".npy":
        return open_npy(path)
    if kind in (".csv", ".tsv"):
        return open_csv(path, shape)
    if kind == ".zip":
        return images.data_set(path, images.pictures_of_zip(path), shape)
    raise DataError(f"{path}: unknown kind of data; give {KINDS}")


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


def _taken(data: DataSet, take: list[Any], sizes: list[int], index: NDArray[np.intp]) -> NDArray[Any]:
    """Read samples by their indices over all parts, in that order."""
    starts = np.cumsum([0, *sizes])
    pieces, places = [], []
    for first, last, part in zip(starts, starts[1:], take, strict=False):
        own = np.flatnonzero((index >= first) & (index < last))
        if len(own):
            pieces.append(part(index[own] - first))
            places.append(own)
    if len(pieces) == 1:
        return np.asarray(pieces[0])
    if len({piece.shape[1:] for piece in pieces}) > 1:
        raise DataError(f"{data.name}: samples of the training and the test set differ in shape")
    joined = np.concatenate(pieces)
    result = np.empty_like(joined)
    result[np.concatenate(places)] = joined
    return result


def _inputs(raw: NDArray[Any], data: DataSet, units: PixelUnits) -> tuple[NDArray[np.float32], PixelUnits]:
    """Return the network's inputs, and what was done to the raw values for them."""
    if data.pictures:
        return units.apply(raw), units
    if raw.dtype.kind == "f":
        if units.given:
            return units.apply(raw), units
        with np.errstate(over="ignore"):
            return raw.astype(np.float32), PixelUnits()
    if data.units is not None:
        if units.given:
            raise DataError(
                f"{data.name}: holds its own 'scale', and --pixel-scale, --mean or --std was given; leave one out"
            )
        return data.units.apply(raw), data.units
    return units.apply(raw), units


def _pictures(raw: NDArray[Any], data: DataSet) -> bool:
    """Whether an array holds colour pictures: raw bytes with three channels, no side of a few samples."""
    bytes_ = raw.dtype == np.uint8 and data.units is None
    return bytes_ and raw.ndim == 4 and raw.shape[1] == 3 and min(raw.shape[2:]) >= _SMALLEST_SIDE
