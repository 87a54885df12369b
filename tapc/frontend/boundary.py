"""Where files of others enter: one boundary that turns every failure of a reader into an error with the file's name."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from tapc.base import files
from tapc.base.errors import DataError, TapcError

MOST_BYTES = 1 << 29
"""Largest network file, and largest constant in one."""
MOST_ELEMENTS = 1 << 25
"""Largest tensor between layers: far more than a microcontroller has RAM."""
MOST_NODES = 5000
"""Most nodes of a network, local functions written out."""
_LONGEST_NAME = 100


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
    """Make every failure inside a reader an error that begins with what is read.

    Raises
    ------
    TapcError
        The reader's own, with the source's name before it where it does not say it.
    DataError
        Anything else that went wrong.
    """
    try:
        with files.reading(f"network {source}"):
            yield
    except TapcError as error:
        if source in str(error):
            raise
        raise type(error)(f"{source}: {error}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def check_file(path: Path) -> None:
    """Refuse a file that is missing or larger than any network for a microcontroller.

    Raises
    ------
    DataError
        Such a file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise DataError(f"{path}: {size} bytes; networks of up to {MOST_BYTES} bytes are read")


def check_elements(name: str, shape: Iterable[int]) -> None:
    """Refuse a tensor that is too large to compute with, by its declared shape.

    Raises
    ------
    DataError
        The tensor has more than `MOST_ELEMENTS` elements.
    """
    extents = list(shape)
    if math.prod(max(extent, 1) for extent in extents) > MOST_ELEMENTS:
        raise DataError(f"tensor {name!r} has shape {extents}: more than {MOST_ELEMENTS} elements")


def printable(name: str) -> str:
    """Return a name for reports, files and headers: printable characters, not hidden, no more than 100."""
    cleaned = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name).strip().lstrip(".")
    return cleaned[:_LONGEST_NAME].strip() or "network"
