"""What a build was made of, as text and as a picture."""

from pathlib import Path
from typing import Any

from tapc.base.files import reading
from tapc.base.picture import check_picture
from tapc.flow.rerun import open_build, part
from tapc.lower.names import names_in
from tapc.lower.patches import summaries


def describe(folder: Path, stage: str) -> str:
    """Return a stage of a build as text: integer program, arena plan, kernel steps, or generated C."""
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
    with reading(f"build {folder}"):
        lines += _algorithms(build.report)
    return "\n".join(lines)


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
