"""Executed basic blocks of an image, with their disassembly."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import ToolError
from tapc.base.tool import locked, run

_MOST_SECONDS = 300
OBJDUMP = "arm-none-eabi-objdump"
INSTALL = "apt-get install binutils-arm-none-eabi"
_FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*?)\s*$")
_BRANCH = re.compile(
    r"^(b|bl|blx|bx|cbz|cbnz|le|wls|dls|tbb|tbh|b(eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al))(\.[nw])?$"
)
_ALWAYS = re.compile(r"^(b|bal|bl|blx|bx|tbb|tbh)(\.[nw])?$")
_WRITES_PC = re.compile(r"^((pop|ldm\w*)(\.w)?\s.*\bpc\b.*\}|(ldr(\.w)?|mov|add)\s+pc,)")


@dataclass(frozen=True)
class Instruction:
    """One instruction as objdump prints it.

    Attributes
    ----------
    address : int
    mnemonic, operands : str
        Without comments; a branch's target is its address in hexadecimal.
    """

    address: int
    mnemonic: str
    operands: str

    @property
    def jumps(self) -> bool:
        """Whether it always goes elsewhere than to the next instruction: branches, calls, returns."""
        return bool(_ALWAYS.match(self.mnemonic) or _WRITES_PC.match(f"{self.mnemonic} {self.operands}"))

    @property
    def target(self) -> int | None:
        """Address that a direct branch goes to."""
        if not is_branch(self.mnemonic):
            return None
        found = re.search(r"(?:^|,\s*)([0-9a-f]+) <", self.operands)
        return int(found[1], 16) if found else None


@dataclass(frozen=True)
class Block:
    """Instructions that are always executed together.

    Attributes
    ----------
    function : str
    instructions : tuple of Instruction
    executions : int
    taken : int
        How often the block ended with a jump (branch, call or return) rather than by falling through. A conditional
        branch before an instruction that others jump to as well may have been taken more often.
    """

    function: str
    instructions: tuple[Instruction, ...]
    executions: int
    taken: int

    @property
    def total(self) -> int:
        """Executed instructions."""
        return len(self.instructions) * self.executions


def is_branch(mnemonic: str) -> bool:
    """Whether a mnemonic may change the flow directly."""
    return _BRANCH.match(mnemonic) is not None


def registers(operands: str) -> int:
    """Count the registers of a list in braces, as of LDM, PUSH or VPUSH; double ones count once."""
    listed = operands[operands.index("{") + 1 : operands.index("}")]
    count = 0
    for part in listed.split(","):
        ends = [int(number) for number in re.findall(r"[rsd](\d+)", part)]
        count += ends[1] - ends[0] + 1 if len(ends) == 2 else 1
    return count


def disassemble(elf: Path) -> dict[str, list[Instruction]]:
    """Return each function's instructions in order of address.

    Raises
    ------
    ToolError
        objdump is missing or fails.
    """
    # The newest architecture: Helium's instructions would be printed as a coprocessor's otherwise.
    tool = shutil.which(OBJDUMP)
    if tool is None:
        raise ToolError(f"{OBJDUMP} is missing: {INSTALL}")
    command = [tool, "-d", "--no-show-raw-insn", "-m", "armv8.1-m.main", str(elf.absolute())]
    done = run(locked(command, readable=[elf], limits={"RLIMIT_CPU": _MOST_SECONDS}))
    if done.returncode != 0:
        raise ToolError(f"{OBJDUMP} failed: {done.stderr.strip()}")
    functions: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in done.stdout.splitlines():
        if match := _FUNCTION.match(line):
            current = functions.setdefault(match[2], [])
        elif match := _INSTRUCTION.match(line):
            mnemonic, _, operands = re.split(r"\s*[@;]", match[2])[0].partition("\t")
            current.append(Instruction(int(match[1], 16), mnemonic.strip() or "undefined", operands.strip()))
    return functions


def executed_blocks(functions: dict[str, list[Instruction]], counts: NDArray[np.uint64]) -> list[Block]:
    """Split what ran into basic blocks.

    Parameters
    ----------
    functions : dict
        As from `disassemble`.
    counts : ndarray of uint64, shape (n, 3)
        Address, instructions and executions of translated blocks, as from `DeviceRun.blocks`. They may overlap.

    Returns
    -------
    list of Block
        The sum of their executed instructions equals that of `counts` as far as the functions reach.
    """
    order = sorted((i for body in functions.values() for i in body), key=lambda i: i.address)
    place = {instruction.address: n for n, instruction in enumerate(order)}
    runs = np.zeros(len(order) + 1, np.int64)
    for address, length, executions in counts.tolist():
        first = place.get(int(address) & ~1)
        if first is not None:
            runs[first] += int(executions)
            runs[min(first + int(length), len(order))] -= int(executions)
    executed = np.cumsum(runs)
    targets = {i.target for i in order}
    blocks = []
    for name, body in functions.items():
        begin = 0
        for n, instruction in enumerate(body):
            count = int(executed[place[instruction.address]])
            after = body[n + 1] if n + 1 < len(body) else None
            branches = instruction.jumps or is_branch(instruction.mnemonic)
            ends = after is None or branches or after.address in targets
            following = 0 if after is None else int(executed[place[after.address]])
            if ends or following != count:
                if count:
                    through = 0 if instruction.jumps else min(following, count)
                    taken = count - through if branches else 0
                    blocks.append(Block(name, tuple(body[begin : n + 1]), count, taken))
                begin = n + 1
    return blocks
