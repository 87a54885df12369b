"""What a reader may take of the machine, and the one place where its failures become errors with the file's name."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tapc.base.errors import DataError, TapcError

MEMORY = 1 << 30
"""Most bytes of raw values, and most bytes of samples, that one data set may hold in memory."""
_PIECE = 1 << 20


@contextmanager
def reading(what: str, kind: str, advice: str) -> Iterator[None]:
    """Turn every failure of a reader into a DataError; libraries raise whatever comes to their mind on damaged files.

    Parameters
    ----------
    what : str
        The file, and the member or line where known.
    kind : str
        "a readable npz archive".
    advice : str

    Raises
    ------
    DataError
        Everything but a MemoryError, which says nothing about the file; with TAPC_DEBUG in the environment nothing, so
        that failures are shown with their traceback.
    """
    try:
        yield
    except (TapcError, MemoryError):
        raise
    except Exception as error:
        if os.environ.get("TAPC_DEBUG"):
            raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{what}: not {kind} ({text}); {advice}") from error


def check_regular(path: Path) -> None:
    """Refuse pipes, devices and sockets before they are opened.

    Raises
    ------
    DataError
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path}: is no regular file; give a file or a folder")


def read_bytes(stream: IO[bytes], size: int, what: str) -> bytearray:
    """Read exactly `size` bytes; memory is taken as they come, not as a header promises.

    Raises
    ------
    DataError
        Fewer are there.
    """
    content = bytearray()
    while len(content) < size and (piece := stream.read(min(_PIECE, size - len(content)))):
        content += piece
    if len(content) < size:
        raise DataError(f"{what}: ends after {len(content):,} of {size:,} bytes; write or download it again")
    return content


def check_memory(size: int, what: str) -> None:
    """Raise a DataError where more bytes than `MEMORY` would be needed."""
    if size > MEMORY:
        raise DataError(f"{what}: needs {size:,} bytes of memory, at most {MEMORY:,} are taken; give fewer samples")
