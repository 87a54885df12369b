"""Cycles of Armv6-M instructions on a Cortex-M0+ with zero wait states.

Source: Arm, Cortex-M0+ Technical Reference Manual r0p1 (DDI 0484C), table 3-1 "Cortex-M0+ instruction summary". Loads
and stores are to memory, not to the single-cycle I/O port. MULS takes one cycle where the implementation chose the fast
multiplier, as the RP2040 did.
"""

import re

from tapc.cycles.blocks import Block, Instruction, registers

_LOADS = re.compile(r"^(ldr|str)(b|h|sb|sh)?(\.[nw])?$")
_MULTIPLE = re.compile(r"^(ldm|stm)(ia|db|fd)?(\.[nw])?$")


def cycles(instruction: Instruction) -> int:
    """Return the cycles of an instruction, of a branch when it is not taken."""
    name, operands = instruction.mnemonic, instruction.operands
    base = name.split(".")[0]
    if _LOADS.match(name):
        return 2
    if _MULTIPLE.match(name):
        return 1 + registers(operands)
    if base in ("push", "pop"):
        return 1 + registers(operands) + (2 if "pc" in operands else 0)
    if base == "bl":
        return 3
    if base in ("bx", "blx", "wfe", "wfi") or (base in ("mov", "add") and operands.startswith("pc,")):
        return 2
    if base in ("mrs", "msr", "dmb", "dsb", "isb"):
        return 3
    return 1


def block_cycles(block: Block) -> float:
    """Return the cycles of all executions of a block; a taken B takes one more than one that is not."""
    once = sum(cycles(i) for i in block.instructions)
    last = block.instructions[-1].mnemonic.split(".")[0]
    conditional = last.startswith("b") and last not in ("bl", "bx", "blx", "bic", "bics", "bkpt")
    return float(once * block.executions + (block.taken if conditional else 0))
