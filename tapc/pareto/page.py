"""The pictures and the page of a Pareto front."""

import base64
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from tapc.base.output import MARKER
from tapc.base.picture import start_drawing
from tapc.data.metrics import axis_title
from tapc.pareto.run import Front, Point

_MIXED, _UNIFORM = "#30638e", "#d1495b"


def write_pages(front: Front, folder: Path) -> None:
    """Write report.json, pareto.png and pareto.html.

    Parameters
    ----------
    front : Front
    folder : Path
        Exists.
    """
    (folder / MARKER).write_text(json.dumps({"kind": "pareto", **asdict(front)}, indent=1) + "\n", encoding="utf-8")
    picture = _picture(front)
    (folder / "pareto.png").write_bytes(picture)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tapc.pareto", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    uri = "data:image/png;base64," + base64.b64encode(picture).decode()
    text = environment.get_template("pareto.html.j2").render(
        front=front, picture=uri, title=axis_title(front.points[0].accuracy.metric) if front.points else "accuracy"
    )
    (folder / "pareto.html").write_text(text, encoding="utf-8")


def _picture(front: Front) -> bytes:
    """Draw accuracy against flash, BOPs and instructions."""
    from matplotlib import pyplot

    figure, axes = start_drawing().subplots(1, 3, figsize=(12, 4), sharey=True, constrained_layout=True)
    views = (
        ("flash of the image, KiB", lambda p: None if p.flash is None else p.flash / 1024),
        ("GBOPs", lambda p: p.accuracy.bops / 1e9),
        ("million instructions", lambda p: None if p.instructions is None else p.instructions / 1e6),
    )
    for place, (label, value) in zip(axes, views, strict=True):
        _panel(place, front, value)
        place.set_xlabel(label)
        place.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(axis_title(front.points[0].accuracy.metric))
    axes[0].legend(frameon=False, fontsize=10, loc="lower right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    pyplot.close(figure)
    return stream.getvalue()


def _panel(axes: Any, front: Front, value: Any) -> None:
    for mixed, colour, label in ((True, _MIXED, "mixed bits"), (False, _UNIFORM, "one width")):
        chosen: list[Point] = [p for p in front.points if p.mixed is mixed and value(p) is not None]
        chosen.sort(key=value)
        xs, ys = [value(p) for p in chosen], [p.accuracy.score for p in chosen]
        deviations = [p.accuracy.score_sd for p in chosen]
        axes.errorbar(xs, ys, deviations, color=colour, marker="o", ms=5, lw=1, capsize=2, label=label)
        for x, y, point in zip(xs, ys, chosen, strict=True):
            axes.annotate(point.accuracy.setting, (x, y), xytext=(4, -9), textcoords="offset points", fontsize=8)
    if front.points:
        axes.axhline(front.points[0].accuracy.float_score, color="gray", ls="--", lw=1, label="float")
