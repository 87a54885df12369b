"""The cross compiler: compile, link, convert; its failures become tapc's errors."""

import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

from tapc.base.errors import BudgetError, ToolError
from tapc.base.tool import run

PREFIX = "arm-none-eabi-"
INSTALL = {
    PREFIX: "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "riscv64-unknown-elf-": "apt-get install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
}
"""What the compilers' commands begin with, and how those of Debian are installed."""
WORKERS = 2

# As GNU ld and as LLVM's linker write it.
_OVERFLOW = re.compile(r"region [`'](?P<region>\w+)':? overflowed by (?P<bytes>\d+) bytes?")
_NO_LIBRARY = re.compile(r"fatal error: (?:string|math|stdint)\.h|cannot find -l[cgm]\b|cannot read spec file")


class RegionOverflowError(BudgetError):
    """An image does not fit one of the board's memory regions.

    Attributes
    ----------
    region : str
        Name of the region in the board file.
    overflow : int
        Bytes that do not fit.
    """

    def __init__(self, message: str, region: str, overflow: int) -> None:
        super().__init__(message)
        self.region = region
        self.overflow = overflow


@dataclass(frozen=True)
class Unit:
    """One C file to compile: `name` is its object's file name, without the suffix."""

    name: str
    source: Path
    flags: tuple[str, ...] = ()


def _remedy(prefix: str) -> str:
    return f"install it with: {INSTALL[prefix]}" if prefix in INSTALL else "put it on PATH"


def find_tool(name: str, prefix: str = PREFIX) -> str:
    """Return the path of a tool of a cross compiler ("gcc", "objcopy").

    Raises
    ------
    ToolError
        It is not installed; names the command that installs it.
    """
    path = shutil.which(prefix + name)
    if path is None:
        raise ToolError(f"{prefix}{name} is not installed; {_remedy(prefix)}")
    return path


def run_tool(name: str, arguments: Sequence[str], folder: Path, prefix: str = PREFIX) -> None:
    """Run a tool of a cross compiler in `folder`.

    Raises
    ------
    RegionOverflowError
        The linker says that a region overflowed.
    ToolError
        The tool, or the C library that it needs, is missing, or the tool failed.
    """
    done = run([find_tool(name, prefix), *arguments], folder=folder, environment={**os.environ, "LC_ALL": "C"})
    if done.returncode == 0:
        return
    if _NO_LIBRARY.search(done.stderr):
        raise ToolError(f"the C library for {prefix}gcc is not installed; {_remedy(prefix)}")
    fail(f"{prefix}{name}", done.stderr, folder)


def fail(name: str, words: str, folder: Path) -> NoReturn:
    """Raise what a compiler's or a linker's errors mean.

    Raises
    ------
    RegionOverflowError
        A region overflowed.
    ToolError
        Anything else.
    """
    if found := _OVERFLOW.findall(words):
        region = found[0][0]
        count = max(int(each) for name, each in found if name == region)  # one linker tells each section's
        raise RegionOverflowError(f"region {region} overflowed by {count} bytes", region, count)
    lines = words.strip().splitlines()
    errors = [line for line in lines if "error" in line.lower() or "undefined reference" in line] or lines
    raise ToolError("\n".join([f"{name} failed in {folder}:", *errors[:12]]))


@dataclass(frozen=True)
class Gcc:
    """A cross compiler, and what makes images of what it links.

    Attributes
    ----------
    prefix : str
        What the names of its commands begin with.
    frames : tuple of str
        What makes it report the stack that functions take, see `tapc.firmware.stack`; no code changes by it.
    """

    prefix: str = PREFIX
    frames: ClassVar[tuple[str, ...]] = ("-fstack-usage",)

    def driver(self, arguments: Sequence[str], folder: Path) -> None:
        """Compile or link, in a folder; errors are those of `run_tool`."""
        run_tool("gcc", arguments, folder, self.prefix)

    def binary(self, elf: Path, path: Path, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> None:
        """Write the bytes that are flashed: of some sections only, or without some."""
        chosen = [f"--only-section={name}" for name in only] + [f"--remove-section={name}" for name in without]
        run_tool("objcopy", ["-O", "binary", *chosen, str(elf), str(path)], path.parent, self.prefix)

    def hexadecimal(self, elf: Path, path: Path) -> None:
        """Write Intel HEX."""
        run_tool("objcopy", ["-O", "ihex", str(elf), str(path)], path.parent, self.prefix)

    def version(self) -> str:
        """Return its name and version."""
        return compiler_version(self.prefix)


GCC = Gcc()


def compile_units(units: Sequence[Unit], flags: Sequence[str], work: Path, tools: Gcc = GCC) -> dict[str, Path]:
    """Compile C files into `work`, two at a time; returns the objects' paths by unit name.

    Each file is compiled from its own folder by its bare name, so that no path gets into an object.
    """

    def compile_one(unit: Unit) -> Path:
        target = work / f"{unit.name}.o"
        arguments = [*flags, *unit.flags, "-c", unit.source.name, "-o", str(target)]
        tools.driver(arguments, unit.source.parent)
        return target

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip((unit.name for unit in units), pool.map(compile_one, units), strict=True))


def compiler_version(prefix: str = PREFIX) -> str:
    """Return the first line that a cross compiler prints about itself.

    Raises
    ------
    ToolError
        It is not installed.
    """
    return run([find_tool("gcc", prefix), "--version"]).stdout.splitlines()[0]
