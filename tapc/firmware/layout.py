"""Where an image's parts go in memory: on the board, and on its QEMU twin. Renders the linker script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jinja2

from tapc.base.errors import UsageError
from tapc.hardware.board import Board, Region
from tapc.hardware.target import Target

HARNESS_OBJECT = "twin_main.o"
# The twin's own main stands at the end of QEMU's memory blocks, outside the board's regions.
HARNESS_ROM_BYTES = 0x8000
HARNESS_RAM_BYTES = 0x1000
HARNESS_RESET_BYTES = 8
_SLACK = 0x1000
_MIRROR = "flash_data"


@dataclass(frozen=True)
class Span:
    """A stretch of memory in the linker script."""

    name: str
    access: Literal["rx", "rw"]
    origin: int
    size: int


@dataclass(frozen=True)
class Copied:
    """Sections that lie in flash, and that start-up copies to a memory where they are read faster."""

    region: str
    sections: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Memory of one image: its spans, and the names of those that hold each part.

    `support` begins the names of the objects that make firmware speak; `mirror` is where flash's data are read, if not
    where its code runs.
    """

    title: str
    spans: tuple[Span, ...]
    flash: str
    data: str
    arena: str
    stack: str
    stack_bytes: int
    boot: bool
    harness: bool
    reset: bool = False
    externals: tuple[str, ...] = ()
    support: str | None = None
    copied: tuple[Copied, ...] = ()
    mirror: str | None = None


def _ram_regions(board: Board, copied: Sequence[Copied]) -> tuple[Region, ...]:
    others = (board.region(part.region) for part in copied)
    return tuple(dict.fromkeys((board.arena_region, board.data_region, board.stack_region, *others)))


def board_layout(
    board: Board,
    external: Mapping[str, int] | None = None,
    *,
    support: str | None = None,
    copied: tuple[Copied, ...] = (),
) -> Layout:
    """Return the layout of the image that is flashed.

    Parameters
    ----------
    board : Board
    external : mapping of str to int, optional
        External flash regions in use.
    support : str, optional
        What the names of the objects begin with that make the firmware speak.
    copied : tuple of Copied
    """
    flash = Span(board.flash.name, "rx", board.flash.origin, board.flash.size)
    rams = (Span(region.name, "rw", region.origin, region.size) for region in _ram_regions(board, copied))
    outside = [board.region(name) for name in external or {}]
    others = (Span(region.name, "rx", region.origin, region.size) for region in outside)
    names = tuple(region.name for region in outside)
    layout = _layout(board, board.name, (flash, *rams, *others), harness=False, externals=names)
    if board.flash.data_origin is None:
        return replace(layout, support=support, copied=copied)
    mirror = Span(_MIRROR, "rx", board.flash.data_origin, board.flash.size)
    return replace(layout, spans=(*layout.spans, mirror), support=support, copied=copied, mirror=_MIRROR)


def twin_layout(
    board: Board,
    target: Target,
    external: Mapping[str, int] | None = None,
    arena: int | None = None,
    copied: tuple[Copied, ...] = (),
) -> Layout:
    """Return the layout of the QEMU twin: the board's sizes at the simulated machine's addresses.

    Each RAM region goes to the machine's fast memory while there is room, then to its PSRAM. A region larger than
    either is cut to what is there. External memories take the bytes that are used, from the PSRAM.

    Parameters
    ----------
    board, target : Board, Target
    external : mapping of str to int, optional
        External flash regions in use, and the bytes of constants in each.
    arena : int, optional
        Bytes of the arena, where it lies in external RAM.
    copied : tuple of Copied

    Raises
    ------
    UsageError
        The target names no QEMU machine, or the machine's memory cannot hold the regions.
    """
    if target.qemu is None:
        raise UsageError(f"target {target.name} names no QEMU machine: its firmware cannot be simulated with QEMU")
    machine = target.qemu
    rom_end = machine.rom.origin + machine.rom.size - HARNESS_ROM_BYTES
    # A flash larger than QEMU's ROM is cut: the board's own link has already checked the real size.
    flash_size = min(board.flash.size, rom_end - machine.rom.origin)
    spans = [Span(board.flash.name, "rx", machine.rom.origin, flash_size)]
    ram_end = machine.ram.origin + machine.ram.size - HARNESS_RAM_BYTES
    psram_end = machine.psram.origin + machine.psram.size
    ram, psram = machine.ram.origin, machine.psram.origin
    # What is outside needs certain bytes; the board's own link has checked that its memory has them.
    wanted = {name: size + _SLACK for name, size in (external or {}).items()}
    if arena is not None and board.arena_region.kind == "external_ram":
        wanted[board.arena_region.name] = arena + _SLACK
    for name, size in wanted.items():
        size = -(-size // _SLACK) * _SLACK
        if psram + size > psram_end:
            raise UsageError(
                f"board {board.name}: {machine.machine} has {psram_end - psram} bytes left for region {name}, "
                f"{size} are needed; the firmware can be built (--no-simulate), not simulated"
            )
        access: Literal["rx", "rw"] = "rw" if name == board.arena_region.name else "rx"
        spans.append(Span(name, access, psram, size))
        psram += size
    for region in _ram_regions(board, copied):
        if region.name in wanted:
            continue
        if ram + region.size <= ram_end:
            spans.append(Span(region.name, "rw", ram, region.size))
            ram += region.size
        elif psram < psram_end:
            size = min(region.size, psram_end - psram)
            spans.append(Span(region.name, "rw", psram, size))
            psram += size
        else:
            raise UsageError(f"board {board.name}: {machine.machine} has no memory left for region {region.name}")
    spans.append(Span("harness_rom", "rx", rom_end, HARNESS_ROM_BYTES))
    spans.append(Span("harness_ram", "rw", ram_end, HARNESS_RAM_BYTES))
    if machine.reset is not None:
        spans.append(Span("harness_reset", "rx", machine.reset, HARNESS_RESET_BYTES))
    title = f"{board.name}'s twin on {machine.machine}"
    layout = _layout(
        board, title, tuple(spans), harness=True, reset=machine.reset is not None, externals=tuple(external or {})
    )
    return replace(layout, copied=copied)


def _layout(
    board: Board,
    title: str,
    spans: tuple[Span, ...],
    *,
    harness: bool,
    reset: bool = False,
    externals: tuple[str, ...] = (),
) -> Layout:
    return Layout(
        title=title,
        spans=spans,
        flash=board.flash.name,
        data=board.data_region.name,
        arena=board.arena_region.name,
        stack=board.stack_region.name,
        stack_bytes=board.stack_bytes,
        boot=board.boot is not None and not harness,
        harness=harness,
        reset=reset,
        externals=externals,
    )


def linker_script(template: Path, layout: Layout) -> str:
    """Render a target's linker script template."""
    text = template.read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text).render(
        title=layout.title,
        regions=layout.spans,
        flash=layout.flash,
        data=layout.data,
        arena=layout.arena,
        stack=layout.stack,
        stack_bytes=layout.stack_bytes,
        boot=layout.boot,
        harness=HARNESS_OBJECT if layout.harness else None,
        reset=layout.reset,
        externals=layout.externals,
        support=layout.support,
        copied=layout.copied,
        mirror=layout.mirror,
    )
