"""Output folders: made beside their place and swapped in, so that a failed run leaves the previous one alone."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tapc.errors import OutputError

MARKER = "report.json"


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield a fresh folder that becomes `target` when the block ends without an exception.

    Parameters
    ----------
    target : Path
        Missing, empty, or a folder that an earlier run made (it holds report.json).

    Raises
    ------
    OutputError
        The place cannot be written, or holds something else.
    """
    target = Path(target).absolute()
    check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        fresh.chmod(0o755)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}; choose another folder with -o") from error
    try:
        yield fresh
        _swap(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_replaceable(target: Path) -> None:
    """Raise OutputError if `target` is something that must not be replaced."""
    if target.is_dir():
        if any(target.iterdir()) and not (target / MARKER).is_file():
            raise OutputError(f"{target} is not empty and holds no {MARKER}: not a tapc build; choose another with -o")
    elif target.exists() or target.is_symlink():
        raise OutputError(f"{target} exists and is not a folder; choose another with -o")


def _swap(fresh: Path, target: Path) -> None:
    try:
        old = None
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.rename(old / "previous")
        try:
            fresh.rename(target)
        except OSError:
            if old is not None:
                (old / "previous").rename(target)
            raise
        finally:
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot replace {target}: {error.strerror or error}") from error
