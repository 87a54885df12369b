"""The page of a build: its report, and what the board measured since, as HTML that needs nothing but itself."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from tapc.base.files import write_whole
from tapc.base.output import PAGE
from tapc.base.terminal import visible
from tapc.report.schema import LayerReport, Quantity, Report
from tapc.report.stack import stack_line
from tapc.report.states import states_line
from tapc.report.streaming import stream_lines
from tapc.report.table import NO_SILICON, accuracy_lines, inputs_line, training_lines
from tapc.report.timing import BoardTimes

_WIDTH, _HEIGHT = 1000.0, 320.0
"""Of the picture of the arena, in its own units."""
_LETTER, _LEAST_HEIGHT, _LEAST_WIDTH = 7.0, 14.0, 40.0
_TICKS = 16
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Part:
    """Bytes of one kind in a memory, and their share in percent."""

    kind: str
    bytes: int
    percent: float


@dataclass(frozen=True)
class Box:
    """A tensor in the picture of the arena: its corner, size, what it is, and as much of its name as fits."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    scratch: bool
    title: str
    label: str


@dataclass(frozen=True)
class Row:
    """A layer, with the figures that are worked out from its report and from what the board measured.

    Attributes
    ----------
    layer : LayerReport
    apart : float or None
        Percent that the prediction is above the exact instructions.
    cycles : int or None
    milliseconds : float or None
    share : float
        Percent of the network: of its cycles where measured, else of its instructions.
    """

    layer: LayerReport
    apart: float | None
    cycles: int | None
    milliseconds: float | None
    share: float


def write_page(folder: Path, report: Report, times: BoardTimes | None = None, note: str = "") -> Path:
    """Write report.html into a build's folder and return its path.

    Parameters
    ----------
    folder : Path
    report : Report
    times : BoardTimes, optional
        Measured since; by default what the report itself has.
    note : str
        Why there are none.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    return write_whole(folder / PAGE, page(report, times, note))


def page(report: Report, times: BoardTimes | None = None, note: str = "") -> str:
    """Return the page as text; see `write_page`."""
    rows = layer_rows(report, times)
    memory = report.memory
    return _template().render(
        r=report,
        times=times,
        timing=times.timing if times is not None else report.timing,
        spread=times if times is not None else report.timing,
        note=note,
        no_silicon=NO_SILICON,
        rows=rows,
        has_cycles=any(row.cycles is not None for row in rows),
        has_regions=len({layer.region for layer in report.layers if layer.region}) > 1,
        of_what="cycles" if all(row.cycles is not None for row in rows) else "instructions",
        regions=[(region, region_parts(region.parts, region.size)) for region in memory.regions],
        quantities=_quantities(report),
        stack=stack_line(memory.run_stack),
        boxes=arena_boxes(report),
        states=states_line(report.states, "PREFIX_reset"),
        stream=[] if report.stream is None else stream_lines(report.stream),
        ticks=_ticks(report),
        arena_bytes=_arena_bytes(report),
        width=_WIDTH,
        height=_HEIGHT,
        sensitivity=_sensitivity(report),
        accuracy=accuracy_lines(report.accuracy),
        inputs=inputs_line(report),
        training=[] if report.training is None else training_lines(report.training),
        classes=_classes(report),
    )


@functools.cache  # reading it takes longer than filling it in
def _template() -> jinja2.Template:
    # Names and labels come from strangers: everything is escaped, and control characters are shown.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tapc.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {"count": count, "bytes": size, "number": number}
    return environment.get_template("page.html.j2")


def count(value: float | None) -> str:
    """Return a whole number, or a dash."""
    return "-" if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Return bytes as text: those of large memories in KiB and MiB as well."""
    if value is None:
        return "-"
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= factor:
            return f"{value:,.0f} B ({value / factor:,.1f} {unit})"
    return f"{value:,.0f} B"


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with so many decimals, or a dash."""
    return "-" if value is None else f"{value:,.{digits}f}"


def percent(part: float, whole: float) -> float:
    """Return a share from 0 to 100 for a bar, whatever the figures are."""
    share = 100 * part / whole if whole else 0.0
    return min(max(share, 0.0), 100.0) if math.isfinite(share) else 0.0


def layer_rows(report: Report, times: BoardTimes | None) -> list[Row]:
    """Put what is predicted, exact and measured of each layer side by side."""
    measured = {} if times is None else {layer.name: layer.cycles for layer in times.layers}
    hz = times.timing.hz if times is not None else report.timing.hz if report.timing is not None else None
    cycles = [measured.get(layer.name, layer.cycles if times is None else None) for layer in report.layers]
    exact = [layer.predicted_instructions if layer.instructions is None else layer.instructions
             for layer in report.layers]  # fmt: skip
    weights = [own for own in cycles if own is not None]
    shares = weights if len(weights) == len(cycles) else exact
    return [
        Row(
            layer=layer,
            apart=100 * (layer.predicted_instructions / layer.instructions - 1) if layer.instructions else None,
            cycles=own,
            milliseconds=None if own is None or hz is None else 1e3 * own / hz,
            share=percent(share, sum(shares)),
        )
        for layer, own, share in zip(report.layers, cycles, shares, strict=True)
    ]


def region_parts(parts: dict[str, int], whole: int) -> list[Part]:
    """Return what is in a memory, and what is free."""
    used = [*parts.items(), ("free", max(whole - sum(parts.values()), 0))]
    return [Part(kind, own, percent(own, whole)) for kind, own in used]


def arena_boxes(report: Report) -> list[Box]:
    """Place every tensor: steps from left to right, addresses from below."""
    tensors, whole = report.memory.tensors, max(_arena_bytes(report), 1)
    wide = _WIDTH / _steps(report)
    boxes = []
    for index, tensor in enumerate(sorted(tensors, key=lambda t: (t.first, t.offset))):
        width, height = (tensor.last - tensor.first + 1) * wide, _HEIGHT * tensor.bytes / whole
        fits = width >= _LEAST_WIDTH and height >= _LEAST_HEIGHT
        steps = f"step {tensor.first}" if tensor.first == tensor.last else f"steps {tensor.first} to {tensor.last}"
        boxes.append(
            Box(
                x=tensor.first * wide,
                y=_HEIGHT - _HEIGHT * (tensor.offset + tensor.bytes) / whole,
                width=width,
                height=height,
                colour=index % 6,
                scratch=tensor.name.startswith("scratch"),
                title=f"{tensor.name}: {tensor.bytes:,} B from {tensor.offset:,}, {steps}",
                label=_shortened(tensor.name, int(width / _LETTER)) if fits else "",
            )
        )
    return boxes


def _shortened(name: str, most: int) -> str:
    shown = visible(name)
    return shown if len(shown) <= most else shown[: max(most - 1, 0)] + "…"


def _steps(report: Report) -> int:
    return max((tensor.last + 1 for tensor in report.memory.tensors), default=1)


def _ticks(report: Report) -> list[tuple[int, float]]:
    steps = _steps(report)
    return [(step, (step + 0.5) * _WIDTH / steps) for step in range(0, steps, -(-steps // _TICKS))]


def _arena_bytes(report: Report) -> int:
    ends = [tensor.offset + tensor.bytes for tensor in report.memory.tensors]
    return max((report.memory.arena.measured or 0, *ends))


def _quantities(report: Report) -> list[tuple[str, Quantity, float | None]]:
    memory = report.memory
    named = {
        "flash": memory.flash,
        **{f"of it in {name}": quantity for name, quantity in memory.external.items()},
        f"arena ({memory.arena_region})": memory.arena,
        "stack": memory.stack,
        "RAM (arena, stack, variables)": memory.ram,
    }
    return [
        (name, q, percent(q.measured, q.limit) if q.measured is not None and q.limit else None)
        for name, q in named.items()
    ]


def _sensitivity(report: Report) -> list[tuple[str, int | None, float, float]]:
    """Return layer, bits, sensitivity and the length of its bar."""
    bits = {layer.name: layer.w_bits for layer in report.layers}
    values = report.allocation.sensitivity
    most = max((value for value in values.values() if math.isfinite(value)), default=0.0)
    return [(name, bits.get(name), value, percent(value, most)) for name, value in values.items()]


def _classes(report: Report) -> list[dict[str, Any]]:
    """Return for each class its samples, how many of them were right, and what it is most often taken for."""
    rows = []
    for index, counted in enumerate((report.accuracy.confusion or ())[:_MOST_CLASSES]):
        others = [(taken, -other) for other, taken in enumerate(counted) if other != index and taken]
        right = counted[index] if index < len(counted) else 0
        taken, other = max(others, default=(0, 0))
        rows.append({
            "name": _label(report, index), "samples": sum(counted), "right": right,
            "share": percent(right, sum(counted)), "mistaken": f"{taken} x {_label(report, -other)}" if taken else "",
        })  # fmt: skip
    return rows


def _label(report: Report, index: int) -> str:
    labels = report.labels or ()
    return labels[index] if index < len(labels) else f"class {index}"
