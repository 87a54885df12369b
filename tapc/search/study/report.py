"""A study's tables as JSON, Markdown and one HTML page; the same searches give the same bytes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from tapc.base.files import write_whole
from tapc.search.report.pictures import as_uri, start_axes
from tapc.search.study.results import FITNESS, UNSEEN, Result
from tapc.search.study.schema import Planned, StudyFile
from tapc.search.study.tables import StudyTable, figure

NAMES = ("study.json", "study.md", "study.html")


def study_dict(
    file: StudyFile, planned: Sequence[Planned], results: Mapping[str, Result], tables: Sequence[StudyTable]
) -> dict[str, Any]:
    """Return everything about a study as JSON values."""
    grids = [
        {
            "name": grid.grid.name,
            "axes": list(grid.grid.axes),
            "seeds": list(grid.seeds),
            "searches": [{"key": c.key, "seed": c.seed, "settings": c.settings} for c in grid.cells],
        }
        for grid in planned
    ]
    return {
        "study": file.name,
        "grids": grids,
        "searches": {key: result.to_dict() for key, result in results.items()},
        "requests": {cell.key: cell.request.model_dump(mode="json", exclude_defaults=True)
                     for grid in planned for cell in grid.cells},
        "tables": [table.to_dict() for table in tables],
    }  # fmt: skip


def write_tables(
    file: StudyFile,
    planned: Sequence[Planned],
    results: Mapping[str, Result],
    tables: Sequence[StudyTable],
    folder: Path,
) -> None:
    """Write the three files, each beside its place and then renamed.

    Raises
    ------
    OutputError
        One cannot be written.
    """
    values = study_dict(file, planned, results, tables)
    texts = (
        json.dumps(values, indent=1, sort_keys=True) + "\n",
        _markdown(file, tables),
        _html(file, planned, results, tables),
    )
    for name, text in zip(NAMES, texts, strict=True):
        write_whole(folder / name, text)


def title_of(table: StudyTable) -> str:
    """Return a table's title with its number in the paper."""
    return table.title if table.number is None else f"Table {table.number}. {table.title}"


def _markdown(file: StudyFile, tables: Sequence[StudyTable]) -> str:
    parts = [f"# {_cell(file.name)}", "Mean ± sample deviation over the seeds."]
    for table in tables:
        names = (*table.head, *table.columns)
        rule = "|".join(["---"] * len(table.head) + ["---:"] * len(table.columns))
        rows = [(*labels, *map(table.shown, cells)) for labels, cells in table.rows]
        lines = [f"| {' | '.join(map(_cell, row))} |" for row in (names, *rows)]
        parts += [f"## {_cell(title_of(table))}", "\n".join([lines[0], f"|{rule}|", *lines[1:]]), table.note]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(text: str) -> str:
    """Names come from files: none may end a cell or a line."""
    return " ".join(text.split()).replace("|", "\\|")


def _html(
    file: StudyFile, planned: Sequence[Planned], results: Mapping[str, Result], tables: Sequence[StudyTable]
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tapc.search.study", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = {}
    for grid in planned:
        pictures[f"{grid.grid.name}: best fitness by generation"] = _curves(grid, results)
        for name in (FITNESS, UNSEEN):
            if any(name in results[cell.key].figures for cell in grid.cells):
                pictures[f"{grid.grid.name}: {name} of the winners"] = _points(grid, results, name)
    shown = [
        {
            "title": title_of(table), "note": table.note, "names": (*table.head, *table.columns),
            "labels": len(table.head), "rows": [(*labels, *map(table.shown, cells)) for labels, cells in table.rows],
        }
        for table in tables
    ]  # fmt: skip
    failed = [(cell.label, results[cell.key].problem) for grid in planned for cell in grid.cells
              if results[cell.key].problem]  # fmt: skip
    text: str = environment.get_template("study.html.j2").render(
        name=file.name, tables=shown, pictures=pictures, failed=list(dict.fromkeys(failed))
    )
    return text + "\n"


def _curves(grid: Planned, results: Mapping[str, Result]) -> str:
    """Draw the mean of the best fitness so far by generation, with deviations."""
    shown, axes = start_axes(3.6)
    for number, (labels, cells) in enumerate(grid.rows.items()):
        curves = [results[cell.key].curve for cell in cells if results[cell.key].curve]
        if not curves:
            continue
        length = min(map(len, curves))
        by_generation = [figure([curve[g] for curve in curves]) for g in range(length)]
        means = np.array([item.mean for item in by_generation], float)
        spread = np.array([item.deviation or 0.0 for item in by_generation])
        places = np.arange(length) + 0.04 * number
        axes.errorbar(places, means, spread, marker="o", ms=4, capsize=2, lw=1.2, label=", ".join(labels))
    axes.set_xlabel("generation")
    axes.set_ylabel("best fitness")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.lines:
        axes.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return as_uri(shown)


def _points(grid: Planned, results: Mapping[str, Result], name: str) -> str:
    """Draw a figure of every search, and their means."""
    shown, axes = start_axes(3.6)
    rows = list(grid.rows.items())
    for place, (_, cells) in enumerate(rows):
        values = [results[cell.key].figures[name] for cell in cells if name in results[cell.key].figures]
        axes.plot([place] * len(values), values, "o", color="#30638e", alpha=0.5, ms=5)
        if values:
            axes.plot([place - 0.2, place + 0.2], [np.mean(values)] * 2, color="black", lw=2)
    axes.set_xticks(range(len(rows)), [", ".join(labels)[:24] for labels, _ in rows], rotation=30, ha="right")
    axes.set_ylabel(name)
    return as_uri(shown)
