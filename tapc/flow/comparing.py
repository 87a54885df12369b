"""Two builds side by side."""

from dataclasses import dataclass
from pathlib import Path

from tapc.base.errors import UsageError
from tapc.base.files import reading
from tapc.flow.pages import report_of, times_of
from tapc.flow.rerun import part
from tapc.report import LayerReport, Report
from tapc.report.schema import Quantity
from tapc.report.timing import BoardTimes

_UNLIKE = 2


@dataclass(frozen=True)
class Figure:
    """A figure of both builds, None where a build has none, and how much the second is above the first in percent."""

    name: str
    first: float | None
    second: float | None
    change: float | None


@dataclass(frozen=True)
class LayerOf:
    """A layer of one build: bits of its weights and input, and instructions, exact where they were counted."""

    w_bits: int | None
    a_bits: int | None
    instructions: int
    exact: bool


@dataclass(frozen=True)
class LayerPair:
    """A layer that differs, None where a build has none of that name; `change` of its instructions is in percent."""

    name: str
    first: LayerOf | None
    second: LayerOf | None
    change: float | None


@dataclass(frozen=True)
class Comparison:
    """Two builds.

    Attributes
    ----------
    builds : tuple of str
        Their folders.
    networks, boards : tuple of str
    figures : tuple of Figure
    layers : tuple of LayerPair
        Those whose bits or instructions differ.
    same : int
        Layers that do not differ.
    notes : tuple of str
        What makes figures less comparable than they look.
    """

    builds: tuple[str, str]
    networks: tuple[str, str]
    boards: tuple[str, str]
    figures: tuple[Figure, ...]
    layers: tuple[LayerPair, ...]
    same: int
    notes: tuple[str, ...]


def compare_builds(first: Path, second: Path) -> Comparison:
    """Put two builds side by side.

    Raises
    ------
    DataError
        A folder holds no finished build.
    UsageError
        Both are the same folder.
    """
    if first.exists() and second.exists() and first.samefile(second):
        raise UsageError(f"{first} and {second} are the same build: name two")
    folders = first, second
    reports = report_of(first), report_of(second)
    with reading(f"builds {first} and {second}"):
        return _compared(folders, reports)


def _compared(folders: tuple[Path, Path], reports: tuple[Report, Report]) -> Comparison:
    found = [times_of(folder, part(folder, "firmware.bin")) for folder in folders]
    columns = [_figures(report, times) for report, (times, _) in zip(reports, found, strict=True)]
    names = dict.fromkeys([*columns[0], *columns[1]])
    figures = [_figure(name, columns[0].get(name), columns[1].get(name)) for name in names]
    layers = [_layers(report) for report in reports]
    pairs = [_pair(name, layers[0].get(name), layers[1].get(name)) for name in {**layers[0], **layers[1]}]
    unlike = tuple(pair for pair in pairs if pair.first != pair.second)
    return Comparison(
        builds=(str(folders[0]), str(folders[1])),
        networks=(reports[0].model, reports[1].model),
        boards=(reports[0].board, reports[1].board),
        figures=tuple(figure for figure in figures if (figure.first, figure.second) != (None, None)),
        layers=unlike,
        same=len(pairs) - len(unlike),
        notes=_notes(folders, reports, [note for _, note in found]),
    )


def _figure(name: str, first: float | None, second: float | None) -> Figure:
    return Figure(name, first, second, _change(first, second))


def _pair(name: str, first: LayerOf | None, second: LayerOf | None) -> LayerPair:
    counts = [None if own is None else own.instructions for own in (first, second)]
    return LayerPair(name, first, second, _change(*counts))


def _change(first: float | None, second: float | None) -> float | None:
    # A damaged report's number of any length fails here, and not where it is shown.
    a, b = (None if value is None else float(value) for value in (first, second))
    return 100 * (b / a - 1) if a and b is not None else None


def _bytes(quantity: Quantity) -> int:
    return quantity.predicted if quantity.measured is None else quantity.measured


def _figures(report: Report, times: BoardTimes | None) -> dict[str, float | None]:
    """Return what is compared, by name, in the order in which it is shown."""
    measured = report.timing if times is None else times
    accuracy = report.accuracy
    return {
        "flash, bytes": _bytes(report.memory.flash),
        "RAM, bytes": _bytes(report.memory.ram),
        "arena, bytes": _bytes(report.memory.arena),
        "instructions": report.instructions,
        "instructions (predicted)": report.predicted_instructions,
        "cycles (estimated)": report.cycles_estimated,
        "milliseconds (predicted)": None if report.predicted_time is None else report.predicted_time.milliseconds,
        "cycles (measured)": None if measured is None else measured.median,
        "milliseconds (measured)": None if measured is None else measured.milliseconds,
        "MACs": report.macs,
        "BOPs": report.bops,
        "weight bits, average": report.average_weight_bits,
        "right on the device, %": accuracy.device,
        "right in float, %": accuracy.float32,
        **{
            f"{name} on the device": value
            for name, value in accuracy.scores.get("device", {}).items()
            if accuracy.device is None
        },
        "SQNR against float, dB": accuracy.sqnr_db,
    }


def _layers(report: Report) -> dict[str, LayerOf]:
    return {layer.name: _layer(layer) for layer in report.layers}


def _layer(layer: LayerReport) -> LayerOf:
    counted = layer.instructions
    instructions = layer.predicted_instructions if counted is None else counted
    return LayerOf(layer.w_bits, layer.a_bits, instructions, counted is not None)


def _notes(folders: tuple[Path, Path], reports: tuple[Report, Report], measured: list[str]) -> tuple[str, ...]:
    notes = [f"{folder}: {note}" for folder, note in zip(folders, measured, strict=True) if note]
    for what in ("model", "board", "core"):
        values = [str(getattr(report, what)) for report in reports]
        if len(set(values)) == _UNLIKE:
            notes.append(f"the builds are of different {what}s: {values[0]} and {values[1]}")
    if len({(report.accuracy.samples, report.data) for report in reports}) == _UNLIKE:
        notes.append("accuracy was measured on different samples")
    if len({report.instructions is None for report in reports}) == _UNLIKE:
        notes.append("instructions of one build are predicted (--no-simulate), those of the other exact")
    if len({report.tapc for report in reports}) == _UNLIKE:
        notes.append(f"made by different versions of tapc: {reports[0].tapc} and {reports[1].tapc}")
    return tuple(notes)
