"""Cycles of basic blocks by llvm-mca's model of a core's in-order pipeline."""

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Sequence

from tapc.base.errors import ToolError
from tapc.base.tool import locked, newest, run
from tapc.cycles.blocks import Block, Instruction, is_branch

MCA = "llvm-mca"
INSTALL = "apt-get install llvm-19"
FIRST = {"cortex-m7": 14, "cortex-m55": 16}  # core -> first version with a model of it
ITERATIONS = 100
_IT = re.compile(r"^it[te]{0,3}$")
_CONDITION = re.compile(r"^([a-z0-9]+?)(eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)((?:\.[a-z0-9]+)*)$")
_UNSUPPORTED = re.compile(r"note: instruction:\s*(.+)")
_PARSE = re.compile(r"^(?:<stdin>|[^:\n]*):(\d+):\d+: error:", re.MULTILINE)


def version() -> int:
    """Return the major version of the newest llvm-mca on PATH, 0 where there is none."""
    name = newest(MCA)
    return _version(shutil.which(name) or name) if name else 0


@functools.cache
def _version(path: str) -> int:
    text = run([path, "--version"]).stdout
    found = re.search(r"LLVM version (\d+)", text)
    return int(found[1]) if found else 0


def available(core: str) -> bool:
    """Whether llvm-mca is installed in a version that has a model of the core."""
    return core in FIRST and version() >= FIRST[core]


def missing(core: str) -> str:
    """Say what a core's cycles need, and what installs it."""
    return f"none without {MCA} {FIRST[core]} or newer ({INSTALL})" if core in FIRST else f"none: no model of {core}"


def _assembly(block: Block) -> list[str]:
    """Return lines that LLVM's assembler takes; IT blocks become plain code, which takes the same slots."""
    lines, conditional = [], 0
    for i in block.instructions:
        mnemonic = i.mnemonic
        if _IT.match(mnemonic):
            conditional = len(mnemonic) - 1
            lines.append("nop")
            continue
        if conditional:
            conditional -= 1
            if (match := _CONDITION.match(mnemonic)) and not is_branch(mnemonic):
                mnemonic = match[1] + match[3]
        lines.append(_line(i, mnemonic))
    return lines


def _line(i: Instruction, mnemonic: str) -> str:
    operands = re.sub(r"[0-9a-f]+ <[^>]*>", ".Ltarget", i.operands)
    # LLVM 14 takes no width on loads and stores with write-back or negative offsets.
    return f"{re.sub(r'[.][nw]$', '', mnemonic)} {operands}".strip()


def _run(core: str, lines: Sequence[str]) -> subprocess.CompletedProcess[str]:
    features = "+mve.fp" if core == "cortex-m55" else "+vfp4,+fp-armv8d16sp,+dsp"
    tool = shutil.which(newest(MCA) or MCA) or MCA
    arguments = [tool, "-mtriple=thumbv8.1m.main-none-eabihf", f"-mattr={features}", f"-mcpu={core}",
                 "--json", f"-iterations={ITERATIONS}"]  # fmt: skip
    return run(locked(arguments), text="\n".join(lines) + "\n")


def _replaced(lines: list[str], stderr: str) -> list[str] | None:
    """Return the lines with `nop` for what llvm-mca refused; None where it did not say."""
    bad = {int(line) - 1 for line in _PARSE.findall(stderr)}
    names = {text.split()[0].split(".")[0] for text in _UNSUPPORTED.findall(stderr)}
    bad |= {n for n, line in enumerate(lines) if line.split()[0].split(".")[0] in names}
    return ["nop" if n in bad else line for n, line in enumerate(lines)] if bad else None


def _steady(core: str, blocks: Sequence[Block]) -> list[float]:
    """Return the cycles of one execution of each block."""
    lines: list[str] = []
    for n, block in enumerate(blocks):
        lines += [f"# LLVM-MCA-BEGIN b{n}", *_assembly(block), "# LLVM-MCA-END"]
    # llvm-mca leaves out a line that it cannot parse, and succeeds.
    while (done := _run(core, lines)).returncode != 0 or _PARSE.search(done.stderr):
        fewer = _replaced(lines, done.stderr)
        if fewer is not None and fewer != lines:
            lines = fewer
        elif len(blocks) == 1:  # llvm-mca 14 crashes on some sequences
            return [float(len(blocks[0].instructions))]
        else:
            half = len(blocks) // 2
            return [*_steady(core, blocks[:half]), *_steady(core, blocks[half:])]
    regions = json.loads(done.stdout)["CodeRegions"]
    assert len(regions) == len(blocks)
    return [region["SummaryView"]["TotalCycles"] / ITERATIONS for region in regions]


def block_cycles(core: str, blocks: Sequence[Block]) -> list[float]:
    """Return the cycles of all executions of each block.

    A block is issued again and again without draining the pipeline, as in a loop: its cycles are those of the steady
    state. An instruction without a model, or a block that llvm-mca cannot take, counts one cycle an instruction.

    Parameters
    ----------
    core : str
        As llvm-mca names it, such as "cortex-m7".
    blocks : sequence of Block

    Raises
    ------
    ToolError
        llvm-mca is missing.
    """
    if not available(core):
        raise ToolError(f"cycles of {core} cannot be estimated: {missing(core)}")
    once = _steady(core, blocks) if blocks else []
    return [c * block.executions for c, block in zip(once, blocks, strict=True)]
