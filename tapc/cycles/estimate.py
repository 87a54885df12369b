"""Cycles of an image's blocks by the model of its core."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapc.cycles import armv6m, cortex_m4, mca
from tapc.cycles.blocks import INSTALL, OBJDUMP, Block, disassemble, executed_blocks
from tapc.kernels.builder import is_part

TABLES = {"cortex-m0plus": armv6m.block_cycles, "cortex-m4": cortex_m4.block_cycles}
RARE = 1e-4


@dataclass(frozen=True, eq=False)
class Estimate:
    """Blocks that ran and their cycles.

    Attributes
    ----------
    core : str
    blocks : tuple of Block
    cycles : tuple of float
        Of all executions of each block, without waiting for memory.
    """

    core: str
    blocks: tuple[Block, ...]
    cycles: tuple[float, ...]

    def per_instruction(self, function: str) -> float:
        """Return the cycles per instruction of a kernel's functions, 1 where they did not run."""
        own = [(c, b.total) for c, b in zip(self.cycles, self.blocks, strict=True) if is_part(b.function, function)]
        instructions = sum(n for _, n in own)
        return sum(c for c, _ in own) / instructions if instructions else 1.0


def available(core: str) -> bool:
    """Whether cycles of a core can be estimated on this machine."""
    return shutil.which(OBJDUMP) is not None and (core in TABLES or mca.available(core))


def source(core: str) -> str:
    """Return where a core's cycles come from, or why there are none, for a report."""
    if shutil.which(OBJDUMP) is None:
        return f"none without {OBJDUMP} ({INSTALL})"
    if not available(core):
        return mca.missing(core)
    return "the core manual's table" if core in TABLES else f"llvm-mca {mca.version()}'s model of {core}"


def estimate(elf: Path, counts: NDArray[np.uint64], core: str, rare: float = RARE) -> Estimate:
    """Estimate the cycles of what ran.

    Parameters
    ----------
    elf : Path
        The image that ran.
    counts : ndarray of uint64, shape (n, 3)
        As in `DeviceRun.blocks`.
    core : str
    rare : float
        Blocks with a smaller share of the instructions count one cycle an instruction.

    Raises
    ------
    ToolError
        objdump or, for a core without a table, an llvm-mca with a model of it is missing.
    """
    blocks = executed_blocks(disassemble(elf), counts)
    if core in TABLES:
        return Estimate(core, tuple(blocks), tuple(TABLES[core](block) for block in blocks))
    threshold = rare * sum(block.total for block in blocks)
    hot = [block for block in blocks if block.total >= threshold]
    known = dict(zip(map(id, hot), mca.block_cycles(core, hot), strict=True))
    return Estimate(core, tuple(blocks), tuple(known.get(id(block), float(block.total)) for block in blocks))
