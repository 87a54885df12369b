"""Official weights: from the cache, or downloaded into it."""

import urllib.error
import urllib.request
from pathlib import Path

from tapc.base.cache import cache_folder
from tapc.base.errors import DataError
from tapc.base.progress import Advance
from tapc.zoo.registry import Variant, ZooEntry, check_digest

_CHUNK = 1 << 20
_SECONDS = 30


def official_path(variant: Variant) -> Path:
    """Return where an official weights file is kept."""
    return cache_folder() / "weights" / variant.weights


def official_weights(entry: ZooEntry, advance: Advance | None = None) -> Path:
    """Return the official weights file of a network; downloads it where it is not in the cache.

    Parameters
    ----------
    entry : ZooEntry
    advance : callable, optional
        Told (bytes, total bytes) while it downloads.

    Raises
    ------
    DataError
        There are no official weights; no connection: names the URL, the sha256 and where to put the file; or a file
        with another sha256.
    """
    variant = entry.official
    if variant is None:
        raise DataError(f"there are no official weights of {entry.name}; give a file with --weights FILE")
    path = official_path(variant)
    if not path.is_file():
        _download(entry.name, variant, path, advance)
    check_digest(path, variant)
    return path


def _download(name: str, variant: Variant, path: Path, advance: Advance | None) -> None:
    if not variant.url:
        raise DataError(
            f"the official weights of {name} have no address of their own ({variant.data}).\n"
            f"  Put {variant.weights}\n  (sha256 {variant.sha256}...) to {path}, or give the file with --weights FILE"
        )
    partial = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(variant.url, timeout=_SECONDS) as response, partial.open("wb") as file:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if advance is not None:
                    advance(done, max(total, done))
        if total and done != total:
            raise OSError(f"{done} of {total} bytes arrived")
    except (OSError, urllib.error.URLError) as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"the official weights of {name} are not in the cache and cannot be downloaded ({error}).\n"
            f"  Put {variant.url}\n  (sha256 {variant.sha256}...) to {path}, or give a file with --weights FILE"
        ) from None
    try:
        check_digest(partial, variant)
    except DataError:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
