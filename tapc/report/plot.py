"""A compilation as a picture: what each layer costs, and who lives where in the arena."""

from pathlib import Path
from typing import Any

from tapc.base.picture import save_picture, start_drawing
from tapc.base.terminal import visible
from tapc.lower import Lowered

_COLOURS = {2: "#d1495b", 4: "#edae49", 8: "#30638e", None: "#9aa5b1"}
_SCRATCH = "#d9dee3"
_TENSORS = [f"C{i}" for i in range(10) if i != 7]  # grey is scratch


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
        2, 1, figsize=(10, 7), height_ratios=(2, 3), constrained_layout=True, sharex=True
    )
    _costs(upper, report, network)
    _arena(lower, network)
    name, board = visible(str(report["model"])), visible(str(report["board"]))
    memory = report["memory"]
    figure.suptitle(
        f"{name} on {board}: {report['average_weight_bits']:.2f} weight bits on average, "
        f"{memory['flash']['measured']:,} B flash, {memory['arena']['measured']:,} B arena"
    )
    save_picture(figure, path)


def _costs(axes: Any, report: dict[str, Any], network: Lowered) -> None:
    """Draw a bar per layer above the steps that compute it."""
    layers = report["layers"]
    measured = all(layer["instructions"] is not None for layer in layers)
    key = "instructions" if measured else "predicted_instructions"
    spans = [[i for i, step in enumerate(network.steps) if step.op.name == layer["name"]] for layer in layers]
    axes.bar(
        [(span[0] + span[-1]) / 2 for span in spans],
        [layer[key] / 1e6 for layer in layers],
        [span[-1] - span[0] + 0.8 for span in spans],
        color=[_COLOURS[layer["w_bits"]] for layer in layers],
    )
    axes.tick_params(bottom=False, labelbottom=False)
    axes.set_ylabel("million instructions" + ("" if measured else " (predicted)"))
    widths = [bits for bits in (8, 4, 2, None) if any(layer["w_bits"] == bits for layer in layers)]
    handles = [
        axes.bar(0, 0, color=_COLOURS[bits], label="no weights" if bits is None else f"{bits}-bit weights")
        for bits in widths
    ]
    axes.legend(handles=handles, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _arena(axes: Any, network: Lowered) -> None:
    from matplotlib.patches import Rectangle

    plan, steps = network.plan, network.steps
    for index, buffer in enumerate(sorted(plan.buffers, key=lambda b: b.first)):
        own = not buffer.name.startswith("scratch")
        colour = _TENSORS[index % len(_TENSORS)] if own else _SCRATCH
        corner = (buffer.first - 0.5, plan.offsets[buffer.name] / 1024)
        width, height = buffer.last - buffer.first + 1, buffer.size / 1024
        axes.add_patch(Rectangle(corner, width, height, facecolor=colour, edgecolor="white", alpha=0.75))
        if height > plan.size / 1024 / 30 and own:
            label = visible(network.program.tensors[buffer.name].name)
            axes.text(corner[0] + width / 2, corner[1] + height / 2, label, ha="center", va="center", fontsize=7)
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.set_ylim(0, plan.size / 1024 * 1.05)
    size = axes.axhline(plan.size / 1024, color="black", linewidth=0.8, linestyle="--", label="size of the arena")
    tensor = Rectangle((0, 0), 1, 1, facecolor="C0", edgecolor="white", alpha=0.75, label="tensor, while it is needed")
    scratch = Rectangle((0, 0), 1, 1, facecolor=_SCRATCH, edgecolor="white", alpha=0.75, label="scratch of a kernel")
    axes.legend(
        handles=[tensor, scratch, size], frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8
    )
    names = [visible(step.op.name) for step in steps]
    axes.set_xticks(range(len(steps)), names, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("arena, KiB")
    axes.spines[["top", "right"]].set_visible(False)
