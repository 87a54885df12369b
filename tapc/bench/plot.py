"""The kernel benchmark as a picture."""

from collections.abc import Sequence
from pathlib import Path

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
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "tapc"
    from matplotlib import pyplot

    layers = [layer for layer in LAYERS if layer.kind == "conv" and any(f.layer == layer.name for f in figures)]
    widths = sorted({f.w_bits for f in figures}, reverse=True)
    figure, axes = pyplot.subplots(figsize=(10, 5), constrained_layout=True)
    slot = 0.8 / len(widths)
    for n, bits in enumerate(widths):
        values = {f.layer: f.per_operation for f in figures if f.w_bits == bits}
        places = [i - 0.4 + slot * (n + 0.5) for i in range(len(layers))]
        axes.bar(places, [values.get(layer.name, 0.0) for layer in layers], slot * 0.9, color=_COLOURS[bits],
                 label=f"{bits}-bit weights")  # fmt: skip
        for place, layer in zip(places, layers, strict=True):
            if bits in layer.peers:
                axes.hlines(layer.peers[bits][1], place - slot / 2, place + slot / 2, colors="black")
    axes.hlines([], 0, 0, colors="black", label="best published kernel at these bits")
    axes.set_xticks(range(len(layers)), [layer.name for layer in layers], rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("instructions per MAC, whole call")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.text(0.01, -0.03, SOURCE, fontsize=6)
    part = path.with_name(f".{path.name}.part")
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(part, format=path.suffix.lstrip(".") or "png", metadata=metadata, bbox_inches="tight")
    pyplot.close(figure)
    part.replace(path)
