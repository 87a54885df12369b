"""The QEMU plugin that counts instructions: built with the host's compiler on first use, then cached."""

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tapc.base.cache import cache_folder, warn_once
from tapc.base.errors import OutputError, ToolError
from tapc.base.files import scratch_folder
from tapc.base.tool import run

_SOURCE = Path(__file__).resolve().parent / "counters.c"
_keep = contextlib.ExitStack()
atexit.register(_keep.close)
_FLAGS = ("-O2", "-std=gnu11", "-fPIC", "-shared", "-fvisibility=hidden")


@dataclass(frozen=True)
class Counts:
    """What the plugin wrote.

    Attributes
    ----------
    marks : tuple of int
        Instructions executed when tapc_mark was entered and left, alternately.
    blocks : ndarray of uint64, shape (n, 3)
        Address, instructions and executions of every block that ran, by address. One block is counted once,
        however often it was translated.
    """

    marks: tuple[int, ...]
    blocks: npt.NDArray[np.uint64]


def counters_plugin() -> Path:
    """Return the path of the plugin, built first if the cache does not have this version of it.

    Raises
    ------
    ToolError
        There is no C compiler on this machine, or it failed.
    """
    source = _SOURCE.read_bytes()
    key = hashlib.sha256(source + " ".join((*_FLAGS, *os.uname()[::4])).encode()).hexdigest()[:16]
    path = cache_folder() / key / "counters.so"
    if path.is_file():
        return path
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise ToolError("counting instructions needs a C compiler for this machine: apt-get install gcc libc6-dev")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(path.parent) as scratch:
            _keep_first(_build(compiler, scratch / path.name), path)
    except (OSError, OutputError) as error:
        warn_once(f"the cache {path.parent} cannot be written ({error}); going on without")
        return _own_plugin(compiler)
    return path


def _keep_first(built: Path, path: Path) -> None:
    """Put a file in its place unless another process was quicker, whose file may be in use.

    A locked QEMU may read that very file, not another of its name.
    """
    try:
        path.hardlink_to(built)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        built.replace(path)


@functools.cache
def _own_plugin(compiler: str) -> Path:
    """Build the plugin for this process alone."""
    folder = _keep.enter_context(scratch_folder())
    return _build(compiler, folder / "counters.so")


def _build(compiler: str, path: Path) -> Path:
    done = run([compiler, *_FLAGS, str(_SOURCE), "-o", str(path)])
    if done.returncode != 0:
        raise ToolError(f"{compiler} could not build the counter plugin (libc6-dev missing?):\n{done.stderr}")
    return path


def read_counts(path: Path) -> Counts:
    """Read the plugin's file.

    Raises
    ------
    ToolError
        The file is missing or cut short.
    """
    try:
        words = np.fromfile(path, dtype=np.uint64)
    except OSError as error:
        raise ToolError(f"QEMU's counter plugin wrote no counts: {error}") from error
    marks_end = 1 + int(words[0]) if words.size else 1
    if words.size <= marks_end or words.size != marks_end + 1 + 3 * int(words[marks_end]):
        raise ToolError(f"QEMU's counter plugin left an incomplete file of {words.size} words")
    return Counts(tuple(map(int, words[1:marks_end])), summed(words[marks_end + 1 :].reshape(-1, 3)))


def summed(records: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return records (address, instructions, executions), shape (n, 3), with one of every block, by address."""
    keys, inverse = np.unique(records[:, :2], axis=0, return_inverse=True)
    executions = np.zeros(len(keys), np.uint64)
    np.add.at(executions, inverse.reshape(-1), records[:, 2])
    return np.column_stack([keys, executions])
