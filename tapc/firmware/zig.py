"""Zig's C compiler (PyPI: ziglang) in the place of gcc: clang and lld, and no C library."""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from elftools.elf.elffile import ELFFile

from tapc.base.cache import cache_folder
from tapc.base.errors import ToolError
from tapc.base.tool import run
from tapc.firmware.images import flashed, flat, intel_hex
from tapc.firmware.toolchain import Gcc, fail

INSTALL = "pip install ziglang"
_FREESTANDING = Path(__file__).resolve().parent / "freestanding"
# What gcc alone takes: its passes, how it names the core, its libraries.
_OWN_TO_GCC = (
    "-mcpu=", "-mthumb", "-mfpu=", "-mfloat-abi=", "-fno-schedule-insns", "-fno-tree-", "-frename-registers",
    "-fno-gcse", "-fno-move-loop-invariants", "-fira-", "-lm", "-Wl,--build-id", "-Wl,--strip-debug",
)  # fmt: skip
_PATTERNS = "-fno-tree-loop-distribute-patterns"
_NO_PATTERNS = ("-fno-builtin-memset", "-fno-builtin-memcpy", "-fno-builtin-memmove")
_ALWAYS = ("-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-fno-sanitize=undefined")
_UNITS = {"fpv4-sp-d16": "+vfp4d16sp", "fpv5-sp-d16": "+fp_armv8d16sp", "fpv5-d16": "+fp_armv8d16"}
_HELIUM = "+fp_armv8d16+fullfp16+mve_fp"
_CORES = ("m0", "m0plus", "m3", "m4", "m7", "m33", "m55")


def translated(flags: Sequence[str]) -> list[str]:
    """Return what Zig is told where gcc is told `flags`.

    Raises
    ------
    ToolError
        They are for no core that it is known to build for.
    """
    given = {name: value for name, separator, value in (flag.partition("=") for flag in flags) if separator}
    core = given.get("-mcpu", given.get("-march", "nothing"))
    if core.removeprefix("cortex-") not in _CORES:
        raise ToolError(f"the toolchain zig builds for Cortex-{', '.join(map(str.upper, _CORES))}, not for {core}")
    hard = given.get("-mfloat-abi") == "hard"
    unit = _UNITS.get(given.get("-mfpu", ""), _HELIUM if hard else "")
    told = ["-target", f"thumb-freestanding-eabi{'hf' if hard else ''}", f"-mcpu={core.replace('-', '_')}{unit}"]
    patterns = _NO_PATTERNS if _PATTERNS in flags else ()
    return [*told, *_ALWAYS, *patterns, *(flag for flag in flags if not flag.startswith(_OWN_TO_GCC))]


@dataclass(frozen=True)
class Zig(Gcc):
    """Builds without anything that a package index does not have."""

    frames: ClassVar[tuple[str, ...]] = ("-fstack-size-section",)

    def driver(self, arguments: Sequence[str], folder: Path) -> None:
        """Compile or link."""
        linking = "-T" in arguments
        more = ["-Wl,-e,Reset_Handler"] if linking else ["-isystem", str(_FREESTANDING)]
        command = [str(_program()), "cc", *translated(arguments), *more]
        done = run(command, folder=folder, environment=_environment(folder))
        if done.returncode != 0:
            fail("zig cc", done.stderr, folder)

    def binary(self, elf: Path, path: Path, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> None:
        """Write the bytes that are flashed."""
        path.write_bytes(flat(flashed(elf, only=only, without=without)))

    def hexadecimal(self, elf: Path, path: Path) -> None:
        """Write Intel HEX."""
        with elf.open("rb") as stream:
            entry = int(ELFFile(stream)["e_entry"])
        path.write_text(intel_hex(flashed(elf), entry), encoding="ascii", newline="")

    def version(self) -> str:
        """Return its name and version."""
        return f"zig cc {run([str(_program()), 'version']).stdout.strip()}"


def _program() -> Path:
    found = importlib.util.find_spec("ziglang")
    if found is None or not found.submodule_search_locations:
        raise ToolError(f"the toolchain zig is not installed; install it with: {INSTALL}")
    return Path(found.submodule_search_locations[0]) / ("zig.exe" if os.name == "nt" else "zig")


def _environment(folder: Path) -> dict[str, str]:
    """Return where it keeps its own parts once they are built."""
    cache = cache_folder() / "zig"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache = folder / "zig-cache"
    if not os.access(cache, os.W_OK):
        cache = folder / "zig-cache"
    return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
