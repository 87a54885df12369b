"""The kernel benchmark as a picture."""

from collections.abc import Sequence
from pathlib import Path

from tapc.base.errors import UsageError
from tapc.base.picture import save_picture, start_drawing
from tapc.bench import LAYERS, SOURCE, KernelFigure

_COLOURS = {8: "#30638e", 4: "#edae49", 2: "#d1495b"}


def plot_kernels(figures: Sequence[KernelFigure], title: str, path: Path) -> None:
    """Draw instructions per MAC beside the best published kernel's, as SVG, PNG or PDF.

    Additions are left out: they have no MACs.

    Parameters
    ----------
    figures : sequence of KernelFigure
    title : str
    path : Path
        Written beside its place and renamed.

    Raises
    ------
    UsageError
        There are only additions.
    OutputError
        The file cannot be written.
    """
    layers = [layer for layer in LAYERS if layer.kind == "conv" and any(f.layer == layer.name for f in figures)]
    if not layers:
        raise UsageError("nothing to draw: the chosen layers have no MACs; choose a convolution with --layer")
    measured = [f for f in figures if any(layer.name == f.layer for layer in layers)]
    widths = sorted({f.w_bits for f in measured}, reverse=True)
    figure, axes = start_drawing().subplots(figsize=(10, 5.5), constrained_layout=True)
    slot = 0.8 / len(widths)
    for n, bits in enumerate(widths):
        values = {f.layer: f.per_operation for f in measured if f.w_bits == bits}
        places = [i - 0.4 + slot * (n + 0.5) for i in range(len(layers))]
        axes.bar(places, [values.get(layer.name, 0.0) for layer in layers], slot * 0.9, color=_COLOURS[bits],
                 label=f"{bits}-bit weights")  # fmt: skip
        for place, layer in zip(places, layers, strict=True):
            peer = next((f.peer for f in measured if f.layer == layer.name and f.w_bits == bits), None)
            if peer is not None:
                axes.hlines(peer.per_operation, place - slot / 2, place + slot / 2, colors="black")
    compared = any(f.peer is not None for f in measured)
    if compared:
        axes.hlines([], 0, 0, colors="black", label="best published kernel at these bits")
        figure.supxlabel(SOURCE, fontsize=6, wrap=True)
    axes.set_xticks(range(len(layers)), [layer.name for layer in layers], rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("instructions per MAC, whole call")
    figure.suptitle(title)
    axes.spines[["top", "right"]].set_visible(False)
    # Above the axes: within them it would cover the bars or marks of some choice of layers.
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(widths) + compared)
    save_picture(figure, path)
