"""A compilation as a picture: what each layer costs, and who lives where in the arena."""

from pathlib import Path
from typing import Any

from tapc.lower import Lowered
from tapc.picture import save_picture, start_drawing

_COLOURS = {2: "#d1495b", 4: "#edae49", 8: "#30638e", None: "#9aa5b1"}
_FAMILY = {"scratch": "#d9dee3"}


def plot_build(report: dict[str, Any], network: Lowered, path: Path) -> None:
    """Draw a build as SVG, PNG or PDF (by the file's suffix).

    Parameters
    ----------
    report : dict
        Content of report.json.
    network : Lowered
        The build's program, steps and arena plan.
    path : Path
        Output file; written beside its place and renamed.
    """
    figure, (upper, lower) = start_drawing().subplots(
        2, 1, figsize=(10, 7), height_ratios=(2, 3), constrained_layout=True
    )
    _costs(upper, report)
    _arena(lower, network)
    figure.suptitle(
        f"{report['model']} on {report['board']}: {report['average_weight_bits']:.2f} weight bits on average, "
        f"{report['memory']['flash']['measured']:,} B flash, {report['memory']['arena']['measured']:,} B arena"
    )
    save_picture(figure, path)


def _costs(axes: Any, report: dict[str, Any]) -> None:
    layers = report["layers"]
    measured = all(layer["instructions"] is not None for layer in layers)
    key = "instructions" if measured else "predicted_instructions"
    axes.bar(
        range(len(layers)),
        [layer[key] / 1e6 for layer in layers],
        color=[_COLOURS[layer["w_bits"]] for layer in layers],
    )
    axes.set_xticks(range(len(layers)), [layer["name"] for layer in layers], rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("million instructions" + ("" if measured else " (predicted)"))
    bits = [b for b in (8, 4, 2) if any(layer["w_bits"] == b for layer in layers)]
    handles = [axes.bar(0, 0, color=_COLOURS[b], label=f"{b}-bit weights") for b in bits]
    axes.legend(handles=handles, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _arena(axes: Any, network: Lowered) -> None:
    from matplotlib.patches import Rectangle

    plan, steps = network.plan, network.steps
    for index, buffer in enumerate(sorted(plan.buffers, key=lambda b: b.first)):
        scratch = buffer.name.startswith("scratch")
        colour = _FAMILY["scratch"] if scratch else f"C{index % 10}"
        corner = (buffer.first - 0.5, plan.offsets[buffer.name] / 1024)
        width, height = buffer.last - buffer.first + 1, buffer.size / 1024
        axes.add_patch(Rectangle(corner, width, height, facecolor=colour, edgecolor="white", alpha=0.75))
        if height > plan.size / 1024 / 30 and not scratch:
            label = network.program.tensors[buffer.name].name
            axes.text(corner[0] + width / 2, corner[1] + height / 2, label, ha="center", va="center", fontsize=7)
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.set_ylim(0, plan.size / 1024 * 1.05)
    axes.axhline(plan.size / 1024, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(steps)), [step.op.name for step in steps], rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("arena, KiB")
    axes.spines[["top", "right"]].set_visible(False)
