"""Assembles snippets for the tests of cycles."""

import subprocess
from pathlib import Path

from tapc.cycles.blocks import Block, Instruction, disassemble

FLAGS = {
    "cortex-m0plus": ("-mcpu=cortex-m0plus",),
    "cortex-m4": ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    "cortex-m7": ("-mcpu=cortex-m7", "-mfpu=fpv5-d16", "-mfloat-abi=hard"),
}


def assemble(text: str, core: str, folder: Path) -> tuple[Instruction, ...]:
    """Assemble a function; lines are separated by semicolons or newlines."""
    source, output = folder / "snippet.s", folder / "snippet.o"
    head = ".syntax unified\n.thumb\n.thumb_func\n.global f\n.type f,%function\nf:\n"
    source.write_text(head + text.replace(";", "\n") + "\n.size f,.-f\n")
    command = ["arm-none-eabi-gcc", *FLAGS[core], "-mthumb", "-c", str(source), "-o", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    return tuple(disassemble(output)["f"])


def block(text: str, core: str, folder: Path, executions: int = 1, taken: int = 0) -> Block:
    return Block("f", assemble(text, core, folder), executions, taken)
