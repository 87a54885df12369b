"""From a build folder to a flashed board."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tapc.base.errors import DataError, UsageError
from tapc.flash import Copy, plan, program
from tapc.flow.devices import tool_of
from tapc.flow.rerun import open_build, part
from tapc.hardware.board import load_board


@dataclass(frozen=True)
class Flashing:
    """What is done, or was.

    Attributes
    ----------
    board, tool : str
    command : str
        The tool's command line, or what is copied where.
    done : str or None
        What happened; None where nothing was done.
    """

    board: str
    tool: str
    command: str
    done: str | None


def flash(
    build: Path,
    *,
    board: str | None = None,
    tool: str | None = None,
    serial: str | None = None,
    volume: Path | None = None,
    dry: bool = False,
    announce: Callable[[str], None] = lambda _: None,
) -> Flashing:
    """Flash a build.

    Parameters
    ----------
    build : Path
        The build's folder.
    board : str, optional
        Name or file of the board, where the build's own is not found by its name.
    tool : str, optional
        By default the first of the board's tools that this machine has.
    serial : str, optional
        Serial number of the probe.
    volume : Path, optional
        Folder of the drive that is copied to.
    dry : bool
        Only say what would be done.
    announce : callable
        Called with the command before it runs.

    Raises
    ------
    DataError
        The folder holds no finished build.
    UsageError
        The board's file does not say how it is flashed so, or the build is for another board.
    ToolError
        The tool is missing or failed: says what to do.
    """
    found = open_build(build)
    silicon = load_board(board or found.board)
    if silicon.name != found.board:
        raise UsageError(f"{build} is for the board {found.board}, not {silicon.name}")
    for kind in ("elf", "bin", "hex"):
        part(build, f"firmware.{kind}")
    chosen = tool or tool_of(silicon, volume, dry=dry)
    if volume is not None and chosen not in ("uf2", "drive"):
        raise UsageError(f"--volume is for --tool uf2 and drive, not {chosen}")
    step = plan(silicon, build, chosen, external=_external(found.report), serial=serial)
    if volume is not None and isinstance(step, Copy):
        step = replace(step, volume=str(volume))
    announce(str(step))
    return Flashing(silicon.name, chosen, str(step), None if dry else program(step, volume))


def _external(report: dict[str, object]) -> tuple[str, ...]:
    memory = report.get("memory")
    outside = memory.get("external", {}) if isinstance(memory, dict) else None
    if not isinstance(outside, dict):
        raise DataError("report.json does not say what the build places in external flash; compile the network again")
    return tuple(map(str, outside))
