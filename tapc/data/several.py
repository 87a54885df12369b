"""Samples of networks with several inputs: an array by the name of each; and inputs of tokens."""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.base.ports import Port, Ports, joined
from tapc.data.arrays import LABELS, as_array
from tapc.data.dataset import SPLIT_NAMES, DataSet, Part, PartName
from tapc.data.fit import fitted
from tapc.data.limits import check_regular
from tapc.data.npz import npy_arrays, npz_arrays

Read = Callable[[str], NDArray[Any]]


def open_several(source: Any, ports: Ports) -> DataSet:
    """Open a data set of a network with several inputs; samples are rows of all of them.

    Parameters
    ----------
    source : path or mapping of str to array
        An npz archive, a folder of .npy files or a dictionary: an array by the name of each input, of any of
        them with `train_`, `val_` or `test_` before it, and labels `y`.
    ports : tuple of Port

    Raises
    ------
    DataError
        Anything else, or an array that is missing, of another shape or of another length than the others.
    """
    if isinstance(source, Mapping):
        arrays = {str(key): as_array(value) for key, value in source.items()}
        shapes = {key: value.shape for key, value in arrays.items()}
        return _named(type(source).__name__, shapes, arrays.__getitem__, ports)
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(f"{type(source).__name__}: {_needs(ports)}")
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; {_needs(ports)}")
    check_regular(path)
    if path.is_dir():
        files = {file.stem: file for file in sorted(path.glob("*.npy")) if file.is_file()}
        return _named(str(path), *npy_arrays(files, set(files)), ports)
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path}: {_needs(ports)}")
    return _named(str(path), *npz_arrays(path, set), ports)


def _needs(ports: Ports) -> str:
    return (
        f"the network has the inputs {', '.join(map(str, ports))}: give an npz archive, a folder of .npy files or a "
        "dictionary with an array by the name of each, and labels 'y'"
    )


def _named(source: str, shapes: Mapping[str, tuple[int, ...]], read: Read, ports: Ports) -> DataSet:
    found: dict[PartName, dict[str, str]] = {}
    known = {_plain(port.name): port.name for port in ports}
    labels = {name: "" for name in LABELS if name not in known}
    for name in shapes:
        part, rest = _divided(name)
        if (key := known.get(rest)) is not None or rest in labels:
            found.setdefault(part, {})[key or ""] = name
    made: dict[PartName, Part] = {}
    whole = {part: own for part, own in found.items() if len(own.keys() - {""}) == len(ports)}
    for part, own in whole.items():
        sizes = {name: shapes[name][0] if shapes[name] else 0 for name in own.values()}
        if len(set(sizes.values())) > 1 or 0 in sizes.values():
            raise DataError(f"{source}: its arrays have {sizes} samples; needs as many of each, and at least one")
        y = read(own[""]) if "" in own else None
        made[part] = Part(next(iter(sizes.values())), _taking(source, own, read, ports), y)
    if not made:
        raise DataError(f"{source}: holds {sorted(shapes)[:20]}; {_needs(ports)}")
    if "" in made and len(made) > 1:
        del made[""]
    return DataSet(source, made, pictures=False, unlabelled="there is no array 'y'")


def _taking(
    source: str, own: Mapping[str, str], read: Read, ports: Ports
) -> Callable[[NDArray[np.intp]], NDArray[Any]]:
    def take(index: NDArray[np.intp]) -> NDArray[Any]:
        parts = [_values(read(own[port.name])[index], port, f"{source}: {own[port.name]}") for port in ports]
        if all(part.ndim == len(port.shape) for part, port in zip(parts, ports, strict=True)):
            return joined(parts)
        steps = {part.shape[1] for part in parts}
        if len(steps) > 1 or any(part.ndim != 3 for part in parts):
            raise DataError(f"{source}: its arrays are sequences of different lengths")
        return np.concatenate(parts, axis=2)

    return take


def _values(raw: NDArray[Any], port: Port, name: str) -> NDArray[np.float32]:
    if (steps := _sequence(raw, port)) > 1:
        flat = raw.reshape(len(raw) * steps, *raw.shape[2:])
        return _values(flat, port, name).reshape(len(raw), steps, -1)
    if port.tokens:
        return tokens(fitted(port.taken(raw), port.shape, name)[0], port, name)
    if raw.dtype.kind not in "biuf":
        raise DataError(f"{name}: samples are of type {raw.dtype}; give integers or floats")
    return fitted(port.taken(raw), port.shape, name)[0].astype(np.float32)


def _sequence(raw: NDArray[Any], port: Port) -> int:
    """Return how many steps a sample has, each of the port's size; 1 where it is a step itself."""
    long = raw.ndim > 2 and raw.shape[1] > 1 and math.prod(raw.shape[1:]) == raw.shape[1] * port.size
    return raw.shape[1] if long and port.size * raw.shape[1] != port.size else 1


def tokens(raw: NDArray[Any], port: Port, name: str) -> NDArray[np.float32]:
    """Return tokens as whole float32 numbers.

    Raises
    ------
    DataError
        Fractions, or numbers that are no tokens of the network.
    """
    low, high = (float(raw.min()), float(raw.max())) if raw.size else (0.0, 0.0)
    if raw.dtype.kind not in "biuf" or not (raw == np.rint(raw)).all() or low < 0 or high >= port.tokens:
        raise DataError(
            f"{name}: values from {low:g} to {high:g}; the input {port.name!r} takes tokens, whole numbers from 0 to "
            f"{port.tokens - 1}"
        )
    return raw.astype(np.float32)


def _divided(name: str) -> tuple[PartName, str]:
    """Return the part of a data set that an array's name tells, and the rest of the name."""
    plain = _plain(name)
    for word, part in SPLIT_NAMES.items():
        if plain.startswith(f"{word}_"):
            return part, plain.removeprefix(f"{word}_")
        if plain.endswith(f"_{word}"):
            return part, plain.removesuffix(f"_{word}")
    return "", plain


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
