"""The C library of a network on an NPU: its commands, its constants, its arena, and a driver of a page."""

from pathlib import Path

from tapc.base.templates import text_environment
from tapc.hardware.npu import Npu
from tapc.npu.optimized import Optimized
from tapc.npu.vela import VERSION

TEMPLATES = Path(__file__).parent / "templates"


def files_of(optimized: Optimized, npu: Npu, name: str, prefix: str) -> dict[str, str]:
    """Return the files of the library by name.

    Parameters
    ----------
    optimized : Optimized
    npu : Npu
        A U55.
    name, prefix : str
        Of the network, and what its names begin with.
    """
    environment = text_environment(TEMPLATES)
    macs = int(npu.accelerator.rpartition("-")[2])
    facts = {
        "name": name, "prefix": prefix, "upper": prefix.upper(), "accelerator": npu.accelerator, "version": VERSION,
        "arena": optimized.size, "inputs": optimized.inputs, "outputs": optimized.outputs, "base": npu.base,
        "macs": macs.bit_length() - 1, "stream": optimized.payload.tolist(), "skip": optimized.skip,
        "commands": 4 * len(optimized.words), "constants": optimized.constants.tolist() or [0],
    }  # fmt: skip
    return {f"{prefix}_npu.{suffix}": environment.get_template(f"npu.{suffix}.j2").render(facts) for suffix in "hc"}
