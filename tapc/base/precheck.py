"""What can be refused at once: before torch is imported, before any work."""

import re
from collections.abc import Collection
from pathlib import Path

from tapc.base.errors import DataError, UsageError

CALLABLE = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
NETWORKS = (".onnx", ".tflite")
LEARNED = ("adaround", "block", "network")
"""Rounding methods that learn, and so load torch into the process that compiles."""
ROUNDINGS = ("nearest", "mse", "gptq", "rate", *LEARNED)
"""The names that the command line knows; a program may register more."""


def check_rounding_name(name: str) -> None:
    """Raise UsageError for a rounding method that tapc does not bring."""
    if name not in ROUNDINGS:
        raise UsageError(f"unknown rounding method {name!r}; known: {', '.join(ROUNDINGS)}")


def check_source(source: str, known: Collection[str]) -> None:
    """Raise for a network that is none: UsageError for an unknown kind, DataError for a missing file.

    Parameters
    ----------
    source : str
    known : collection of str
        Names of the zoo.
    """
    if source in known:
        return
    if not is_file(source):
        raise UsageError(
            f"unknown model {source!r}; give a zoo name ({', '.join(known)}), a torch module as file.py:callable, "
            "a file.onnx or a file.tflite"
        )
    found = CALLABLE.fullmatch(source)
    path = Path(found["file"] if found else source)
    _check_name(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")


def _check_name(path: Path) -> None:
    """Raise DataError for a path of bytes that are no text: no report could hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"{str(path)!a}: its name is not UTF-8; rename it") from None


def is_file(source: str) -> bool:
    """Whether a network is a file, or in one; the others are names of the zoo, if anything."""
    return CALLABLE.fullmatch(source) is not None or Path(source).suffix.lower() in NETWORKS


def check_files(**files: Path | str | None) -> None:
    """Raise DataError for a file or folder that is not there; names are options, None and `random` are none."""
    for name, path in files.items():
        if path is not None:
            _check_name(Path(path))
        if path is not None and str(path) != "random" and not Path(path).exists():
            raise DataError(f"{path}: no such file or folder (--{name.replace('_', '-')})")
