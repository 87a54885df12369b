"""What makes a board's firmware speak: its main, the board's clock and UART, the core's cycle counter."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tapc.firmware.toolchain import Unit
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.lower.names import Names

PREFIX = "speak_"
"""Begins the names of the objects, which the linker script sets apart from the network's."""
_HERE = Path(__file__).resolve().parent
# The rest of -O2 that makes code for registers which wait for a UART longer.
_FLAGS = ("-Os", "-fno-gcse", "-fno-move-loop-invariants", "-fno-tree-loop-distribute-patterns", "-fira-region=all")


@dataclass(frozen=True)
class Main:
    """One way to run the network on a board.

    Attributes
    ----------
    objects : tuple of str
        Names of the objects, the main first.
    speaks : bool
        It answers over the UART.
    """

    objects: tuple[str, ...]
    speaks: bool


def library_digest(library: Path, names: Names) -> str:
    """Return 16 hexadecimal digits that tell a network's code and constants from another's."""
    left_out = {names.example, names.file("convert.c")}
    files = [path for path in sorted(library.glob("*.c")) if path.name not in left_out]
    digest = hashlib.sha256()
    for path in (*files, library / names.file("steps.h")):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def speaking_units(
    library: Path, names: Names, board: Board, target: Target, include: Sequence[str], regions: Iterable[str]
) -> tuple[list[Unit], list[Main]]:
    """Return what is compiled beside the network, and the ways to link it: the one that does most comes first.

    A later one needs less memory: without a copy of the input, without commands, without the board's clock.

    Parameters
    ----------
    library : Path
    names : Names
    board : Board
    target : Target
    include : sequence of str
        Compiler arguments by which tapc_network.h is found.
    regions : iterable of str
        External memories that the image uses.

    Raises
    ------
    DataError
        The board names a support file that is not there.
    """
    silent = Unit("board_main", _HERE / "board_main.c", tuple(include))
    plain = Main(("board_main",), speaks=False)
    source = board.support_file
    if board.support is None or source is None:
        return [silent], [plain]
    values = {"TAPC_CPU_HZ": board.clocks.cpu_hz, **board.support.defines}
    values |= {macro: True for name, macro in board.support.regions.items() if name in regions}
    defines = [f"-D{name}" if value is True else f"-D{name}=0x{value:x}u" for name, value in values.items()]
    flags = (*_FLAGS, *target.small, *include, "-I", str(_HERE), *defines)
    main_flags = (*flags, f'-DTAPC_BOARD="{board.name}"')
    main = _HERE / "speaking_main.c"
    shared = [
        Unit(f"{PREFIX}board", source, flags),
        Unit(f"{PREFIX}cycles", target.counter, flags),
        Unit(f"{PREFIX}stepwise", library / names.file("stepwise.c"), tuple(include)),
    ]
    units = [
        silent,
        *shared,
        Unit(f"{PREFIX}main", main, (*main_flags, "-DTAPC_KEEP_INPUT")),
        Unit(f"{PREFIX}main_small", main, main_flags),
        Unit(f"{PREFIX}silent", _HERE / "board_main.c", (*flags, "-DTAPC_SUPPORT")),
    ]
    beside = tuple(unit.name for unit in shared)
    mains = [
        Main((f"{PREFIX}main", *beside), speaks=True),
        Main((f"{PREFIX}main_small", *beside), speaks=True),
        Main((f"{PREFIX}silent", f"{PREFIX}board"), speaks=False),
        plain,
    ]
    return units, mains
