"""A whole image with a network on an NPU: driver, commands and constants linked, run in Unicorn."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.base.errors import MismatchError
from tapc.base.files import scratch_folder
from tapc.device import DeviceRun
from tapc.device.verify import Verification, device_inputs, verify
from tapc.firmware.toolchain import PREFIX, run_tool
from tapc.hardware.npu import Npu
from tapc.lower import Lowered
from tapc.lower.interface import OPTIMIZATION
from tapc.npu.library import TEMPLATES
from tapc.npu.machine import Image, Read, run_image
from tapc.npu.optimized import Optimized

_BASE = 0x48102000
"""Where the image's NPU is, on a board that does not say."""
_FLAGS = ("-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=soft", "-O2", "-std=c11")
_CHECKED = ("-Wall", "-Wextra", "-Werror", "-ffreestanding")


def missing() -> str:
    """Return what is not there to build and run an image; empty where nothing lacks."""
    if shutil.which(f"{PREFIX}gcc") is None:
        return f"{PREFIX}gcc"
    return "" if importlib.util.find_spec("unicorn") is not None else "unicorn (pip install 'tapc[emulate]')"


def run_whole(
    library: Path,
    optimized: Optimized,
    npu: Npu,
    prefix: str,
    samples: dict[str, NDArray[np.int8]],
    expected: NDArray[np.int8],
) -> int:
    """Link an image and run samples in it.

    Parameters
    ----------
    library : Path
        Folder of the C library.
    optimized : Optimized
    npu : Npu
    prefix : str
    samples : dict of str to ndarray of int8, shape (N, bytes)
        Input -> codes.
    expected : ndarray of int8, shape (N, bytes)
        Outputs, in the order of `optimized.outputs`.

    Returns
    -------
    int
        Registers that the driver writes for an inference.

    Raises
    ------
    MismatchError
        The image gives other outputs.
    """
    base = _base(npu)
    with scratch_folder() as folder:
        sources = [library / f"{prefix}_npu.c"]
        image = _linked(folder, prefix, base, sources, (*_FLAGS, *_CHECKED), ("-nostdlib",))
    arena, writes = image.symbols[f"{prefix}_npu_arena"], 0
    for number in range(len(expected)):
        inputs = {
            place.offset: samples[place.name][number].tobytes() for place in optimized.inputs if place.offset >= 0
        }
        outputs = [(place.offset, place.bytes) for place in optimized.outputs]
        found, writes = run_image(image, npu, base, arena, inputs, outputs)
        if b"".join(found) != expected[number].tobytes():
            raise MismatchError(f"sample {number}: the whole image gives other outputs than the reference executor")
    return writes


def run_divided(library: Path, lowered: Lowered, npu: Npu, codes: Ints) -> tuple[Verification, int]:
    """Link an image of a network of which the NPU computes parts, and run samples in it.

    Parameters
    ----------
    library : Path
        Folder of the C library.
    lowered : Lowered
        What it was made of.
    npu : Npu
    codes : ndarray of int64, shape (N, H, W, C)
        Of the input; rows (N, values) of several.

    Returns
    -------
    Verification
        Every step and output against the reference executor.
    int
        Registers that the driver writes for an inference.
    """
    base, names, plan, tensors = _base(npu), lowered.names, lowered.plan, lowered.program.tensors
    with scratch_folder() as folder:
        sources = [library / names.file(part) for part in (".c", "kernels.c", "weights.c", "npu.c")]
        flags = (*_FLAGS, *OPTIMIZATION, f"-D{names.macro('MARKS')}")
        image = _linked(folder, names.prefix, base, sources, flags, ("-nostartfiles", "-lm", "-lc", "-lgcc"))
    arena, given, writes = image.symbols[names.symbol("arena")], device_inputs(lowered, codes), 0
    sizes = [tensors[name].bytes for name in lowered.program.inputs]
    results, steps = list[bytes](), list[tuple[bytes, ...]]()
    for row in given:
        parts = np.split(row, np.cumsum(sizes)[:-1])
        inputs = {plan.offsets[name]: part.tobytes() for name, part in zip(lowered.program.inputs, parts, strict=True)}
        outputs = [(plan.offsets[name], tensors[name].bytes) for name in lowered.program.outputs]
        marks: list[bytes] = []

        def mark(read: Read, marks: list[bytes] = marks) -> None:
            if marks:
                step = lowered.steps[len(marks) - 1]
                marks.append(read(arena + plan.offsets[step.output], tensors[step.output].bytes))
            else:  # before the first step
                marks.append(b"")

        found, writes = run_image(image, npu, base, arena, inputs, outputs, mark)
        results.append(b"".join(found))
        steps.append(tuple(marks[1:]))
    rows = np.stack([np.frombuffer(result, np.int8) for result in results])
    run = DeviceRun(library, rows, tuple(steps), (), None, 0, np.zeros((0, 3), np.uint64), device="unicorn")
    return verify(lowered, run, codes), writes


def _base(npu: Npu) -> int:
    return _BASE if npu.base is None else npu.base


def _linked(
    folder: Path, prefix: str, base: int, sources: list[Path], flags: tuple[str, ...], libraries: tuple[str, ...]
) -> Image:
    elf = folder / "image.elf"
    files = [*(str(source.absolute()) for source in sources), str(TEMPLATES / "image.c")]
    defines = [f"-DNETWORK_RUN={prefix}_npu_run", f"-D{prefix.upper()}_NPU_BASE=0x{base:08X}u"]
    run_tool("gcc", [*flags, *defines, *files, "-T", str(TEMPLATES / "image.ld"), *libraries, "-o", str(elf)], folder)
    return _read(elf)


def _read(path: Path) -> Image:
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        segments = {int(s["p_paddr"]): s.data() for s in elf.iter_segments("PT_LOAD") if s["p_filesz"]}
        tables = (section for section in elf.iter_sections() if isinstance(section, SymbolTableSection))
        symbols = {symbol.name: int(symbol["st_value"]) for table in tables for symbol in table.iter_symbols()}
    return Image(segments, symbols)
