"""A whole image with a network on an NPU: driver, commands and constants linked, run in Unicorn."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from numpy.typing import NDArray

from tapc.base.errors import MismatchError
from tapc.base.files import scratch_folder
from tapc.firmware.toolchain import PREFIX, run_tool
from tapc.hardware.npu import Npu
from tapc.npu.library import TEMPLATES
from tapc.npu.machine import Image, run_image
from tapc.npu.optimized import Optimized

_BASE = 0x48102000
"""Where the image's NPU is, on a board that does not say."""
_FLAGS = ("-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=soft", "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror",
          "-ffreestanding", "-nostdlib")  # fmt: skip


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
    base = _BASE if npu.base is None else npu.base
    with scratch_folder() as folder:
        elf = folder / "image.elf"
        sources = [str((library / f"{prefix}_npu.c").absolute()), str(TEMPLATES / "image.c")]
        defines = [f"-DNETWORK_RUN={prefix}_npu_run", f"-D{prefix.upper()}_NPU_BASE=0x{base:08X}u"]
        run_tool("gcc", [*_FLAGS, *defines, *sources, "-T", str(TEMPLATES / "image.ld"), "-o", str(elf)], folder)
        image = _read(elf)
    arena, writes = image.symbols[f"{prefix}_npu_arena"], 0
    for number in range(len(expected)):
        inputs = {
            place.offset: samples[place.name][number].tobytes() for place in optimized.inputs if place.offset >= 0
        }
        outputs = {place.offset: place.bytes for place in optimized.outputs}
        found, writes = run_image(image, npu, base, arena, inputs, outputs)
        if b"".join(found) != expected[number].tobytes():
            raise MismatchError(f"sample {number}: the whole image gives other outputs than the reference executor")
    return writes


def _read(path: Path) -> Image:
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        segments = {int(s["p_paddr"]): s.data() for s in elf.iter_segments("PT_LOAD") if s["p_filesz"]}
        tables = (section for section in elf.iter_sections() if isinstance(section, SymbolTableSection))
        symbols = {symbol.name: int(symbol["st_value"]) for table in tables for symbol in table.iter_symbols()}
    return Image(segments, symbols)
