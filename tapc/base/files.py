"""Files of the user's: read only where they are what they seem, and scratch folders that do not stay behind."""

import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tapc.base.errors import DataError, OutputError, TapcError

_PREFIX = "tapc-scratch-"
_YOUNG_SECONDS = 60.0
_MOST_REASON = 300


def read_regular(path: Path, most: int, what: str) -> bytes:
    """Return the bytes of a regular file.

    Parameters
    ----------
    path : Path
    most : int
        Bytes beyond which it is refused.
    what : str
        What it should be, for messages.

    Raises
    ------
    DataError
        It cannot be read, is a FIFO, a device or a folder, or is too large.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # else opening a FIFO waits for a writer
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise DataError(f"{what} {path} is no regular file")
            if found.st_size > most:
                raise DataError(f"{what} {path} has {found.st_size:,} bytes; at most {most:,} are read")
            with open(handle, "rb", closefd=False) as stream:
                return stream.read(most)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) else None
        raise DataError(f"{what} {path} cannot be read: {reason or error}") from error


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file of text or bytes in place of an earlier one, which stays where writing fails, and return its path.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return path


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Make every failure to understand an input file a DataError that names it.

    Parameters
    ----------
    what : str
        Kind and path of the file.

    Raises
    ------
    DataError
        The block raised something that is no error of tapc's. With TAPC_DEBUG in the environment that is raised as it
        is, to be shown with its traceback. A MemoryError always is: it says nothing about the file.
    """
    try:
        yield
    except (TapcError, MemoryError):
        raise
    except Exception as error:
        if os.environ.get("TAPC_DEBUG"):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{what} is damaged: {reason[:_MOST_REASON]}") from error


@contextmanager
def scratch_folder(within: Path | None = None) -> Iterator[Path]:
    """Yield a fresh folder that is removed at the end; those that killed processes left behind are removed first.

    Parameters
    ----------
    within : Path, optional
        Where it is made; the system's place for temporary files where None.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if within is None else within
    prefix = _PREFIX if within is None else f".{_PREFIX}"
    _sweep(parent, prefix)
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise OutputError(f"cannot make a folder in {parent}: {error.strerror or error}") from error
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _locked(handle)  # held as long as this process lives: the mark of a folder in use
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(parent: Path, prefix: str) -> None:
    """Remove scratch folders whose process is gone."""
    try:
        names = [name for name in os.listdir(parent) if re.fullmatch(re.escape(prefix) + "[a-z0-9_]{8}", name)]
    except OSError:
        return
    for name in names:
        folder = parent / name
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            found = os.fstat(handle)
            old = (
                time.time() - max(found.st_mtime, found.st_ctime) > _YOUNG_SECONDS
            )  # a young one may not be locked yet
            own = found.st_uid == os.geteuid() and found.st_mode & 0o077 == 0  # as they are made
            if own and old and _locked(handle):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)
