"""The twin of firmware alone, for networks of which no image for the board is wanted: in half the time."""

from pathlib import Path

import tapc.firmware
from tapc.firmware.build import alias_header
from tapc.firmware.layout import HARNESS_OBJECT, linker_script, twin_layout
from tapc.firmware.toolchain import Unit, compile_units, run_tool
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.lower import Lowered

_HARNESS = Path(tapc.firmware.__file__).parent / "twin_main.c"
_FLAGS = ("-std=gnu11", "-ffunction-sections", "-fdata-sections", "-fno-common", "-g0")
_STARTUP = ("-fno-tree-loop-distribute-patterns",)


def build_twin(network: Lowered, board: Board, target: Target, folder: Path, calls: tuple[str, ...] = ()) -> Path:
    """Compile a network as `tapc.firmware.build_firmware` does; what calls the kernels with these flags, too."""
    assert target.qemu is not None
    names = network.names
    network.library().write(folder)
    (folder / "tapc_network.h").write_text(alias_header(names))
    trap = ("-DTAPC_TRAP_UNALIGNED",) if target.qemu.trap_unaligned else ()
    marked = (f'-D{names.macro("ARENA_SECTION")}=__attribute__((section(".tapc_arena")))', f"-D{names.macro('MARKS')}")
    units = [
        *(Unit(part, folder / names.file(f"{part}.c")) for part in ("kernels", "weights")),
        Unit("network", folder / names.file(".c"), (*marked, *calls)),
        *(Unit(f"start_{path.stem}", path, _STARTUP) for path in target.sources),
        Unit(HARNESS_OBJECT.removesuffix(".o"), _HARNESS, ("-I", str(folder), *trap)),
    ]
    flags = (*target.cflags, *target.optimization, *_FLAGS)
    objects = compile_units(units, flags, folder)
    (folder / "twin.ld").write_text(linker_script(target.linker, twin_layout(board, target)))
    link = ("-nostartfiles", "-T", "twin.ld", "-Wl,--gc-sections", "-Wl,--strip-debug", "-lm", "-o", "twin.elf")
    run_tool("gcc", [*flags, *(path.name for path in objects.values()), *link], folder)
    return folder / "twin.elf"
