"""The page of a build: read back what it was made of and what its board measured."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from tapc.base.errors import DataError
from tapc.base.files import read_regular, reading
from tapc.base.output import MARKER
from tapc.flow.measuring import MEASURED
from tapc.flow.rerun import open_build, part
from tapc.report import Report
from tapc.report.page import write_page
from tapc.report.timing import BoardTimes

_MOST = 16 << 20


def report_of(folder: Path) -> Report:
    """Return the report of a build.

    Raises
    ------
    DataError
        It holds no finished build, or one of another version.
    """
    try:
        return Report.model_validate(open_build(folder).report)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))[:80]
        raise DataError(f"{folder / MARKER}: {key}: {first['msg']}; compile the network again") from error


def times_of(folder: Path, firmware: Path) -> tuple[BoardTimes | None, str]:
    """Return what was measured of an image, and why there is nothing although a file is there.

    Parameters
    ----------
    folder : Path
        Where measured.json may be.
    firmware : Path
        The image's firmware.bin.
    """
    path = folder / MEASURED
    if not path.exists():
        return None, ""
    try:
        times = BoardTimes.model_validate_json(read_regular(path, _MOST, "measurement"))
    except (DataError, ValueError):
        return None, f"{MEASURED} is damaged: measure again (tapc measure)"
    with firmware.open("rb") as stream:
        if times.firmware != hashlib.file_digest(stream, "sha256").hexdigest():
            return None, f"{MEASURED} is of another image: flash this one and measure again (tapc measure)"
    return times, ""


def renew_page(folder: Path) -> Path:
    """Write report.html of a build again, with what was measured since, and return its path.

    Raises
    ------
    DataError
        The folder holds no finished build.
    OutputError
        The page cannot be written.
    """
    report = report_of(folder)
    times, note = times_of(folder, part(folder, "firmware.bin"))
    with reading(f"report {folder / MARKER}"):
        return write_page(folder, report, times, note)
