"""Arrays by the names that people give them: npz members, files of a folder, dictionaries; and what Python holds."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.data.dataset import SPLIT_NAMES, DataSet, Part, PartName
from tapc.data.limits import MEMORY, reading
from tapc.data.units import PixelUnits

INPUTS = ("x", "images", "image", "data", "inputs", "input", "features", "samples")
LABELS = ("y", "labels", "label", "targets", "target", "classes", "class")
MOST = 8192
"""Most samples that are drawn from a torch data set or loader."""

Read = Callable[[], NDArray[Any]]
NEEDS = "needs 'x', or 'train_x' and 'test_x' (and labels 'y')"


def roles(names: Iterable[str]) -> dict[tuple[PartName, str], str]:
    """Find inputs ("x") and labels ("y") of each part among names of arrays.

    `x`/`y`, `train_x`/`test_y`, `X_train`, `images`/`labels`, `data`/`target`, `val_images` ...; of several names for
    one thing the first in `INPUTS` or `LABELS` counts.
    """
    found: dict[tuple[PartName, str], tuple[int, str]] = {}
    for name in names:
        words = [word for word in re.split(r"[\s_.-]+", name.lower()) if word]
        parts = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
        others = [word for word in words if word not in SPLIT_NAMES]
        if len(parts) > 1 or len(others) != 1:
            continue
        for role, known in (("x", INPUTS), ("y", LABELS)):
            if others[0] in known:
                key: tuple[PartName, str] = (parts[0] if parts else "", role)
                found[key] = min(found.get(key, (len(known), name)), (known.index(others[0]), name))
    return {key: name for key, (_, name) in found.items()}


def named_arrays(
    source: str, sizes: Mapping[str, tuple[int, ...]], read: Callable[[str], NDArray[Any]], unlabelled: str
) -> DataSet:
    """Return the data set that named arrays make.

    Parameters
    ----------
    source : str
        For messages.
    sizes : mapping of str to tuple of int
        Shape of every array.
    read : callable
        Array of a name.
    unlabelled : str
        Why there are no labels where none are found.
    """
    found = roles(sizes)
    parts: list[PartName] = [part for part, role in found if role == "x"]
    if not parts:
        raise DataError(f"{source}: holds {sorted(sizes)}; {NEEDS}")
    if "" in parts and len(parts) > 1:
        # One array for all and others for parts: the parts are meant.
        parts = [part for part in parts if part]
    made: dict[PartName, Part] = {}
    for part in parts:
        name = found[part, "x"]
        shape = sizes[name]
        if len(shape) < 1 or shape[0] == 0:
            raise DataError(f"{source}: {name} is empty; the data set needs samples")
        labels = read(found[part, "y"]) if (part, "y") in found else None
        made[part] = Part(shape[0], lambda index, name=name: read(name)[index], labels)  # type: ignore[misc]
    own = None
    if scale_name := next((name for name in sizes if name == "scale"), None):
        own = _own_units(source, read(scale_name), read("zero_point") if "zero_point" in sizes else np.zeros(()))
    return DataSet(source, made, units=own, unlabelled=unlabelled)


def _own_units(source: str, scale: NDArray[Any], zero_point: NDArray[Any]) -> PixelUnits:
    values = []
    for name, array in (("scale", scale), ("zero_point", zero_point)):
        if array.size != 1 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise DataError(f"{source}: {name} is no finite number; the samples are (x - zero_point) * scale")
        values.append(float(array.reshape(-1)[0]))
    if values[0] <= 0:
        raise DataError(f"{source}: scale is {values[0]:g}; it must be above zero")
    return PixelUnits(values[0], (values[0] * values[1],), given=True)


def from_python(data: Any, seed: int) -> DataSet:
    """Return the data set of Python objects: arrays, (x, y), dictionaries of arrays, torch data sets and loaders.

    Raises
    ------
    DataError
        Anything else.
    """
    name = type(data).__name__
    with reading(name, "samples", "give an array, (x, y), a dictionary of arrays or a torch data set"):
        if isinstance(data, Mapping):
            arrays = {str(key): as_array(value) for key, value in data.items()}
            shapes = {key: value.shape for key, value in arrays.items()}
            return named_arrays(name, shapes, arrays.__getitem__, "no 'y' is given")
        if hasattr(data, "shape"):
            return named_arrays(
                "array", {"x": as_array(data).shape}, lambda _: as_array(data), "only inputs were given"
            )
        if isinstance(data, (tuple, list)) and len(data) == 2 and all(hasattr(part, "shape") for part in data):
            pair = dict(zip("xy", map(as_array, data), strict=True))
            return named_arrays("arrays", {key: value.shape for key, value in pair.items()}, pair.__getitem__, "")
        if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
            chosen = np.sort(np.random.default_rng(seed).permutation(len(data))[:MOST])
            return _drawn(name, (data[int(i)] for i in chosen), batches=False)
        if isinstance(data, Iterable):
            return _drawn(name, data, batches=hasattr(data, "dataset") or hasattr(data, "batch_size"))
    raise DataError(f"{name}: no samples; give a path, an array, (x, y), a dictionary of arrays or a torch data set")


def _drawn(name: str, items: Iterable[Any], *, batches: bool) -> DataSet:
    inputs: list[NDArray[Any]] = []
    labels: list[NDArray[Any]] = []
    size = taken = 0
    for item in items:
        pair = item if isinstance(item, (tuple, list)) else (item,)
        x = as_array(pair[0])
        x = x if batches else x[None]
        inputs.append(x)
        if len(pair) > 1:
            y = as_array(pair[1])
            labels.append(y if batches else y[None])
        size, taken = size + x.nbytes, taken + len(x)
        if taken >= MOST or size > MEMORY:
            break
    if not inputs:
        raise DataError(f"{name}: gives no samples")
    arrays = {"x": np.concatenate(inputs)[:MOST]}
    if len(labels) == len(inputs):
        arrays["y"] = np.concatenate(labels)[:MOST]
    shapes = {key: value.shape for key, value in arrays.items()}
    return named_arrays(name, shapes, arrays.__getitem__, "its items have no labels")


def as_array(value: Any) -> NDArray[Any]:
    """Return an array for a numpy array, tensor, picture, number or string."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)
