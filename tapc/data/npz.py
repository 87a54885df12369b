"""npz archives and .npy files: headers first, then only the arrays that are wanted."""

import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.data.arrays import NEEDS, named_arrays, roles
from tapc.data.dataset import DataSet
from tapc.data.limits import check_memory, read_bytes, reading

_KINDS = "biufcUS"
_OWN = ("scale", "zero_point")

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


Shapes = dict[str, tuple[int, ...]]
Read = Callable[[str], NDArray[Any]]


def open_npz(path: Path) -> DataSet:
    """Open an npz archive.

    Raises
    ------
    DataError
        Damaged, encrypted, too large, or without inputs.
    """
    return named_arrays(str(path), *npz_arrays(path, _wanted), "the archive has no 'y'")


def _wanted(names: Iterable[str]) -> set[str]:
    names = list(names)
    return {*roles(names).values(), *(name for name in _OWN if name in names)}


def npz_arrays(path: Path, pick: Callable[[Iterable[str]], set[str]]) -> tuple[Shapes, Read]:
    """Return the shapes of the arrays of an archive that are picked by their names, and what reads one.

    Raises
    ------
    DataError
        Damaged, encrypted, too large, or nothing is picked.
    """
    with reading(str(path), "a readable npz archive", "write it with numpy.savez"), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = pick(members)
        if not wanted:
            raise DataError(f"{path}: holds {sorted(members)[:20]}; {NEEDS}")
        shapes = {}
        for name in sorted(wanted):  # parts and joined samples follow this order; that of a set changes per process
            _check_member(path, members[name])
            with archive.open(members[name]) as stream:
                shapes[name] = _header(stream, f"{path}: {name}")[0]

    def read(name: str) -> NDArray[Any]:
        with (
            reading(f"{path}: {name}", "a readable array", "write it with numpy.savez"),
            zipfile.ZipFile(path) as again,
            again.open(members[name]) as stream,
        ):
            return _array(stream, f"{path}: {name}")

    return shapes, read


def open_npy(path: Path) -> DataSet:
    """Open a .npy file: inputs without labels."""
    return _files(path, {"x": path}, "a .npy file holds inputs only; labels go into an npz archive")


def open_npy_folder(path: Path, files: list[Path]) -> DataSet:
    """Open a folder of .npy files with the names of an npz archive's arrays."""
    return _files(path, {file.stem: file for file in files}, "the folder has no y.npy")


def _files(path: Path, files: dict[str, Path], unlabelled: str) -> DataSet:
    return named_arrays(str(path), *npy_arrays(files, _wanted(files) or set(files)), unlabelled)


def npy_arrays(files: Mapping[str, Path], wanted: set[str]) -> tuple[Shapes, Read]:
    """Return the shapes of .npy files by their names, and what reads one.

    Raises
    ------
    DataError
        Damaged or too large.
    """

    def read(name: str) -> NDArray[Any]:
        with (
            reading(str(files[name]), "a readable .npy file", "write it with numpy.save"),
            files[name].open("rb") as stream,
        ):
            return _array(stream, str(files[name]))

    shapes = {}
    for name in sorted(wanted):
        with (
            reading(str(files[name]), "a readable .npy file", "write it with numpy.save"),
            files[name].open("rb") as stream,
        ):
            shapes[name] = _header(stream, str(files[name]))[0]
    return shapes, read


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 1:
        raise DataError(f"{path}: {info.filename} is encrypted; pack the archive without a password")


def _header(stream: IO[bytes], what: str) -> Header:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise DataError(f"{what}: values are of type {dtype}; give numbers (labels may be strings)")
    if any(extent < 0 for extent in shape):
        raise DataError(f"{what}: has the shape {shape}; write it with numpy.save")
    check_memory(math.prod(shape) * dtype.itemsize, what)
    return shape, fortran, dtype


def _array(stream: IO[bytes], what: str) -> NDArray[Any]:
    shape, fortran, dtype = _header(stream, what)
    content = read_bytes(stream, math.prod(shape) * dtype.itemsize, what)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
