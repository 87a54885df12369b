"""Do what a plan says, and say what went wrong in words that help."""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tapc.base.errors import OutputError, ToolError
from tapc.base.tool import run
from tapc.flash.plan import INSTALL, Call, Copy
from tapc.flash.uf2 import uf2

SECONDS = 180
_LINES = 8
# What tools print, in the order of how much it says.
_CAUSES = (
    (
        r"libusb_error_access|permission denied",  # said before a tool goes on to find no probe
        "the probe cannot be opened: install the udev rules of its tool, or run as root",
    ),
    (
        r"unable to find a matching|no device found|no j-link device|unable to open .*(device|probe)|open failed"
        r"|no available debug probes|no connected debug probes|couldn't find any st-link|unable to open ftdi"
        r"|libusb_error_(not_found|no_device)|no stlink|failed to open",
        "no probe was found: plug the board in (its debug connector, a cable with data lines), or name one of several "
        "with --serial",
    ),
    (
        r"ap protect|approtect|device is (locked|secured|protected)|readout protect|rdp level|flash is locked"
        r"|protected|ctrl-ap",
        "the chip is locked: its read-out protection must be removed first, which erases it",
    ),
    (
        r"idcode mismatch|unexpected id|expected .* got|unknown chip id|unknown device|cannot identify target"
        r"|could not find mem-ap|wrong target|part number",
        "another chip answers than the board's: check which board is plugged in, or its power",
    ),
    (
        r"verify failed|checksum mismatch|verification failed|contents differ",
        "the flash does not hold what was written: unplug the board, plug it in and flash it again",
    ),
)


def program(step: Call | Copy, volume: Path | None = None) -> str:
    """Flash.

    Parameters
    ----------
    step : Call or Copy
    volume : Path, optional
        The folder of the drive that is copied to; searched for by its label by default.

    Returns
    -------
    str
        What was done.

    Raises
    ------
    ToolError
        The tool is missing or failed, or there is no such drive: says what to do.
    OutputError
        The drive cannot be written.
    """
    return _called(step) if isinstance(step, Call) else _copied(step, volume)


def _called(step: Call) -> str:
    if shutil.which(step.command[0]) is None:
        raise ToolError(f"{step.tool} is not installed; install it with: {INSTALL[step.tool]}")
    done = run(step.command, timeout=SECONDS)
    output = done.stdout + done.stderr
    if done.returncode != 0 or _silent_failure(step.tool, output):
        raise ToolError(explained(step.tool, done.returncode, output))
    return f"flashed with {step.tool}"


def _silent_failure(tool: str, output: str) -> bool:
    """Return whether a tool that left with 0 says that it failed: st-flash does."""
    return tool == "st-flash" and re.search(r"^\S* ?ERROR", output, re.MULTILINE) is not None


def explained(tool: str, code: int, output: str) -> str:
    """Return an error's text: what the tool's output means, and its last lines."""
    cause = next((text for pattern, text in _CAUSES if re.search(pattern, output, re.IGNORECASE)), None)
    lines = [line for line in output.splitlines() if line.strip()][-_LINES:]
    return "\n".join([f"{tool} failed ({code}): {cause or 'it says:'}", *(f"  {line}" for line in lines)])


def _copied(step: Copy, volume: Path | None) -> str:
    folder = volume or drive(step.volume)
    if folder is None:
        how = "hold BOOTSEL while plugging the board in" if step.tool == "uf2" else "plug the board in"
        raise ToolError(f"no drive {step.volume} is mounted: {how}, mount it, or name its folder with --volume")
    if not folder.is_dir():
        raise ToolError(f"{folder} is no folder of a drive")
    try:
        content = step.source.read_bytes()
        if step.tool == "uf2":
            content = uf2(content, step.origin, step.family)
            _replace(step.source.with_name(step.name), content)
        # In one go, and not renamed: boot loaders are no real file systems.
        with (folder / step.name).open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"{step.name} cannot be copied to {folder}: {error}") from error
    return f"copied {step.name} to {folder}"


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)


def available(tool: str, label: str | None) -> bool:
    """Return whether this machine has a tool, or a drive of a label is mounted."""
    return shutil.which(tool) is not None if label is None else drive(label) is not None


def drive(label: str, mounts: Iterable[Path] | None = None) -> Path | None:
    """Return the folder where the drive of a label is mounted; None where it is not."""
    return next((folder for folder in (mounted() if mounts is None else mounts) if folder.name == label), None)


def mounted() -> Sequence[Path]:
    """Return the folders of the drives of this machine."""
    if sys.platform == "darwin":
        volumes = Path("/Volumes")
        return sorted(volumes.iterdir()) if volumes.is_dir() else []
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    fields = (line.split(" ")[1] for line in lines if line.count(" ") >= 2)
    return [Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), field)) for field in fields]
