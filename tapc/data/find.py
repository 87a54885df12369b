"""Where data sets with a name lie."""

import os
from pathlib import Path

from tapc.base.cache import cache_folder

DRAWN = ("drawn-boxes", "drawn-masks")
"""Sets that tapc draws itself, on the pictures that it carries; see `tapc.data.drawn`."""
DATA_SETS = {"cifar10": "cifar10-original-subset.npz", "kws01": "kws01-mfcc-dev.npz"}
SHIPPED = {"cifar10": Path(__file__).parents[1] / "zoo" / "samples" / "cifar10-sample.zip"}
"""Small sample sets that tapc carries; they serve where the data set itself is not installed."""


def find_data(name: str, *, shipped: bool = True) -> Path | None:
    """Return the default file of a data-set name ("cifar10", "drawn-boxes"), or None where there is none.

    Looks into the folders in TAPC_DATA (separated like PATH), ./data and ../shared/data, and, with `shipped`, takes the
    small sample set that tapc carries where nothing is found there.
    """
    if name in DRAWN:
        return drawn_file(name) if shipped else None
    if name not in DATA_SETS:
        return None
    extra = [Path(part) for part in os.environ.get("TAPC_DATA", "").split(os.pathsep) if part]
    for folder in (*extra, Path("data"), Path("..") / "shared" / "data"):
        if (folder / DATA_SETS[name]).is_file():
            return folder / DATA_SETS[name]
    return SHIPPED.get(name) if shipped else None


def shipped_note(path: Path) -> tuple[str, ...]:
    """Return what to tell a user whose samples are those that tapc carries; nothing for others."""
    names = [name for name, file in SHIPPED.items() if file == path]
    return tuple(
        f"samples of {name}: the few that tapc carries ({path.name}), so accuracy is known to about 2 points only; for "
        f"more put {DATA_SETS[name]} into ./data or a folder of TAPC_DATA, or give --data PATH"
        for name in names
    )


def drawn_file(name: str) -> Path:
    """Return the npz archive of a set that tapc draws, which is written to the cache where it is not there yet."""
    from tapc.data.drawn import archive

    return archive(name, SHIPPED["cifar10"], cache_folder())
