"""Cycles of Armv7E-M instructions on a Cortex-M4 with zero wait states.

Sources: Arm, Cortex-M4 Technical Reference Manual r0p1 (100166), table 3-1 "Processor instruction set summary", section
"Load/store timings" and the FPU's instruction set table. llvm-mca's model of this core issues LDRD, LDM and PUSH in one
cycle and hides every load, so it is not used.
"""

import re

from tapc.cycles.blocks import Block, Instruction, registers

REFILL = 2  # cycles to refill the pipeline after a jump, which the manual gives as 1 to 3
DIVIDE = 7  # SDIV and UDIV take 2 to 12, depending on the operands

_CONDITION = r"(?:eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"
_LOAD = re.compile(rf"^ldr(b|h|sb|sh)?t?{_CONDITION}(\.[nw])?$")
_STORE = re.compile(rf"^str(b|h)?t?{_CONDITION}(\.[nw])?$")
_MULTIPLE = re.compile(rf"^v?((ldm|stm)(ia|db|fd|ea)?|push|pop){_CONDITION}(\.\w+)?$")
_IMMEDIATE = re.compile(r"\[\w+\]$|#")
_FIXED = {"ldrd": 3, "strd": 3, "tbb": 2, "tbh": 2, "sdiv": DIVIDE, "udiv": DIVIDE, "vdiv": 14, "vsqrt": 14}
_FIXED |= dict.fromkeys(("vmla", "vmls", "vnmla", "vnmls", "vfma", "vfms", "vfnma", "vfnms"), 3)


def _stem(mnemonic: str) -> str:
    name = mnemonic.split(".")[0]
    return name if name in _FIXED else re.sub(rf"{_CONDITION}$", "", name)


def _pipelined(i: Instruction, before: Instruction | None) -> bool:
    """Whether the address phase of a load or store overlaps the data phase of a load before it."""
    if before is None or not _LOAD.match(before.mnemonic):
        return False
    loaded, address = before.operands.split(",")[0], i.operands[i.operands.find("[") :]
    return re.search(rf"\b{loaded}\b", address) is None


def cycles(i: Instruction, before: Instruction | None = None) -> int:
    """Return the cycles of an instruction, without those that a jump adds.

    Parameters
    ----------
    i : Instruction
    before : Instruction or None
        What is executed before it.
    """
    name, stem = i.mnemonic, _stem(i.mnemonic)
    if _STORE.match(name) and _IMMEDIATE.search(i.operands):
        return 1  # the data goes out while the next instruction is executed
    if _LOAD.match(name) or _STORE.match(name):
        return 1 if _pipelined(i, before) else 2
    if _MULTIPLE.match(name):
        return 1 + registers(i.operands) * (2 if re.search(r"\{d\d", i.operands) else 1)
    if stem in ("vldr", "vstr"):
        return 3 if i.operands.startswith("d") else 2
    if stem == "vmov" and i.operands.count(",") > 1:
        return 2  # two core registers
    return _FIXED.get(stem, 1)


def block_cycles(block: Block) -> float:
    """Return the cycles of all executions of a block."""
    before = (None, *block.instructions)
    once = sum(cycles(i, b) for i, b in zip(block.instructions, before, strict=False))
    return float(once * block.executions + REFILL * block.taken)
