"""What a build was made of, as text and as a picture."""

from pathlib import Path

from tapc.base.files import reading
from tapc.base.picture import check_picture
from tapc.flow.rerun import open_build, part
from tapc.lower.names import names_in


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
    lines = [f"arena {plan.size} bytes", f"{'offset':>8} {'bytes':>8}  steps      buffer"]
    for b in sorted(plan.buffers, key=lambda b: (b.first, plan.offsets[b.name])):
        lines.append(f"{plan.offsets[b.name]:8} {b.size:8}  {b.first:3}..{b.last:<3}   {b.name}")
    return "\n".join(lines)


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
