"""Pictures: checked before the work that they show, written beside their place and renamed."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapc.base.errors import OutputError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
SUFFIXES = (".svg", ".png", ".pdf")


def check_picture(path: Path) -> None:
    """Refuse a path that names no picture or lies in no folder.

    Raises
    ------
    UsageError
        The suffix is none of .svg, .png, .pdf.
    OutputError
        Its folder does not exist.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"cannot draw {path}: name a .svg, .png or .pdf file")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: {path.parent} is not a folder; make it first")


def start_drawing() -> Any:
    """Return pyplot, without a window, and with the same bytes for the same picture."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "tapc"
    matplotlib.rcParams["text.parse_math"] = False  # names are names, also with $
    from matplotlib import pyplot

    return pyplot


def save_picture(figure: "Figure", path: Path) -> None:
    """Write a figure as its suffix says, and close it.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from matplotlib import pyplot

    part = path.with_name(f".{path.name}.part")
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    try:
        figure.savefig(part, format=path.suffix.lstrip("."), metadata=metadata)
        if path.suffix == ".svg":  # names are kept as comments, and XML has no control characters
            part.write_text(_NOT_XML.sub("?", part.read_text(encoding="utf-8")), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
        pyplot.close(figure)
