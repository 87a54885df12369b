"""Programs on PATH."""

import shutil

_NEWEST = 40


def newest(name: str) -> str | None:
    """Return a program's newest version on PATH, as Debian names them (name-19), else the plain name, or None."""
    names = (*(f"{name}-{version}" for version in range(_NEWEST, 0, -1)), name)
    return next((found for found in names if shutil.which(found)), None)
