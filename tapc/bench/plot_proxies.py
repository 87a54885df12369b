"""The proxy benchmark as a picture."""

from collections.abc import Sequence
from pathlib import Path

from tapc.base.picture import save_picture, start_drawing
from tapc.bench.proxies import Interval, ProxyFigure

_FIGURES = (
    ("spearman", "Spearman, all sizes", "#30638e", "o"),
    ("within_size", "Spearman within quintiles of size", "#d1495b", "s"),
    ("top", "best tenth found", "#edae49", "D"),
)


def plot_proxies(figures: Sequence[ProxyFigure], path: Path) -> None:
    """Draw how well proxies predict, with 95 % intervals, a panel per network; SVG, PNG or PDF.

    Parameters
    ----------
    figures : sequence of ProxyFigure
        From `evaluate_proxies`; each network's are drawn from top to bottom.
    path : Path
        Written beside its place and renamed.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    networks = list(dict.fromkeys(figure.network for figure in figures))
    rows = max(sum(f.network == network for f in figures) for network in networks)
    picture, panels = start_drawing().subplots(
        1, len(networks), figsize=(1.5 + 4.5 * len(networks), 1.6 + 0.5 * rows), squeeze=False, constrained_layout=True
    )
    for axes, network in zip(panels[0], networks, strict=True):
        own = [figure for figure in figures if figure.network == network]
        for n, (attribute, label, colour, marker) in enumerate(_FIGURES):
            intervals: list[Interval] = [getattr(figure, attribute) for figure in own]
            values = [i.value for i in intervals]
            # A percentile interval need not hold the figure itself.
            spread = [[max(0.0, i.value - i.low) for i in intervals], [max(0.0, i.high - i.value) for i in intervals]]
            places = [row + 0.2 * (n - 1) for row in range(len(own))]
            axes.errorbar(values, places, xerr=spread, fmt=marker, color=colour, markersize=4, linewidth=1, label=label)
        axes.set_yticks(range(len(own)), [figure.proxy for figure in own])
        axes.set_ylim(len(own) - 0.5, -0.5)
        axes.axvline(0, color="grey", linewidth=0.6)
        axes.set_xlim(min(-0.1, axes.get_xlim()[0]), 1)
        axes.set_title(f"{network}, {own[0].configurations} configurations", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=len(_FIGURES), frameon=False, fontsize=8)
    save_picture(picture, path)
