"""Targets: processor cores. One folder per core: target.toml, start-up C and a linker script template."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from tapc.base.errors import DataError, UsageError
from tapc.base.isa import Isa
from tapc.hardware.board import Address, ByteCount, Schema, read_schema, search_path, shipped

Feature = Literal["dsp", "fpu", "fpu-double", "mve"]


class Block(Schema):
    """A block of the simulated machine's memory: address and bytes."""

    origin: Address
    size: ByteCount


class QemuMachine(Schema):
    """The QEMU machine that runs the core's code.

    Attributes
    ----------
    machine : str
        Argument of QEMU's -M.
    rom, ram, psram : Block
        Memory for the board's flash, for its RAM regions, and for those that are too large.
    reset : int or None
        Address of the stack pointer and program counter that the core starts with; by default rom's first words.
    trap_unaligned : bool
        The machine's core allows unaligned accesses that the target's core does not: let them fault.
    """

    machine: str
    rom: Block
    ram: Block
    psram: Block
    reset: Address | None = None
    trap_unaligned: bool = False


class TargetFile(Schema):
    """Content of target.toml."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    arch: Literal["armv6-m", "armv7-m", "armv7e-m", "armv8-m.main", "armv8.1-m.main", "rv32imc"]
    features: tuple[Feature, ...]
    requantize: Literal["float", "fixed"]
    compiler: str = Field("arm-none-eabi-", pattern=r"^([A-Za-z0-9_.]+-)+$")
    cflags: tuple[str, ...]
    optimization: tuple[str, ...]
    small: tuple[str, ...] = ()
    sources: tuple[str, ...] = Field(min_length=1)
    linker: str
    counter: str = "cycles.c"
    dcache: ByteCount | None = None
    dual_issue: bool = False
    qemu: QemuMachine | None = None


@dataclass(frozen=True)
class Target:
    """A processor core.

    Attributes
    ----------
    name, arch : str
        Core ("cortex-m7") and architecture ("armv7e-m").
    features : frozenset of str
        Instruction set extensions: dsp, fpu, fpu-double, mve.
    requantize : str
        How kernels scale accumulators: the core's own arithmetic, or another that was asked for.
    compiler : str
        What the names of the cross compiler's commands begin with.
    cflags, optimization : tuple of str
        Compiler arguments: code generation, and the optimization that the kernels' schedules assume.
    small : tuple of str
        Compiler arguments, after all others, that make code small where speed is of no matter.
    sources : tuple of Path
        Start-up C files.
    linker : Path
        jinja2 template of the linker script.
    cost : Path
        Fitted cost model; need not exist before `tapc.tuning.fit` has run.
    qemu : QemuMachine or None
        Machine that simulates the core.
    counter : Path
        C file that counts cycles.
    dcache : int
        Bytes of the data cache that start-up turns on, 0 for none.
    dual_issue : bool
        It issues a load and a product at once.
    """

    name: str
    arch: str
    features: frozenset[str]
    requantize: str
    compiler: str
    cflags: tuple[str, ...]
    optimization: tuple[str, ...]
    small: tuple[str, ...]
    sources: tuple[Path, ...]
    linker: Path
    cost: Path
    qemu: QemuMachine | None
    counter: Path
    dcache: int = 0
    dual_issue: bool = False

    @property
    def rates(self) -> Path:
        """Cycles per instruction of its kernels; there need not be any."""
        return self.cost.with_name("rates.toml")

    @property
    def isa(self) -> Isa:
        """Instruction set family that the kernels are written for."""
        return "mve" if "mve" in self.features else "dsp" if "dsp" in self.features else "scalar"

    @property
    def digest(self) -> str:
        """Identify what the core's firmware depends on, wherever its files are."""
        files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (*self.sources, self.linker)]
        core = [self.name, self.arch, sorted(self.features), self.requantize]
        options = [*core, self.compiler, self.cflags, self.optimization]
        machine = None if self.qemu is None else self.qemu.model_dump(mode="json")
        return hashlib.sha256(json.dumps([options, files, machine], sort_keys=True).encode()).hexdigest()


def _target_folders() -> list[Path]:
    return [folder / "targets" for folder in search_path()] + [shipped("targets")]


def target_names() -> list[str]:
    """Return the names that `load_target` finds."""
    found = [path.parent.name for folder in _target_folders() for path in sorted(folder.glob("*/target.toml"))]
    return list(dict.fromkeys(found))


def _find(name: str, folders: Sequence[Path], toml: Path) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"target file {toml}: {name!r} is neither in its folder nor in {folders[-1]}")


def load_target(name: str) -> Target:
    """Load a core by name: from targets/NAME/ in a folder of TAPC_PATH, or among the shipped ones.

    Its source files and linker template are looked for in its own folder, then in the shipped targets/common.

    Raises
    ------
    UsageError
        No such target; lists the known names.
    DataError
        Its target.toml is unreadable or breaks the schema, or names a file that does not exist.
    """
    if name not in target_names():
        raise UsageError(f"unknown target {name!r}; known: {', '.join(target_names())}")
    toml = next(path for folder in _target_folders() if (path := folder / name / "target.toml").is_file())
    content = read_schema(toml, TargetFile, "target")
    if content.name != name:
        raise DataError(f"target file {toml}: its name is {content.name!r}, but its folder is {name!r}")
    folders = (toml.parent, shipped("targets") / "common")
    return Target(
        name=content.name,
        arch=content.arch,
        features=frozenset(content.features),
        requantize=content.requantize,
        compiler=content.compiler,
        cflags=content.cflags,
        optimization=content.optimization,
        small=content.small,
        sources=tuple(_find(source, folders, toml) for source in content.sources),
        linker=_find(content.linker, folders, toml),
        cost=toml.parent / "cost.toml",
        qemu=content.qemu,
        counter=_find(content.counter, folders, toml),
        dcache=content.dcache or 0,
        dual_issue=content.dual_issue,
    )
