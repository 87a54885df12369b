"""The pictures of a search's report, as data URIs."""

import base64
import io
from typing import Any

from tapc.base.picture import start_drawing
from tapc.search.controllers import OPERATORS
from tapc.search.report.summary import Line, Summary

_COLOURS = {"initialization": "#30638e", "mutation": "#edae49", "crossover": "#d1495b"}


def fitness_picture(summary: Summary) -> str:
    """Draw every candidate's fitness, best so far and median, and the fittest built-in."""
    figure, axes = start_axes()
    for line in summary.candidates:
        if line.phi is not None:
            axes.plot(line.generation, line.phi, "o", color=_COLOURS.get(line.operator, "gray"), alpha=0.5, ms=5)
    rows = summary.best_and_median
    axes.plot([g for g, _, _ in rows], [b for _, b, _ in rows], color="black", label="best so far")
    axes.plot([g for g, _, _ in rows], [m for _, _, m in rows], color="black", ls=":", label="median")
    for operator in OPERATORS:
        axes.plot([], [], "o", color=_COLOURS[operator], alpha=0.5, label=operator)
    if summary.rival is not None:
        name, fitness = summary.rival
        axes.axhline(fitness["phi"], color="#00798c", ls="--", label=f"best built-in: {name}")
    axes.set_xlabel("generation")
    axes.set_ylabel("fitness")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=10, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return as_uri(figure)


def probabilities_picture(summary: Summary) -> str:
    """Draw the probability of each operator in each generation, stacked."""
    figure, axes = start_axes()
    bottom = [0.0] * len(summary.probabilities)
    places = range(len(summary.probabilities))
    for operator in OPERATORS:
        values = [p[operator] for p in summary.probabilities]
        axes.bar(places, values, bottom=bottom, color=_COLOURS[operator], label=operator)
        bottom = [b + v for b, v in zip(bottom, values, strict=True)]
    axes.set_xlabel("generation")
    axes.set_ylabel("probability")
    axes.set_xticks(list(places))
    axes.legend(frameon=False, fontsize=10, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return as_uri(figure)


def broken_picture(summary: Summary) -> str:
    """Draw the share of candidates that did not execute, per ten."""
    figure, axes = start_axes()
    shares = summary.broken_shares
    axes.bar([label for label, _, _ in shares], [100 * share for _, share, _ in shares], color="#d1495b")
    axes.set_ylim(0, 100)
    axes.set_xlabel("candidates")
    axes.set_ylabel("not executable, %")
    return as_uri(figure)


def tokens_picture(summary: Summary) -> str:
    """Draw the tokens used, cumulated over the candidates."""
    figure, axes = start_axes()
    for name, colour in (("prompt_tokens", "#30638e"), ("completion_tokens", "#edae49")):
        total, values = 0, []
        for line in summary.candidates:
            total += line.usage.get(name, 0)
            values.append(total)
        axes.plot(range(1, len(values) + 1), values, color=colour, label=name.replace("_", " "))
    axes.set_xlabel("candidates")
    axes.set_ylabel("tokens")
    axes.legend(frameon=False, fontsize=10)
    return as_uri(figure)


def lineage_picture(lines: list[Line]) -> str:
    """Draw the winner's ancestors by generation, with lines to their parents."""
    figure, axes = start_axes()
    places: dict[str, tuple[float, float]] = {}
    for generation in sorted({line.generation for line in lines}):
        members = [line for line in lines if line.generation == generation]
        for i, line in enumerate(members):
            places[line.key] = (generation, i - (len(members) - 1) / 2)
    for line in lines:
        for parent in line.parents:
            if parent in places:
                xs, ys = zip(places[parent], places[line.key], strict=True)
                axes.plot(xs, ys, color="gray", lw=1, zorder=1)
    for line in lines:
        x, y = places[line.key]
        axes.plot(x, y, "o", ms=30, color=_COLOURS.get(line.operator, "gray"), zorder=2)
        label = line.key if line.phi is None else f"{line.key}\n{line.phi:.3f}"
        axes.text(x, y, label, ha="center", va="center", fontsize=7, color="white", zorder=3)
    axes.set_xlabel("generation")
    axes.set_yticks([])
    axes.margins(0.15, 0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return as_uri(figure)


def start_axes(height: float = 3.4) -> tuple[Any, Any]:
    """Return a figure of some inches and its axes, without a frame above and to the right."""
    figure, axes = start_drawing().subplots(figsize=(6.4, height), constrained_layout=True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def as_uri(figure: Any) -> str:
    """Return a figure as a PNG for a page, and close it."""
    from matplotlib import pyplot

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    pyplot.close(figure)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
