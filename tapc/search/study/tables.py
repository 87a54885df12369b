"""The tables of a study: those of the paper (arXiv 2512.07419, 7 to 12), with mean and deviation over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tapc.search.study.results import BROKEN, FITNESS, LATER, MARGIN, UNSEEN, Result
from tapc.search.study.schema import Cell, Planned

Rows = Mapping[tuple[str, ...], Sequence[Cell]]

_ALPHA, _POPULATION, _GENERATORS = "alpha", "population", ("llm", "replay", "record")
_FIGURES = (FITNESS, "rho", "accuracy", "cost", MARGIN, LATER, UNSEEN)
_SHARE = "%"
_EXPLAINED = (
    "fitness and its parts: docs/search.md; over built-ins: less the best built-in proxy's; later: mean of the "
    "candidates behind the initial generation; unseen: mean fitness on networks that had no say; not executable: share "
    "of the candidates. The last columns: less those of the first row, seed by seed."
)


@dataclass(frozen=True)
class Figure:
    """A figure over several searches.

    Attributes
    ----------
    values : tuple of float
        By seed; those that there are.
    mean : float or None
        None without values.
    deviation : float or None
        The sample's; None with less than two values.
    """

    values: tuple[float, ...]
    mean: float | None
    deviation: float | None


@dataclass(frozen=True)
class StudyTable:
    """A table.

    Attributes
    ----------
    number : int or None
        In the paper.
    title, note : str
    head : tuple of str
        Names of the columns that label the rows.
    columns : tuple of str
    rows : tuple
        Labels and figures.
    digits : int
        Behind the point.
    """

    number: int | None
    title: str
    head: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Figure, ...]], ...]
    note: str = ""
    digits: int = 4

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    def shown(self, figure: Figure) -> str:
        """Return a figure as text."""
        if figure.mean is None:
            return "-"
        if figure.deviation is None:
            return f"{figure.mean:.{self.digits}f}"
        return f"{figure.mean:.{self.digits}f} ± {figure.deviation:.{self.digits}f}"


def figure(values: Sequence[float]) -> Figure:
    """Return mean and sample deviation."""
    found = tuple(value for value in values if math.isfinite(value))
    mean = statistics.fmean(found) if found else None
    return Figure(found, mean, statistics.stdev(found) if len(found) > 1 else None)


def tables_of(planned: Sequence[Planned], results: Mapping[str, Result]) -> list[StudyTable]:
    """Return the tables of all grids; those of the paper where a grid has their axis, the number of candidates' always.

    Parameters
    ----------
    planned : sequence of Planned
    results : mapping of str to Result
        By the cells' keys.
    """
    tables = []
    for grid in planned:
        axes = list(grid.grid.axes)
        axes = [name.replace("-", "_") for name in axes]
        tables.append(_whole(grid, axes, results))
        for axis in axes:
            if axis in _GENERATORS:
                tables.append(_by_run(grid, axes, axis, results))
            elif axis in (_ALPHA, _POPULATION):
                number = 8 if axis == _ALPHA else 11
                title = "the weight of the rank correlation" if axis == _ALPHA else "the size of the population"
                tables.append(_by_value(grid, axes, axis, results, number, title))
        tables.append(_broken(grid, axes, results))
    return tables


def _values(cells: Sequence[Cell], results: Mapping[str, Result], name: str) -> list[float]:
    return [results[cell.key].figures[name] for cell in cells if name in results[cell.key].figures]


def _paired(cells: Sequence[Cell], others: Sequence[Cell], results: Mapping[str, Result], name: str) -> list[float]:
    """Return the differences of a figure seed by seed."""
    by_seed = {cell.seed: results[cell.key].figures.get(name) for cell in others}
    pairs = [(results[cell.key].figures.get(name), by_seed.get(cell.seed)) for cell in cells]
    return [a - b for a, b in pairs if a is not None and b is not None]


def _whole(grid: Planned, axes: Sequence[str], results: Mapping[str, Result]) -> StudyTable:
    rows = grid.rows
    everything = [results[cell.key].figures for cell in grid.cells]
    names = [name for name in _FIGURES if any(own.get(name) for own in everything)]
    names += sorted({name for own in everything for name in own} - {*_FIGURES, BROKEN})
    paired = [name for name in (FITNESS, UNSEEN) if name in names and len(rows) > 1]
    first = next(iter(rows.values()))
    shown = []
    for labels, cells in rows.items():
        own = [figure(_values(cells, results, name)) for name in names]
        own.append(figure([100 * value for value in _values(cells, results, BROKEN)]))
        own += [figure(_paired(cells, first, results, name)) for name in paired]
        shown.append((labels, tuple(own)))
    columns = (*names, f"{BROKEN}, {_SHARE}", *(f"{name} - first" for name in paired))
    title = f"{grid.grid.name}: {len(grid.seeds)} seeds"
    return StudyTable(None, title, tuple(axes), columns, tuple(shown), _EXPLAINED)


def _by_value(
    grid: Planned, axes: Sequence[str], axis: str, results: Mapping[str, Result], number: int, title: str
) -> StudyTable:
    """Return a table with a network per row and a value of the axis per column."""
    place = axes.index(axis)
    values = list(dict.fromkeys(labels[place] for labels in grid.rows))
    networks = dict.fromkeys(name for cell in grid.cells for name in results[cell.key].networks)
    others = list(dict.fromkeys(labels[:place] + labels[place + 1 :] for labels in grid.rows))
    shown = []
    for name in networks:
        for other in others:
            row = []
            for value in values:
                cells = grid.rows.get((*other[:place], value, *other[place:]), ())
                found = [results[cell.key].networks.get(name) for cell in cells]
                row.append(figure([100 * item for item in found if item is not None]))
            shown.append(((name, *other), tuple(row)))
    head = ("network", *(name for name in axes if name != axis))
    note = "Accuracy of the winner at its bits (docs/search.md), in %."
    columns = tuple(f"{axis}={value}" for value in values)
    return StudyTable(number, f"{grid.grid.name}: {title}", head, columns, tuple(shown), note, 2)


def _by_run(grid: Planned, axes: Sequence[str], axis: str, results: Mapping[str, Result]) -> StudyTable:
    """Return a table with who writes the proxies per row, and a seed per column."""
    shown = []
    for labels, cells in grid.rows.items():
        runs = {cell.seed: list(results[cell.key].networks.values()) for cell in cells}
        own = [figure([100 * statistics.fmean(runs[seed])] if runs.get(seed) else []) for seed in grid.seeds]
        shown.append((labels, (*own, figure([item.values[0] for item in own if item.values]))))
    columns = (*(f"Run {i + 1}" for i in range(len(grid.seeds))), "Average")
    note = "Accuracy of the winner at its bits, mean of the networks, in %; a run is a seed."
    return StudyTable(9, f"{grid.grid.name}: who writes the proxies", tuple(axes), columns, tuple(shown), note, 2)


def _broken(grid: Planned, axes: Sequence[str], results: Mapping[str, Result]) -> StudyTable:
    found = {name for cell in grid.cells for name in results[cell.key].broken}
    ranges = sorted(found, key=lambda name: tuple(map(int, name.split("-"))))
    shown = []
    for labels, cells in grid.rows.items():
        own = [[results[cell.key].broken.get(name) for cell in cells] for name in ranges]
        shown.append((labels, tuple(figure([100 * v for v in values if v is not None]) for values in own)))
    note = "Share of the candidates that did not execute, in %."
    title = f"{grid.grid.name}: programs that do not execute, by candidates"
    return StudyTable(12, title, tuple(axes), tuple(ranges), tuple(shown), note, 1)


def drawn_table(grid: Planned, values: Mapping[str, Sequence[float]], network: str) -> StudyTable:
    """Return the table of several draws of calibration samples.

    Parameters
    ----------
    grid : Planned
    values : mapping of str to sequence of float
        Cell's key -> the network's metric, 0 to 1, by draw.
    network : str
    """
    count = max(map(len, values.values()), default=0)
    shown = []
    for labels, cells in grid.rows.items():
        own = [values[cell.key] for cell in cells if cell.key in values]
        each = [figure([100 * draws[i] for draws in own if i < len(draws)]) for i in range(count)]
        # The spread of the draws is what the table is about: of each winner's own, without that between winners.
        spread = figure([100 * statistics.stdev(draws) for draws in own if len(draws) > 1])
        shown.append(((network, *labels), (*each, spread)))
    columns = (*(f"Sample {i + 1}" for i in range(count)), "deviation over samples")
    note = "Top-1 at the winner's bits with other calibration samples, in %."
    head = ("network", *(name.replace("-", "_") for name in grid.grid.axes))
    return StudyTable(10, f"{grid.grid.name}: draws of calibration samples", head, columns, tuple(shown), note, 2)


def timed_table(pairs: Sequence[tuple[float, float]]) -> StudyTable:
    """Return the table of times, from seconds of scoring and allocating by run."""
    shown = tuple(
        ((name,), (*(figure([pair[i]]) for pair in pairs), figure([pair[i] for pair in pairs])))
        for i, name in enumerate(("proxy generation (s)", "bit allocation (s)"))
    )
    columns = (*(f"Run {i + 1}" for i in range(len(pairs))), "Average (s)")
    return StudyTable(7, "time of a winner on ResNet-18", ("step",), columns, shown, "Wall time, medians.", 4)
