"""What can be refused at once: before torch is imported, before any work."""

import re
from pathlib import Path

from tapc.errors import DataError, UsageError

CALLABLE = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
NETWORKS = (".onnx", ".tflite")
ROUNDINGS = ("nearest", "mse", "gptq", "adaround", "block", "network")
"""The names that the command line knows; a program may register more."""
LEARNED = ("adaround", "block", "network")
"""Those that learn, and so load torch into the process that compiles."""


def check_rounding_name(name: str) -> None:
    """Raise UsageError for a rounding method that tapc does not bring."""
    if name not in ROUNDINGS:
        raise UsageError(f"unknown rounding method {name!r}; known: {', '.join(ROUNDINGS)}")


def check_source(source: str) -> None:
    """Raise for a network that is none: UsageError for an unknown kind, DataError for a missing file."""
    from tapc import zoo  # and with it pydantic, which a worker need not wait for

    known = [entry.name for entry in zoo.models()]
    if source in known:
        return
    found = CALLABLE.fullmatch(source)
    path = Path(found["file"] if found else source)
    if found is None and path.suffix.lower() not in NETWORKS:
        raise UsageError(
            f"unknown model {source!r}; give a zoo name ({', '.join(known)}), a torch module as file.py:callable, "
            "a file.onnx or a file.tflite"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file")


def is_file(source: str) -> bool:
    """Whether a network is a file, or in one; the others are names of the zoo, if anything."""
    return "." in source


def check_files(**files: Path | str | None) -> None:
    """Raise DataError for a file or folder that is not there; names are options, None and `random` are none."""
    for name, path in files.items():
        if path is not None and str(path) != "random" and not Path(path).exists():
            raise DataError(f"{path}: no such file or folder (--{name.replace('_', '-')})")
