"""The most stack that a function can take: frames as the compiler tells them, calls as the objects' relocations do."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section, Symbol, SymbolTableSection

_CALLS = {
    "EM_ARM": {10, 28, 29, 30, 51, 102},  # R_ARM_THM_CALL, CALL, JUMP24, THM_JUMP24, THM_JUMP19, THM_JUMP11
    "EM_RISCV": {16, 17, 18, 19, 44, 45},  # R_RISCV_BRANCH, JAL, CALL, CALL_PLT, RVC_BRANCH, RVC_JUMP
}
_CLONE = re.compile(r"\.\d+$")


@dataclass(frozen=True)
class Frame:
    """A function: its own bytes of stack, and the most that it takes with all that it calls.

    Attributes
    ----------
    name : str
    own, worst : int
        Bytes.
    """

    name: str
    own: int
    worst: int


@dataclass(frozen=True)
class StackUse:
    """The most stack that a function takes, without what nobody told.

    Attributes
    ----------
    bytes : int
    path : tuple of Frame
        From the function to the last that is called where it takes most.
    functions : tuple of Frame
        All that it reaches, the greediest first.
    unknown : tuple of str
        Functions that are called and were compiled elsewhere: those of the C library and of the compiler's own.
    unbounded : tuple of str
        Functions that call themselves, or whose frames depend on values.
    """

    bytes: int
    path: tuple[Frame, ...]
    functions: tuple[Frame, ...]
    unknown: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()


@dataclass
class _Code:
    """Of some objects: frames, calls, and functions with a frame of no fixed size."""

    own: dict[str, int] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)
    dynamic: set[str] = field(default_factory=set)


def stack_of(objects: Sequence[Path], function: str) -> StackUse | None:
    """Return the most stack that a function takes.

    Parameters
    ----------
    objects : sequence of Path
        Compiled with a section for each function and a report of the frames: OBJECT.su beside it (GCC's
        ``-fstack-usage``), or sections `.stack_sizes` (Clang's ``-fstack-size-section``).
    function : str

    Returns
    -------
    StackUse or None
        None where no frame of it is reported.
    """
    code = _Code()
    for path in objects:
        _read(path, code)
    if function not in code.own:
        return None
    return _Search(code).use(function)


def _read(path: Path, code: _Code) -> None:
    usage = path.with_suffix(".su")
    told = _usage(usage) if usage.is_file() else {}
    with path.open("rb") as stream:
        image = ELFFile(stream)
        table = image.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = list(table.iter_symbols())
        named = {_place(symbol): _key(path, symbol) for symbol in symbols if symbol["st_info"]["type"] == "STT_FUNC"}
        for symbol in symbols:
            if symbol["st_info"]["type"] == "STT_FUNC":
                key, own = _key(path, symbol), told.get(_CLONE.sub("", symbol.name), told.get(symbol.name))
                code.calls.setdefault(key, set())
                if own is not None:
                    code.own[key] = own[0]
                    code.dynamic |= {key} if own[1] else set()
        for section in image.iter_sections():
            if isinstance(section, RelocationSection):
                code.calls.setdefault(named.get(section["sh_info"], ""), set()).update(
                    _called(path, section, symbols, named, _CALLS.get(image["e_machine"], set()))
                )
            elif section.name == ".stack_sizes" and section["sh_link"] in named:
                code.own[named[section["sh_link"]]] = _leb128(section.data()[image.elfclass // 8 :])


def _usage(path: Path) -> dict[str, tuple[int, bool]]:
    """Return the bytes of each frame, and whether they are not all: lines FILE:LINE:COLUMN:NAME, bytes, kind."""
    found: dict[str, tuple[int, bool]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        where, size, kind = line.split("\t")
        name = where.rpartition(":")[2]
        before, open_ended = found.get(name, (0, False))
        found[name] = max(before, int(size)), open_ended or kind == "dynamic"  # clones have one name
    return found


def _place(symbol: Symbol) -> int | str:
    """Return the number of a symbol's section; each function has one of its own."""
    place: int | str = symbol["st_shndx"]
    return place


def _key(path: Path, symbol: Symbol) -> str:
    """Return a name that no static function of another object has."""
    return f"{symbol.name}@{path.name}" if symbol["st_info"]["bind"] == "STB_LOCAL" else str(symbol.name)


def _called(
    path: Path, section: Section, symbols: Sequence[Symbol], named: dict[int | str, str], calls: set[int]
) -> Iterator[str]:
    own = named.get(section["sh_info"])
    if own is None:
        return
    for relocation in section.iter_relocations():
        symbol = symbols[relocation["r_info_sym"]]
        place = _place(symbol)
        if symbol["st_info"]["type"] == "STT_SECTION" and place in named and named[place] != own:
            yield named[place]
        elif symbol["st_info"]["type"] == "STT_FUNC":  # its address alone may be taken for a call, too
            yield _key(path, symbol)
        elif place == "SHN_UNDEF" and relocation["r_info_type"] in calls:
            yield str(symbol.name)


def _leb128(data: bytes) -> int:
    value = 0
    for shift, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * shift)
        if not byte & 0x80:
            break
    return value


class _Search:
    """Walks the calls; every function once."""

    def __init__(self, code: _Code) -> None:
        self.code = code
        self.worst: dict[str, int] = {}
        self.next: dict[str, str | None] = {}
        self.unknown: set[str] = set()
        self.unbounded: set[str] = set()

    def use(self, function: str) -> StackUse:
        total = self._visit(function, ())
        path, step = [], str(function)
        while step:
            path.append(self._frame(step))
            step = self.next.get(step) or ""
        frames = sorted(map(self._frame, self.worst), key=lambda frame: (-frame.worst, frame.name))
        return StackUse(total, tuple(path), tuple(frames), *map(_shown, (self.unknown, self.unbounded)))

    def _frame(self, key: str) -> Frame:
        return Frame(key.partition("@")[0], self.code.own[key], self.worst[key])

    def _visit(self, key: str, callers: tuple[str, ...]) -> int:
        if key in callers:
            self.unbounded.add(key)
            return 0
        if key not in self.code.own:
            self.unknown.add(key)
            return 0
        if key not in self.worst:
            if key in self.code.dynamic:
                self.unbounded.add(key)
            deepest = {other: self._visit(other, (*callers, key)) for other in sorted(self.code.calls.get(key, ()))}
            most = max(deepest, key=lambda other: deepest[other], default=None)
            self.next[key] = most if most is not None and deepest[most] else None
            self.worst[key] = self.code.own[key] + (deepest[most] if most is not None else 0)
        return self.worst[key]


def _shown(keys: set[str]) -> tuple[str, ...]:
    return tuple(sorted({key.partition("@")[0] for key in keys}))
