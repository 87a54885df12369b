"""What an image occupies, read back from its ELF."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section, Symbol, SymbolTableSection

from tapc.base.errors import DataError

_CONSTANTS = {"w": "weights", "b": "biases", "s": "scales"}
_ARENA = ".tapc_arena"
_HARNESS = ".harness"
_PLACED = ".tapc_"
_EXECUTED = 4  # SHF_EXECINSTR


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of an image by category.

    Attributes
    ----------
    flash : int
        Everything that is flashed: code + weights + biases + scales + tables + data, in internal and external flash.
    code : int
        Boot loader, vector table and functions, and the padding between sections.
    weights, biases, scales : int
        Constant arrays named PREFIX_w_*, PREFIX_b_* and PREFIX_s_*.
    tables : int
        All other constants, padding between constants included.
    data : int
        Initialized variables; they take flash and RAM.
    bss : int
        Zeroed variables, the arena excluded; RAM only.
    arena : int
        Activations; RAM only.
    stack_reserved : int
        Stack that the linker script keeps free.
    external : dict of str to int
        Region -> bytes of constants in external flash.
    symbols : dict of str to int
        Bytes of each function and object, harness excluded. Equal names are added up.
    support : int
        Bytes of flash for what speaks: commands, clock, UART. They are no part of the network and of no other figure.
    support_ram : int
        Its RAM, a copy of the input included.
    copied : dict of str to int
        Region -> bytes that start-up copies there from flash, which counts them too.
    """

    flash: int
    code: int
    weights: int
    biases: int
    scales: int
    tables: int
    data: int
    bss: int
    arena: int
    stack_reserved: int
    external: dict[str, int] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    support: int = 0
    support_ram: int = 0
    copied: dict[str, int] = field(default_factory=dict)

    @property
    def static_ram(self) -> int:
        """RAM without the stack: arena + data + bss."""
        return self.arena + self.data + self.bss


def _flash_bytes(image: ELFFile) -> int:
    """Return the bytes from the first to the last that is flashed, at their load addresses."""
    left_out = {section.name for section in (*_harness(image), *_external(image))}
    spans = []
    for segment in image.iter_segments("PT_LOAD"):
        for section in image.iter_sections():
            inside = section["sh_type"] != "SHT_NOBITS" and section["sh_size"] and segment.section_in_segment(section)
            if inside and section.name not in left_out:
                start = segment["p_paddr"] + section["sh_addr"] - segment["p_vaddr"]
                spans.append((start, start + section["sh_size"]))
    return int(max(end for _, end in spans) - min(start for start, _ in spans)) if spans else 0


def _harness(image: ELFFile) -> list[Section]:
    return [section for section in image.iter_sections() if section.name.startswith(_HARNESS)]


def _placed(image: ELFFile) -> list[Section]:
    return [s for s in image.iter_sections() if s.name.startswith(_PLACED) and s["sh_type"] == "SHT_PROGBITS"]


def copied_sections(image: ELFFile) -> list[Section]:
    """Return the sections that lie in flash and are read elsewhere, once start-up has copied them."""
    moved = [s for s in image.iter_segments("PT_LOAD") if s["p_paddr"] != s["p_vaddr"]]
    return [s for s in _placed(image) if any(segment.section_in_segment(s) for segment in moved)]


def _external(image: ELFFile) -> list[Section]:
    copied = {section.name for section in copied_sections(image)}
    return [section for section in _placed(image) if section.name not in copied]


def _prefix(image: ELFFile, symbols: list[Symbol]) -> str:
    """Return what the library's names begin with: its arena stands in a section of its own."""
    for symbol in symbols:
        index = symbol["st_shndx"]
        if isinstance(index, int) and image.get_section(index).name == _ARENA and symbol.name.endswith("_arena"):
            return str(symbol.name).removesuffix("_arena")
    return ""


def memory_of(elf: Path) -> MemoryUse:
    """Read an image's memory use from its ELF; a twin's harness does not count.

    Raises
    ------
    DataError
        The file is missing or no ELF file.
    """
    try:
        with elf.open("rb") as stream:
            image = ELFFile(stream)
            sections = {section.name: section["sh_size"] for section in image.iter_sections()}
            flash = _flash_bytes(image)
            harness = {section.name: int(section["sh_size"]) for section in _harness(image)}
            external = {s.name.removeprefix(_PLACED): int(s["sh_size"]) for s in _external(image)}
            copies = copied_sections(image)
            copied = {s.name.removeprefix(_PLACED): int(s["sh_size"]) for s in copies}
            fast = sum(int(s["sh_size"]) for s in copies if not s["sh_flags"] & _EXECUTED)
            constant_sections = {".rodata", *(s.name for s in _placed(image))}
            counted = {
                index
                for index, section in enumerate(image.iter_sections())
                if section["sh_flags"] & 2 and not section.name.startswith(_HARNESS)  # SHF_ALLOC
            }
            table = image.get_section_by_name(".symtab")
            symbols: dict[str, int] = {}
            constants = dict.fromkeys(_CONSTANTS.values(), 0)
            entries = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
            prefix = _prefix(image, entries)
            for symbol in entries:
                if symbol["st_shndx"] not in counted or symbol["st_info"]["type"] not in ("STT_FUNC", "STT_OBJECT"):
                    continue
                symbols[symbol.name] = symbols.get(symbol.name, 0) + symbol["st_size"]
                role = re.match(rf"{re.escape(prefix)}_([wbs])_", symbol.name)
                category = _CONSTANTS[role[1]] if role else None
                if category and image.get_section(symbol["st_shndx"]).name in constant_sections:
                    constants[category] += symbol["st_size"]
    except (OSError, ELFError) as error:
        raise DataError(f"{elf} is not a readable ELF file: {error}") from error
    rodata, data = sections.get(".rodata", 0), sections.get(".data", 0)
    return MemoryUse(
        flash=flash + sum(external.values()),
        code=flash - rodata - data - fast,
        **constants,
        tables=rodata + fast + sum(external.values()) - sum(constants.values()),
        data=data,
        bss=sections.get(".bss", 0),
        arena=sections.get(_ARENA, 0),
        stack_reserved=sections.get(".stack", 0),
        external=external,
        symbols=symbols,
        support=harness.get(_HARNESS, 0) + harness.get(f"{_HARNESS}_rodata", 0),
        support_ram=harness.get(f"{_HARNESS}_ram", 0),
        copied=copied,
    )
