"""The cache folder, and records in it that are found by what they were made from."""

import functools
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Return tapc's cache folder: $XDG_CACHE_HOME/tapc, or ~/.cache/tapc."""
    return _folder("XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """Return tapc's folder for what a user keeps: $XDG_CONFIG_HOME/tapc, or ~/.config/tapc."""
    return _folder("XDG_CONFIG_HOME", ".config")


def _folder(variable: str, usual: str) -> Path:
    base = os.environ.get(variable)
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry for this user
        home = Path("/nonexistent")
    return (Path(base) if base and Path(base).is_absolute() else home / usual) / "tapc"


def digest(*parts: Any) -> str:
    """Return the SHA-256 of JSON values, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def tree_digest(folder: Path, pattern: str) -> str:
    """Return a digest of the names and contents of a folder's files."""
    files = sorted(folder.rglob(pattern))
    contents = [(str(f.relative_to(folder)), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]
    return digest(contents)


@dataclass(frozen=True)
class Store:
    """Content-addressed JSON records: one file each, never changed once written.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> Any:
        """Return the record, or None where there is none; a damaged one counts as none."""
        try:
            return json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, key: str, value: Any) -> None:
        """Write a record; readers see all of it or nothing. Where the folder cannot be written it goes without."""
        path = self._path(key)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(value), encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            warn_once(f"the cache {self.folder} cannot be written ({error.strerror or error}); going on without")


@functools.cache
def warn_once(text: str) -> None:
    """Show a warning, the same one only once in a process."""
    logging.getLogger("tapc").warning("%s", text)
