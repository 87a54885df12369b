"""From a C library folder to firmware for a board, and to its twin for QEMU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tapc.base.errors import OutputError, ToolError
from tapc.firmware.boot import rp2040_boot_source
from tapc.firmware.layout import HARNESS_OBJECT, Copied, Layout, board_layout, linker_script, twin_layout
from tapc.firmware.memory import MemoryUse, memory_of
from tapc.firmware.speaking import PREFIX, Main, library_digest, speaking_units
from tapc.firmware.stack import StackUse, stack_of
from tapc.firmware.toolchain import Gcc, RegionOverflowError, Unit, compile_units
from tapc.firmware.zig import Zig
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.lower.names import Names, names_in

TOOLCHAINS: dict[str, Callable[[Target], Gcc]] = {"gcc": lambda target: Gcc(target.compiler), "zig": lambda _: Zig()}
_HERE = Path(__file__).resolve().parent
_ALIAS = "tapc_network.h"
_COMMON_FLAGS = ("-std=gnu11", "-ffunction-sections", "-fdata-sections", "-fno-common", "-g0")
# Loops of the start-up code must stay loops: the C library cannot be called before memory is set up.
_STARTUP_FLAGS = ("-fno-tree-loop-distribute-patterns",)


@dataclass(frozen=True)
class FirmwareImages:
    """The products of one build.

    Attributes
    ----------
    elf, bin, hex : Path
        Firmware for the board.
    twin : Path
        The same library for QEMU, with marks between the model's steps.
    memory : MemoryUse
        Of `elf`.
    external : dict of str to Path
        External flash region -> its contents as `firmware-REGION.bin`.
    speaks : bool
        The firmware answers over the board's UART; otherwise it runs once and sleeps.
    stack : StackUse or None
        The most that PREFIX_run can take; None where the compiler does not tell.
    """

    elf: Path
    bin: Path
    hex: Path
    twin: Path
    memory: MemoryUse
    external: dict[str, Path] = field(default_factory=dict)
    speaks: bool = False
    stack: StackUse | None = None


def build_firmware(
    library: Path,
    board: Board,
    target: Target,
    output: Path,
    *,
    work: Path,
    external: Mapping[str, int] | None = None,
    arena: int | None = None,
    toolchain: str = "gcc",
    copied: tuple[Copied, ...] = (),
) -> FirmwareImages:
    """Compile a C library folder into firmware.elf, .bin and .hex for a board, and twin.elf for QEMU.

    Parameters
    ----------
    library : Path
        Folder with PREFIX.h, PREFIX.c, PREFIX_steps.h and further C files; PREFIX_example.c is left out.
    board, target : Board, Target
        The board, and its core.
    output, work : Path
        Folders for the images and for everything in between; made when missing.
    external : mapping of str to int, optional
        External flash regions that the library's constants use, and the bytes in each.
    arena : int, optional
        Bytes of the arena; needed where it lies in external RAM.
    toolchain : str
        One of `TOOLCHAINS`.
    copied : tuple of Copied
        What start-up copies to fast memories.

    Returns
    -------
    FirmwareImages
        Equal inputs give equal bytes, wherever the folders are.

    Raises
    ------
    BudgetError
        The image overflows a region (a RegionOverflowError: names it and the bytes).
    ToolError
        The compiler is missing or fails.
    DataError
        The library folder lacks a file.
    OutputError
        A folder cannot be written.
    """
    library, output, work = library.resolve(), output.resolve(), work.resolve()
    names = names_in(library)
    try:
        output.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        tools = TOOLCHAINS[toolchain](target)
        return _build(library, names, board, target, output, work, dict(external or {}), arena, tools, copied)
    except OSError as error:
        raise OutputError(f"cannot write firmware to {output} (work folder {work}): {error}") from error


def _build(
    library: Path,
    names: Names,
    board: Board,
    target: Target,
    output: Path,
    work: Path,
    external: dict[str, int],
    arena_bytes: int | None,
    tools: Gcc,
    copied: tuple[Copied, ...],
) -> FirmwareImages:
    flags = (*target.cflags, *target.optimization, *_COMMON_FLAGS, f"-ffile-prefix-map={library}=.")
    include = ("-I", str(library), "-I", str(work))
    digest = library_digest(library, names)
    (work / _ALIAS).write_text(alias_header(names, digest, tuple(external)), encoding="ascii")
    arena = f'-D{names.macro("ARENA_SECTION")}=__attribute__((section(".tapc_arena")))'
    trap = ("-DTAPC_TRAP_UNALIGNED",) if target.qemu is not None and target.qemu.trap_unaligned else ()
    apart = {names.example, names.file("stepwise.c")}
    sources = sorted(path for path in library.glob("*.c") if path.name not in apart)
    network = library / names.file(".c")
    lib = [Unit(f"lib_{path.stem}", path, (*tools.frames, *((arena,) if path == network else ()))) for path in sources]
    starting = [*_STARTUP_FLAGS, *(["-DTAPC_COPIES"] if copied else [])]
    starting += [f"-DTAPC_BOOT_{board.boot.upper()}"] if board.boot is not None else []
    start = [Unit(f"start_{path.stem}", path, tuple(starting)) for path in target.sources]
    used = {*external, *({board.arena_region.name} if board.arena_region.kind == "external_ram" else ())}
    around, mains = speaking_units(library, names, board, target, include, used)
    units = [
        *lib,
        Unit("twin_network", network, (arena, f"-D{names.macro('MARKS')}")),
        *start,
        *around,
        Unit(HARNESS_OBJECT.removesuffix(".o"), _HERE / "twin_main.c", (*include, *trap)),
    ]
    if board.boot == "rp2040":
        boot_source = work / "boot.c"
        boot_source.write_text(rp2040_boot_source(flags, work, tools), encoding="ascii")
        units.append(Unit("boot", boot_source))
    elif board.boot is not None:
        units.append(Unit("boot", _HERE / f"boot_{board.boot}.c"))
    objects = compile_units(units, flags, work, tools)
    shared = [objects[unit.name] for unit in (*start, *lib) if unit.source != network]
    boot = [objects["boot"]] if "boot" in objects else []

    elf, binary, hexadecimal = (output / f"firmware.{kind}" for kind in ("elf", "bin", "hex"))
    library_objects = [*boot, *shared, objects[f"lib_{network.stem}"]]

    def link(main: Main) -> None:
        own = [*library_objects, *(objects[name] for name in main.objects)]
        support = PREFIX if main.objects[0].startswith(PREFIX) else None
        layout = board_layout(board, external, support=support, copied=copied)
        _link(own, flags, target, layout, elf, work, board, tools)

    main = _first_that_fits(mains, link)
    sections = [f".tapc_{region}" for region in external]
    tools.binary(elf, binary, without=sections)
    outside = {region: output / f"firmware-{region}.bin" for region in external}
    for region, path in outside.items():
        tools.binary(elf, path, only=(f".tapc_{region}",))
    tools.hexadecimal(elf, hexadecimal)

    twin = output / "twin.elf"
    simulated = [*shared, objects["twin_network"], objects["twin_main"]]
    try:
        layout = twin_layout(board, target, external, arena_bytes, copied)
        _link(simulated, flags, target, layout, twin, work, board, tools)
    except RegionOverflowError as error:
        raise ToolError(f"the firmware fits {board.name}, but its QEMU twin does not: {error}") from error
    for path in (elf, binary, hexadecimal, twin, *outside.values()):
        path.chmod(0o644)  # linker and objcopy make them executable, which they are not here
    return FirmwareImages(elf, binary, hexadecimal, twin, memory_of(elf), outside, main.speaks,
                          stack_of([objects[unit.name] for unit in lib], names.symbol("run")))  # fmt: skip


def _first_that_fits(mains: Sequence[Main], link: Callable[[Main], None]) -> Main:
    for main in mains[:-1]:
        try:
            link(main)
            return main
        except RegionOverflowError:
            pass  # the next needs less
    link(mains[-1])
    return mains[-1]


def alias_header(names: Names, digest: str = "", regions: Sequence[str] = ()) -> str:
    """Return a header by which tapc's own C files, that are the same for all networks, call this one."""
    aliases = {f"network_{what}": names.symbol(what) for what in ("run", "step", "arena", "step_output")}
    aliases |= {f"NETWORK_{what}": names.macro(what) for what in ("STEPS", "ARENA_BYTES")}
    lines = [f'#include "{names.file(part)}"' for part in (".h", "steps.h")]
    lines += [f"#define {alias} {name}" for alias, name in aliases.items()]
    lines += [f'#define NETWORK_NAME "{names.prefix}"', f'#define NETWORK_DIGEST "{digest}"']
    lines += [f"#define NETWORK_EACH_REGION(use) {' '.join(f'use({region})' for region in regions)}"]
    results = names.macro("EACH_RESULT")
    lines += [f"#ifdef {results}", f"#define NETWORK_EACH_RESULT(use) {results}(use)", "#else"]
    scale, zero, size = (names.macro(f"OUTPUT_{what}") for what in ("SCALE", "ZERO_POINT", "BYTES"))
    lines += [f"#define NETWORK_EACH_RESULT(use) use({names.symbol('output')}(), {size}, {scale}, {zero})", "#endif"]
    states = names.macro("EACH_STATE")
    lines += [f"#ifdef {states}", f"#define NETWORK_EACH_STATE(use) {states}(use)"]
    lines += ["#define NETWORK_KEEPS", f"#define NETWORK_RESET() {names.symbol('reset')}()", "#else"]
    lines += ["#define NETWORK_EACH_STATE(use)", "#define NETWORK_RESET() ((void)0)", "#endif"]
    for kind in ("input", "output"):
        each, several = f"NETWORK_EACH_{kind.upper()}", names.macro(f"EACH_{kind.upper()}")
        memory, size = names.symbol(kind), names.macro(f"{kind.upper()}_BYTES")
        lines += [f"#ifdef {several}", f"#define {each}(use) {several}(use)"]
        lines += [f"#define NETWORK_FIRST_{kind.upper()} {memory}(0)", "#else"]
        lines += [f"#define {each}(use) use({memory}(), {size})"]
        lines += [f"#define NETWORK_FIRST_{kind.upper()} {memory}()", "#endif"]
    return "\n".join([*lines, ""])


def _link(
    objects: Sequence[Path],
    flags: Sequence[str],
    target: Target,
    layout: Layout,
    elf: Path,
    work: Path,
    board: Board,
    tools: Gcc,
) -> None:
    script = work / f"{elf.stem}.ld"
    script.write_text(linker_script(target.linker, layout), encoding="utf-8")
    arguments = [
        *flags,
        "-nostartfiles",
        "-T",
        script.name,
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,--strip-debug",
        *(path.name for path in objects),
        "-lm",
        "-o",
        str(elf),
    ]
    try:
        tools.driver(arguments, work)
    except RegionOverflowError as error:
        region = board.region(error.region)
        raise RegionOverflowError(
            f"does not fit {board.name}: region {region.name} ({region.size} bytes at 0x{region.origin:08X}) "
            f"overflows by {error.overflow} bytes; {region.size + error.overflow} bytes would hold it. "
            "Use fewer bits or a board with more memory.",
            error.region,
            error.overflow,
        ) from error
