"""Images of others may hold anything: what keeps them from this machine's files, or why they do not run."""

import os
from pathlib import Path

from tapc.base import confine
from tapc.base.errors import ToolError

TRUST = "TAPC_TRUST_BUILDS"
"""Environment variable by which a user vouches for the builds that are run."""


def must_confine(path: Path, what: str, *, foreign: bool) -> bool:
    """Return whether the kernel has to keep what runs an image from this machine's files.

    Parameters
    ----------
    path : Path
        The image.
    what : str
        What would have to be kept from them.
    foreign : bool
        Another process made the image.

    Raises
    ------
    ToolError
        It has to, and cannot.
    """
    required = foreign and not os.environ.get(TRUST)
    if required and not confine.landlock_version():
        raise ToolError(
            f"{path} is not run: on this machine nothing keeps {what} from this machine's files; it needs Linux 5.13 "
            f"or newer with Landlock. For builds that you made yourself, set {TRUST}=1"
        )
    return required
