"""The twin of firmware alone, for networks of which no image for the board is wanted: in half the time."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import tapc.firmware
from tapc.device import DeviceRun, device_for
from tapc.firmware.build import alias_header
from tapc.firmware.layout import HARNESS_OBJECT, linker_script, twin_layout
from tapc.firmware.toolchain import Gcc, Unit, compile_units, run_tool
from tapc.hardware.board import Board
from tapc.hardware.target import Target, load_target
from tapc.lower import Lowered

_HARNESS = Path(tapc.firmware.__file__).parent / "twin_main.c"
_FLAGS = ("-std=gnu11", "-ffunction-sections", "-fdata-sections", "-fno-common", "-g0")
_STARTUP = ("-fno-tree-loop-distribute-patterns",)


class Images(NamedTuple):
    """What a device loads."""

    elf: Path
    twin: Path


def run_twin(
    network: Lowered, board: Board, inputs: NDArray[np.int8], *, layers: int, calls: tuple[str, ...] = ()
) -> DeviceRun:
    """Compile a network as `tapc.firmware.build_firmware` does, what calls the kernels with more flags, and run it."""
    target = load_target(board.core)
    with tempfile.TemporaryDirectory(prefix="tapc-twin-") as folder:
        twin = _twin(network, board, target, Path(folder), calls)
        return device_for(target).load(Images(elf=twin, twin=twin)).run(inputs, layers=layers)


def _twin(network: Lowered, board: Board, target: Target, folder: Path, calls: tuple[str, ...]) -> Path:
    assert target.qemu is not None
    names = network.names
    network.library().write(folder)
    (folder / "tapc_network.h").write_text(alias_header(names))
    trap = ("-DTAPC_TRAP_UNALIGNED",) if target.qemu.trap_unaligned else ()
    marked = (f'-D{names.macro("ARENA_SECTION")}=__attribute__((section(".tapc_arena")))', f"-D{names.macro('MARKS')}")
    # Hundreds of inputs and outputs, each named in the harness, have little room.
    units = [
        *(Unit(part, folder / names.file(f"{part}.c")) for part in ("kernels", "weights")),
        Unit("network", folder / names.file(".c"), (*marked, *calls)),
        *(Unit(f"start_{path.stem}", path, _STARTUP) for path in target.sources),
        Unit(HARNESS_OBJECT.removesuffix(".o"), _HARNESS, ("-I", str(folder), "-Os", *trap)),
    ]
    flags = (*target.cflags, *target.optimization, *_FLAGS)
    objects = compile_units(units, flags, folder, Gcc(target.compiler))
    (folder / "twin.ld").write_text(linker_script(target.linker, twin_layout(board, target)))
    link = ("-nostartfiles", "-T", "twin.ld", "-Wl,--gc-sections", "-Wl,--strip-debug", "-lm", "-o", "twin.elf")
    run_tool("gcc", [*flags, *(path.name for path in objects.values()), *link], folder, target.compiler)
    return folder / "twin.elf"
