"""Output folders: a failed run leaves the previous one alone, and nothing that tapc did not write is ever removed.

Each folder holds a list of the files that tapc wrote, with their digests. Only these are replaced by a later run, and
only where they are still as they were written; everything else in the folder stays.
"""

import errno
import hashlib
import itertools
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from tapc.base.errors import DataError, OutputError
from tapc.base.files import read_regular, scratch_folder

MARKER = "report.json"
PAGE = "report.html"
MANIFEST = "tapc-files.json"

_SCHEMA = 1
_MOST_MANIFEST = 16 << 20
_LEAST_FREE = 1 << 20
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_OTHER = "choose another folder with -o"

Digests = dict[str, str | None]


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield a fresh folder whose files go to `target` when the block ends without an exception.

    Parameters
    ----------
    target : Path
        Missing, empty, or a folder that an earlier run made; files of others in it stay. A link to a folder stays one.

    Raises
    ------
    OutputError
        The place cannot be written, holds something else, or the disk is full.
    """
    place, done = _checked(target), False
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(place if place.is_dir() else place.parent) as scratch:
            fresh = scratch / "fresh"
            fresh.mkdir()
            yield fresh
            done = True
            _write_manifest(fresh)
            if place.is_dir():
                _merge(fresh, place, scratch / "previous")
            else:
                fresh.rename(place)
    except OSError as error:
        if done or error.errno in _DISK:
            raise OutputError(f"cannot write {target}: {error.strerror or error}; {_OTHER}") from error
        raise


def check_replaceable(target: Path) -> None:
    """Raise OutputError if `target` cannot be written, or holds what must not be replaced."""
    place = _checked(target)
    while not place.is_dir():
        place = place.parent
    with scratch_folder(place):
        pass


def remove_checkpoints(folder: Path) -> None:
    """Remove the numbered checkpoints in a folder, and the folder where nothing else is in it."""
    with suppress(OSError):
        for path in folder.iterdir():
            if re.fullmatch(r"\d+\.(pt|part)", path.name):
                path.unlink()
        folder.rmdir()


def _checked(target: Path) -> Path:
    """Return the folder that `target` stands for, links followed, if it may become an output folder."""
    try:
        place = Path(os.path.realpath(target))
        if place.is_dir():
            _check_contents(target, place)
        elif place.exists() or place.is_symlink() or target.is_symlink():
            raise OutputError(f"{target} exists and is not a folder; {_OTHER}")
        existing = place
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise OutputError(f"cannot write {target}: {existing} is not a folder; {_OTHER}")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {target}: {existing} is read-only; {_OTHER}")
        if shutil.disk_usage(existing).free < _LEAST_FREE:
            raise OutputError(f"cannot write {target}: No space left on device; {_OTHER}")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) else None
        raise OutputError(f"cannot write {str(target)!r}: {reason or error}; {_OTHER}") from error
    return place


def _check_contents(target: Path, place: Path) -> None:
    if not any(name for name in os.listdir(place) if not name.startswith(".tapc-scratch-")):
        return
    try:
        digests = _read_manifest(place)
    except DataError as error:
        raise OutputError(
            f"{target} is not empty and holds no list of files that tapc wrote ({MANIFEST}): nothing in it is "
            f"replaced; {_OTHER}"
        ) from error
    changed = sorted(name for name in digests if _changed(place, name, digests[name]))
    if changed:
        raise OutputError(f"{target}: changed since tapc wrote it: {', '.join(changed[:5])}; move it away, or {_OTHER}")


def _read_manifest(place: Path) -> Digests:
    """Return name -> digest of what tapc wrote into a folder; a digest of None is not compared.

    Raises
    ------
    DataError
        There is no such list, or it is not one of tapc's.
    """
    path = place / MANIFEST
    if path.is_symlink():
        raise DataError(f"{path} is a link")
    try:
        content: Any = json.loads(read_regular(path, _MOST_MANIFEST, "list"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON") from error
    match content:
        case {"schema": 1, "files": dict(files)} if all(_is_entry(*item) for item in files.items()):
            return {**files, MANIFEST: None}
    raise DataError(f"{path} is no list of tapc's")


def _is_entry(name: Any, digest: Any) -> bool:
    parts = PurePosixPath(name).parts
    within = bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts and "\0" not in name
    return within and (
        digest is None or (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) is not None)
    )


def _write_manifest(fresh: Path) -> None:
    names = sorted(path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if not path.is_dir())
    # The report holds the seconds that the run took, and its page is made again when the board has been measured; the
    # list is the same for the same build.
    files = {name: None if name in (MARKER, PAGE) else _digest(fresh / name) for name in names}
    text = json.dumps({"schema": _SCHEMA, "files": files}, indent=1) + "\n"
    (fresh / MANIFEST).write_text(text, encoding="utf-8")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plain(place: Path, name: str) -> Path | None:
    """Return the path of a regular file in a folder that is reached through no link; None where there is none."""
    path = place
    for part in PurePosixPath(name).parts:
        path = path / part
        if path.is_symlink():
            return None
    return path if path.is_file() else None


def _changed(place: Path, name: str, digest: str | None) -> bool:
    """Whether something lies there that is not what was written; what was removed is no loss."""
    path = _plain(place, name)
    if path is None:
        return os.path.lexists(place / name)
    return digest is not None and _digest(path) != digest


def _free_name(path: Path) -> Path:
    """Return the first of X.kept, X.kept1, X.kept2 ... that nothing has: renaming would replace it without a word."""
    names = (path.with_name(f"{path.name}.kept{number or ''}") for number in itertools.count())
    return next(name for name in names if not os.path.lexists(name))


def _merge(fresh: Path, place: Path, previous: Path) -> None:
    """Put new files into a folder in place of those that tapc wrote; all of them, or none where that fails."""
    try:
        written = {name for name, digest in _read_manifest(place).items() if not _changed(place, name, digest)}
    except DataError:
        written = set()  # empty until now
    moved: list[tuple[Path, Path]] = []

    def move(source: Path, destination: Path) -> None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        source.rename(destination)
        moved.append((source, destination))

    try:
        for name in sorted(written):
            path = _plain(place, name)
            if path is not None:
                move(path, previous / name)
        for source in sorted(path for path in fresh.rglob("*") if not path.is_dir()):
            destination = place / source.relative_to(fresh)
            if os.path.lexists(destination):  # somebody put it there meanwhile
                kept = _free_name(destination)
                logging.getLogger("tapc").warning("%s was not written by tapc; it is now %s", destination, kept.name)
                move(destination, kept)
            move(source, destination)
    except BaseException:
        for source, destination in reversed(moved):
            source.parent.mkdir(parents=True, exist_ok=True)
            destination.rename(source)
        raise
    for name in sorted(written, reverse=True):  # folders that are empty now
        with suppress(OSError):
            for folder in list(PurePosixPath(name).parents)[:-1]:
                (place / folder).rmdir()
