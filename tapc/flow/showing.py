"""What a build was made of, as text and as a picture."""

from pathlib import Path
from typing import Any

from tapc.base.errors import DataError
from tapc.base.files import read_regular, reading
from tapc.base.picture import check_picture
from tapc.flow.rerun import open_build, part
from tapc.flow.tflite import operators_of
from tapc.lower.names import names_in
from tapc.lower.patches import summaries
from tapc.report.states import state_reports, states_line

_MOST_FILE = 64 << 20


def describe(folder: Path, stage: str) -> str:
    """Return a stage of a build as text: integer program, arena plan, kernel steps, C, NPU commands, or operators."""
    if (own := _OF_FILES.get(stage)) is not None:
        return own(folder)
    build = open_build(folder)
    if stage == "c":
        kernels = names_in(folder / "lib").file("kernels.c")
        return part(folder, f"lib/{kernels}").read_text(encoding="utf-8", errors="replace")
    network = build.lowered()
    if stage == "integer":
        return str(network.program)
    if stage == "steps":
        lines = [f"{i:3} {s.op.name}: {s.spec}" for i, s in enumerate(network.steps)]
        return "\n".join(lines)
    plan = network.plan
    patches = [f"in patches: {own}" for own in summaries(network.program)]
    lines = [f"arena {plan.size} bytes", *patches, f"{'offset':>8} {'bytes':>8}  steps      buffer"]
    for b in sorted(plan.buffers, key=lambda b: (b.first, plan.offsets[b.name])):
        lines.append(f"{plan.offsets[b.name]:8} {b.size:8}  {b.first:3}..{b.last:<3}   {b.name}")
    if states := state_reports(network.program):
        lines.append(f"state: {states_line(states, network.names.symbol('reset'))}")
    with reading(f"build {folder}"):
        lines += _algorithms(build.report)
    return "\n".join(lines)


def _commands(folder: Path) -> str:
    """Return the commands of the NPUs that a build, or a folder of `tapc npu`, is for."""
    from tapc.flow.npu import FOLDER
    from tapc.flow.npu_divided import PARTS
    from tapc.npu.listing import lines
    from tapc.npu.optimized import read

    homes = [folder, *folder.glob(f"{FOLDER}/*")]
    # Where parts of the network are on the NPU, the file of the whole network is vela's, with other parts.
    own = [sorted(home.glob(f"{PARTS}/*_vela.tflite")) or sorted(home.glob("*_vela.tflite")) for home in homes]
    files = sorted(path for paths in own for path in paths)
    if not files:
        raise DataError(f"{folder} holds nothing for an NPU; make it with `tapc npu {folder} --board BOARD`")
    found = []
    for path in files:
        with reading(f"network {path}"):
            optimized = read(read_regular(path, _MOST_FILE, "network"))
        places = [
            *(("input", place) for place in optimized.inputs),
            *(("output", place) for place in optimized.outputs),
        ]
        ends = [f"{kind} {own.name}: byte {own.offset} of the arena, {own.bytes} bytes" for kind, own in places]
        found += [str(path), *ends, *lines(optimized.words.tolist()), ""]
    return "\n".join(found[:-1])


_OF_FILES = {"npu": _commands, "tflite": operators_of}
"""Stages that lie in a folder as files."""


def _algorithms(report: dict[str, Any]) -> list[str]:
    """Return by which algorithm each layer is computed, and what others would have cost; the one it has is marked."""
    rows = [(layer["name"], way) for layer in report["layers"] for way in layer.get("alternatives", ())]
    if not rows:
        return []
    wide = max(len(name) for name, _ in rows)
    lines = ["", "predicted: the algorithm of each layer (*) and the others that it could have", ""]
    lines.append(f"{'layer':{wide}}   algorithm  instructions      cycles  constants     code  scratch")
    for name, way in rows:
        cycles = "" if way["cycles"] is None else f"{way['cycles']:,}"
        sizes = f"{way['constant_bytes']:>9,} {way['code_bytes']:>8,} {way['scratch_bytes']:>8,}"
        mark = "*" if way["taken"] else " "
        lines.append(f"{name:{wide}} {mark} {way['algorithm']:9}  {way['instructions']:12,} {cycles:>11}  {sizes}")
    return lines


def draw(folder: Path, output: Path) -> Path:
    """Draw a build and return the picture's path.

    Raises
    ------
    UsageError
        The suffix is none of .svg, .png, .pdf.
    OutputError
        The file cannot be written.
    """
    from tapc.report.plot import plot_build

    build = open_build(folder)
    check_picture(output)
    network = build.lowered()
    with reading(f"build {folder}"):
        plot_build(build.report, network, output)
    return output
