"""Writes packages beside a build, or elsewhere."""

from dataclasses import dataclass
from pathlib import Path

from tapc.base.errors import UsageError
from tapc.base.files import reading
from tapc.base.output import MANIFEST, replaced_folder
from tapc.flow.export.contents import contents_of
from tapc.flow.export.formats import FORMATS
from tapc.flow.rerun import open_build

FOLDER = "export"


@dataclass(frozen=True)
class Exported:
    """A package that was written.

    Attributes
    ----------
    format : str
    folder : Path
    files : tuple of str
        Their paths within the folder.
    """

    format: str
    folder: Path
    files: tuple[str, ...]


def export(build: Path, *formats: str, out: Path | None = None) -> list[Exported]:
    """Write a finished build as packages; nothing is compiled.

    Parameters
    ----------
    build : Path
    *formats : str
        Names of `FORMATS`.
    out : Path, optional
        Folder of the package, of which only one can be written then; by default BUILD/export/FORMAT.

    Raises
    ------
    UsageError
        A format that is none.
    DataError
        The folder holds no finished build.
    OutputError
        The folder holds something else, or what was written was changed since.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"there is no export {name}; there are: {', '.join(FORMATS)}")
    if out is not None and len(formats) != 1:
        raise UsageError("a folder takes one package; leave it out to write several")
    found = open_build(build)
    with reading(f"build {build}"):
        contents = contents_of(found)
    written = []
    for name in dict.fromkeys(formats):
        place = out or build / FOLDER / name
        files = FORMATS[name](contents)
        with replaced_folder(place) as folder:
            for path, content in files.items():
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        written.append(Exported(name, place, tuple(sorted(files))))
    return written


def stale(build: Path, fresh: tuple[str, ...] = ()) -> list[str]:
    """Return the packages of an earlier build that still lie in a build's folder."""
    return [name for name in FORMATS if name not in fresh and (build / FOLDER / name / MANIFEST).is_file()]
