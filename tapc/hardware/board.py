"""Boards: what the silicon offers. One TOML file per board, checked against a versioned schema."""

import contextlib
import os
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from tapc.base.errors import DataError, TapcError, UsageError
from tapc.base.files import read_regular, reading
from tapc.hardware.npu import Npu
from tapc.hardware.probe import Probe, Renode, Support

RegionKind = Literal["flash", "ram", "external_flash", "external_ram"]
Content = Literal["code", "weights", "data", "arena", "stack"]

_MOST_TOML = 4 << 20
_MOST_PROBLEMS = 20
_BANDWIDTH = (
    "how fast it is read, e.g. bandwidth = { bytes_per_cycle = 4 } for memory on the core's bus, or { mb_per_s = 100 }"
)
_UNITS = {"K": 1 << 10, "M": 1 << 20}


def _byte_count(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}[KM]", value):
        return int(value[:-1]) * _UNITS[value[-1]]
    return value


ByteCount = Annotated[int, BeforeValidator(_byte_count), Field(gt=0, le=1 << 32, strict=True)]
Address = Annotated[int, Field(ge=0, lt=1 << 32, multiple_of=8, strict=True)]
Simulator = Annotated[
    str, Field(pattern=r"^(qemu|renode|unicorn|rp2040js)(:[A-Za-z0-9._-]+(,[a-z]+=on)?)?$", max_length=80)
]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Schema(BaseModel):
    """Base of everything read from TOML: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


SchemaT = TypeVar("SchemaT", bound=Schema)


class Bandwidth(Schema):
    """Peak read bandwidth: exactly one of bytes per CPU cycle and 10^6 bytes per second."""

    bytes_per_cycle: float | None = Field(default=None, gt=0, le=1e6)
    mb_per_s: float | None = Field(default=None, gt=0, le=1e9)

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if (self.bytes_per_cycle is None) == (self.mb_per_s is None):
            raise ValueError("give exactly one of bytes_per_cycle and mb_per_s")
        return self

    def at(self, cpu_hz: int) -> float:
        """Return bytes per CPU cycle at a clock of `cpu_hz` Hz."""
        if self.bytes_per_cycle is not None:
            return self.bytes_per_cycle
        assert self.mb_per_s is not None
        return self.mb_per_s * 1e6 / cpu_hz


class Region(Schema):
    """A memory region.

    Attributes
    ----------
    name : str
        Also the region's name in the linker script and in error messages.
    kind : {"flash", "ram", "external_flash", "external_ram"}
        External regions need a driver before they can be used.
    origin, size : int
        Address and bytes; TOML also takes sizes such as "512K" and "2M".
    bandwidth : Bandwidth
        Peak read bandwidth.
    holds : tuple of {"code", "weights", "data", "arena", "stack"}
        What may live there.
    data_origin : int or None
        Of flash: where data are read, if not where code runs.
    """

    name: Identifier
    kind: RegionKind
    origin: Address
    size: ByteCount
    bandwidth: Bandwidth
    holds: tuple[Content, ...] = Field(min_length=1)
    data_origin: Address | None = None

    @model_validator(mode="after")
    def _addressable(self) -> Self:
        if self.data_origin is not None and self.kind != "flash":
            raise ValueError(f"region {self.name!r}: data_origin is for flash")
        if self.end > 1 << 32:
            raise ValueError(f"region {self.name!r} ends at 0x{self.end:X}, beyond 32-bit addresses")
        return self

    @property
    def end(self) -> int:
        """First address after the region."""
        return self.origin + self.size


class Clocks(Schema):
    """Clocks in Hz."""

    cpu_hz: int = Field(gt=0, le=10**12, strict=True)


class Board(Schema):
    """A board, as its TOML file describes it.

    Attributes
    ----------
    core : str
        Name of the target (a folder in targets/).
    support : Support or None
        What makes the firmware speak; without it, it runs once and sleeps.
    renode : Renode or None
        How Renode plays it.
    memory : tuple of Region
        Order matters: the first region that may hold something is where it goes.
    stack_bytes : int
        Least stack that an image must leave free; the stack really gets the rest of its region.
    boot : {"rp2040", "rp2350", "esp32c3"} or None
        What the chip's boot ROM wants of an image: a second-stage boot loader, a definition of it, a head.
    arena : str or None
        Region that holds the activations; the first internal RAM that may where None.
    npu : Npu or None
    """

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=31)
    description: str
    core: str
    clocks: Clocks
    memory: tuple[Region, ...]
    probe: Probe | None = None
    support: Support | None = None
    renode: Renode | None = None
    simulators: tuple[Simulator, ...] = ()
    stack_bytes: ByteCount = 4096
    boot: Literal["rp2040", "rp2350", "esp32c3"] | None = None
    arena: Identifier | None = None
    npu: Npu | None = None
    _folder: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [region.name for region in self.memory]
        if len(set(names)) != len(names):
            raise ValueError("memory: region names must be unique")
        ordered = sorted(self.memory, key=lambda region: region.origin)
        for low, high in pairwise(ordered):
            if low.end > high.origin:
                raise ValueError(f"memory: regions {low.name!r} and {high.name!r} overlap at 0x{high.origin:08X}")
        for name in self.support.regions if self.support is not None else ():
            if not any(region.name == name and region.kind.startswith("external") for region in self.memory):
                raise ValueError(f"support.regions: no external memory is called {name!r}")
        if self.arena is not None and not any(r.name == self.arena and "arena" in r.holds for r in self.memory):
            raise ValueError(f"arena: no region {self.arena!r} holds the arena")
        for port in (self.npu.sram, self.npu.flash) if self.npu is not None else ():
            if port.region not in names:
                raise ValueError(f"npu: no memory is called {port.region!r}")
        needs = (("flash", {"code", "weights"}), ("ram", {"arena"}), ("ram", {"data"}), ("ram", {"stack"}))
        for kind, contents in needs:
            if not any(region.kind == kind and contents <= set(region.holds) for region in self.memory):
                raise ValueError(f"memory: no {kind} region holds {' and '.join(sorted(contents))}")
        return self

    def _first(self, kind: RegionKind, *contents: Content) -> Region:
        return next(r for r in self.memory if r.kind == kind and set(contents) <= set(r.holds))

    @property
    def flash(self) -> Region:
        """Internal flash region that holds code and weights."""
        return self._first("flash", "code", "weights")

    @property
    def arena_region(self) -> Region:
        """Region of the activations: the one named, or the first internal RAM, in file order, that may hold them."""
        return self._first("ram", "arena") if self.arena is None else self.region(self.arena)

    @property
    def external_flash(self) -> Region | None:
        """First memory-mapped external flash, in file order, that may hold weights."""
        return next((r for r in self.memory if r.kind == "external_flash" and "weights" in r.holds), None)

    @property
    def external_ram(self) -> Region | None:
        """First external RAM, in file order, that may hold the activations."""
        return next((r for r in self.memory if r.kind == "external_ram" and "arena" in r.holds), None)

    def flash_bytes(self, external: bool) -> int:
        """Return the bytes that code and weights may take: internal flash, and external flash where it is allowed."""
        outside = self.external_flash if external else None
        return self.flash.size + (0 if outside is None else outside.size)

    def with_arena(self, region: Region) -> "Board":
        """Return the same board with its activations in another region."""
        return self.model_copy(update={"arena": region.name})

    @property
    def data_region(self) -> Region:
        """First internal RAM region, in file order, that may hold .data and .bss."""
        return self._first("ram", "data")

    @property
    def working_ram(self) -> int:
        """Bytes of the regions that arena, stack and variables are linked to, each region once."""
        regions = {region.name: region.size for region in (self.arena_region, self.stack_region, self.data_region)}
        return sum(regions.values())

    def ram_limit(self, besides: int) -> int:
        """Most bytes of RAM that an image may take in all; `besides` bytes of them, stack and variables, are no arena.

        The arena lies in one region: what another region has left is of no use to it.
        """
        if self.arena_region in (self.stack_region, self.data_region):
            return self.working_ram
        return min(self.working_ram, self.arena_region.size + besides)

    @property
    def stack_region(self) -> Region:
        """First internal RAM region, in file order, that may hold the stack."""
        return self._first("ram", "stack")

    @property
    def support_file(self) -> Path | None:
        """C file that starts the board; None where it has none.

        Raises
        ------
        DataError
            The board names a file that is not there.
        """
        if self.support is None:
            return None
        own = [] if self._folder is None else [self._folder]
        places = [place / "support" for place in (*own, *_board_folders())]
        for place in places:
            if (place / self.support.source).is_file():
                return place / self.support.source
        raise DataError(
            f"board {self.name}: support file {self.support.source!r} is in none of: {', '.join(map(str, places))}"
        )

    def region(self, name: str) -> Region:
        """Return the region called `name`; KeyError if there is none."""
        for region in self.memory:
            if region.name == name:
                return region
        raise KeyError(name)


def shipped(folder: str) -> Path:
    """Return a folder that tapc ships beside its code ("boards", "targets" or "prompts").

    It lies inside the package in an installed wheel and at the top of the source tree otherwise.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "_shipped" / folder
    return installed if installed.is_dir() else package.parent / folder


def search_path() -> list[Path]:
    """Return the folders listed in the environment variable TAPC_PATH, in order."""
    return [Path(entry) for entry in os.environ.get("TAPC_PATH", "").split(os.pathsep) if entry]


def read_schema(path: Path, model: type[SchemaT], what: str) -> SchemaT:
    """Read a TOML file into a schema class.

    Raises
    ------
    DataError
        The file cannot be read, is no TOML, or breaks the schema; names the file and every offending key.
    """
    content = read_toml(path, f"{what} file")
    try:
        with reading(f"{what} file {path}"):
            return model.model_validate(content)
    except DataError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        problems = [f"  {_place(e['loc']) or what}: {_problem(e)}" for e in error.__cause__.errors()]
        if len(problems) > _MOST_PROBLEMS:
            problems[_MOST_PROBLEMS:] = [f"  and {len(problems) - _MOST_PROBLEMS} more"]
        raise DataError("\n".join([f"{what} file {path} breaks the schema:", *problems])) from error


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:80] for part in location)


def _problem(error: Any) -> str:
    missing = error["type"] == "missing" and error["loc"][-1:] == ("bandwidth",)
    return f"{error['msg']}; {_BANDWIDTH}" if missing else str(error["msg"])


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file of any content.

    Raises
    ------
    DataError
        The file cannot be read, or is no TOML.
    """
    text = read_regular(path, _MOST_TOML, what)
    try:
        # Windows ends lines with two characters, as tomllib.load takes them as well.
        return tomllib.loads(text.decode("utf-8").replace("\r\n", "\n"))
    except RecursionError as error:
        raise DataError(f"{what} {path} cannot be read: it is too deeply nested") from error
    except ValueError as error:  # no UTF-8, no TOML, or an integer of too many digits
        raise DataError(f"{what} {path} cannot be read: not TOML: {error}") from error


def _board_folders() -> list[Path]:
    return [place for folder in search_path() for place in (folder / "boards", folder)] + [shipped("boards")]


def board_names() -> list[str]:
    """Return the names that `load_board` finds: those in TAPC_PATH, then the shipped ones, each sorted."""
    names = [path.stem for folder in _board_folders() for path in sorted(folder.glob("*.toml"))]
    return list(dict.fromkeys(names))


def boards_with_npu() -> list[str]:
    """Return the names of boards with an NPU; files that cannot be read are left out."""
    found = []
    for name in board_names():
        with contextlib.suppress(TapcError):
            if load_board(name).npu is not None:
                found.append(name)
    return found


def _read(path: Path) -> Board:
    board = read_schema(path, Board, "board")
    board._folder = path.parent
    return board


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        raise UsageError(f"board file {str(path)!r} cannot be read: {error}") from error


def load_board(name_or_path: str | Path) -> Board:
    """Load a board by name, or from a file when the argument ends in `.toml`.

    A name is looked for in the folders of TAPC_PATH (NAME.toml there or in their boards/), then among the shipped
    boards.

    Raises
    ------
    UsageError
        No such board; lists the known names.
    DataError
        The board's file is unreadable or breaks the schema.
    """
    if str(name_or_path).endswith(".toml"):
        path = Path(name_or_path)
        if not _exists(path):
            raise UsageError(f"board file {path} does not exist; known boards: {', '.join(board_names())}")
        return _read(path)
    if name_or_path in board_names():
        for folder in _board_folders():
            path = folder / f"{name_or_path}.toml"
            if path.is_file():
                return _read(path)
    raise UsageError(
        f"unknown board {str(name_or_path)!r}; known: {', '.join(board_names())}. "
        "Pass a path ending in .toml, or put the file's folder in TAPC_PATH, to add one."
    )
