"""The device of a compilation: a board on a port is flashed with each image before it runs."""

from pathlib import Path

from tapc.base.errors import ToolError
from tapc.device import Device, device_for
from tapc.flash import plan, program
from tapc.flash.plan import INSTALL, probe_of
from tapc.flash.program import available
from tapc.hardware.board import Board
from tapc.hardware.target import Target


def device_of(target: Target, name: str | None, board: Board) -> Device:
    """Return the device that runs a board's images, which were built by this process.

    Raises
    ------
    ToolError
        No device can; says why.
    UsageError
        There is no device of that name.
    """

    def flash(folder: Path, external: tuple[str, ...]) -> None:
        program(plan(board, folder, tool_of(board), external=external))

    return device_for(target, name, board=board, flasher=flash)


def tool_of(board: Board, volume: Path | None = None, *, dry: bool = False) -> str:
    """Return the first of a board's tools that this machine has; its first one where nothing is really flashed.

    Raises
    ------
    ToolError
        It has none; says what there is to install.
    """
    probe = probe_of(board)
    if volume is not None:
        return "uf2" if probe.uf2 is not None else "drive"
    labels = {"uf2": probe.uf2.volume if probe.uf2 else None, "drive": probe.drive}
    for tool in probe.tools:
        if available(tool, labels.get(tool)):
            return tool
    if dry:
        return probe.tools[0]
    ways = [f"{tool} ({INSTALL[tool]})" if tool in INSTALL else f"the drive {labels[tool]}" for tool in probe.tools]
    raise ToolError(f"nothing here flashes {board.name}; it takes one of: {', '.join(ways)}")
