"""What is done to flash a build: a tool's command, or a file that is copied to a drive."""

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tapc.base.errors import UsageError
from tapc.hardware.board import Board
from tapc.hardware.probe import Probe

TOOLS = ("openocd", "pyocd", "st-flash", "esptool", "uf2", "drive")
INSTALL = {
    "openocd": "apt-get install openocd",
    "pyocd": "pip install pyocd",
    "st-flash": "apt-get install stlink-tools",
    "esptool": "pip install esptool",
}


@dataclass(frozen=True)
class Call:
    """A program and its arguments; nothing in them is read by a shell."""

    tool: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.command)


@dataclass(frozen=True)
class Copy:
    """A file that is copied to a drive.

    Attributes
    ----------
    tool : {"uf2", "drive"}
    source : Path
        The image; for UF2 the raw one, of which blocks are made.
    name : str
        The file's name on the drive.
    volume : str
        The drive's label.
    origin, family : int
        Address and chip that UF2 blocks name; 0 for others.
    """

    tool: str
    source: Path
    name: str
    volume: str
    origin: int = 0
    family: int = 0

    def __str__(self) -> str:
        return f"copy {self.name} to the drive {self.volume}"


def plan(
    board: Board, folder: Path, tool: str, *, external: Collection[str] = (), serial: str | None = None
) -> Call | Copy:
    """Return what flashes a build.

    Parameters
    ----------
    board : Board
    folder : Path
        The build's: firmware.elf, .bin and .hex.
    tool : str
        One of `TOOLS`.
    external : collection of str
        External flash regions that the build uses.
    serial : str, optional
        Serial number of the probe, where several are plugged in.

    Raises
    ------
    UsageError
        The board's file does not say how the tool flashes it, or the tool cannot write what the build needs.
    """
    probe = probe_of(board)
    if tool not in probe.tools:
        raise UsageError(f"board {board.name} is not flashed with {tool}; its file names: {', '.join(probe.tools)}")
    outside = [region for region in external if tool != "openocd" or region not in probe.external]
    if outside:
        ways = "use --tool openocd, or " if set(outside) <= set(probe.external) else ""
        where = ", ".join(outside)
        raise UsageError(
            f"{tool} cannot write {where}, where weights of this build lie: {ways}compile with --no-external"
        )
    elf, binary, hexadecimal = (folder.absolute() / f"firmware.{kind}" for kind in ("elf", "bin", "hex"))
    if tool == "openocd":
        return Call(tool, ("openocd", *openocd_arguments(probe, serial), "-c", _program(elf)))
    if tool == "pyocd":
        assert probe.pyocd is not None
        chosen = () if serial is None else ("--uid", serial)
        return Call(tool, ("pyocd", "flash", "--target", probe.pyocd, *chosen, str(hexadecimal)))
    if tool == "st-flash":
        chosen = () if serial is None else ("--serial", serial)
        return Call(tool, ("st-flash", "--reset", *chosen, "write", str(binary), f"0x{board.flash.origin:08X}"))
    if tool == "esptool":
        assert probe.esptool is not None
        chosen = () if serial is None else ("--port-filter", f"serial={serial}")
        return Call(tool, ("esptool", "--chip", probe.esptool, *chosen, "write-flash", "0x0", str(binary)))
    if serial is not None:
        raise UsageError(f"{tool} has no probe: --serial is of no use; --volume names the drive")
    if tool == "drive":
        assert probe.drive is not None
        return Copy(tool, hexadecimal, hexadecimal.name, probe.drive)
    assert probe.uf2 is not None
    return Copy(tool, binary, "firmware.uf2", probe.uf2.volume, board.flash.origin, probe.uf2.family)


def probe_of(board: Board) -> Probe:
    """Return a board's probe; UsageError where its file has none."""
    if board.probe is None:
        raise UsageError(f"board {board.name}: its file has no [probe] table, which says how it is flashed")
    return board.probe


def openocd_arguments(probe: Probe, serial: str | None = None) -> tuple[str, ...]:
    """Return the arguments that make OpenOCD know the board."""
    words: list[str] = []
    for entry in probe.openocd:
        words += ["-f" if entry.endswith(".cfg") else "-c", entry]
    if serial is not None:
        words += ["-c", f"adapter serial {_quoted(serial)}"]
    return tuple(words)


def _program(elf: Path) -> str:
    return f"program {_quoted(str(elf))} verify reset exit"


def _quoted(text: str) -> str:
    """Return a word of Tcl that stands for any text."""
    escaped = "".join(f"\\{c}" if c in '\\"$[]{};' else c for c in text)
    return f'"{escaped}"'
