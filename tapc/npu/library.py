"""The C library of a network on an NPU: its commands, its constants, its arena, and a driver of a page."""

from dataclasses import replace
from pathlib import Path

from tapc.base.templates import text_environment
from tapc.hardware.npu import Npu
from tapc.lower import Lowered
from tapc.lower.facts import Facts
from tapc.npu.optimized import Optimized
from tapc.npu.segment import SegmentSpec
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
    facts = {
        "arena": optimized.size, "inputs": optimized.inputs, "outputs": optimized.outputs,
        "stream": optimized.payload.tolist(), "skip": optimized.skip, "commands": 4 * len(optimized.words),
        "constants": optimized.constants.tolist() or [0],
    }  # fmt: skip
    return _rendered("npu", npu, name, prefix, facts)


def divided_files(lowered: Lowered, npu: Npu, facts: Facts) -> dict[str, str]:
    """Return the files of the library of a network of which the NPU computes parts: kernels of the CPU, and a driver.

    Parameters
    ----------
    lowered : Lowered
        Of the program that `tapc.npu.parts.divide` makes.
    npu : Npu
        A U55.
    facts : Facts
        What its files tell.
    """
    names, parts = lowered.names, []
    for spec, function in lowered.functions.items():
        if isinstance(spec, SegmentSpec):
            inputs = [(f"x{i}", *spec.inputs[i]) for i in copied_in(spec)]
            outputs = [(begin, *place) for begin, place in zip(spec.begins, spec.outputs, strict=True)]
            gaps = [at for (first, _, size), end in zip(outputs, spec.begins[1:], strict=False)
                    for at in range(first + size, end)]  # fmt: skip
            parts.append({"prototype": spec.kernel(function).prototype, "inputs": inputs, "outputs": outputs,
                          "gaps": gaps, "commands": spec.commands, "arena": spec.arena})  # fmt: skip
    driver = _rendered("hybrid", npu, lowered.program.name, names.prefix, {"parts": parts})
    remark = (
        f"**NPU.** Run the network with `{names.symbol('npu_run')}()` of `{names.file('npu.h')}`, which returns 0 or "
        f"what went wrong: {npu.accelerator} computes the steps `npu`. It works in the arena, and reads constants of "
        f"`{names.file('weights.c')}`: give both memories that it reaches, and compile with "
        f"`-D{names.macro('NPU_DCACHE')}=1` where the CPU caches the arena. One inference at a time. It asks for "
        "`memmove`, too."
    )
    more = replace(facts, sources=(names.file("npu.c"),), remarks=(remark,))
    return {**lowered.library(more).files, **driver}


def copied_in(spec: SegmentSpec) -> list[int]:
    """Return the inputs that a part's function copies, in order: what may lie in the scratch memory comes first."""
    order = sorted(range(len(spec.inputs)), key=lambda i: i != spec.first)
    return [i for i in order if spec.inputs[i][0] >= 0]


def _rendered(template: str, npu: Npu, name: str, prefix: str, facts: dict[str, object]) -> dict[str, str]:
    environment, macs = text_environment(TEMPLATES), int(npu.accelerator.rpartition("-")[2])
    facts = facts | {
        "name": name, "prefix": prefix, "upper": prefix.upper(), "accelerator": npu.accelerator, "version": VERSION,
        "base": npu.base, "macs": macs.bit_length() - 1,
    }  # fmt: skip
    files = ((suffix, environment.get_template(f"{template}.{suffix}.j2")) for suffix in "hc")
    return {f"{prefix}_npu.{suffix}": file.render(facts) for suffix, file in files}
