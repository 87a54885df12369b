"""tapc report and tapc compare."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tapc.base.terminal import Table, columns, print_json, print_table, say
from tapc.cli.options import JSON, Command

if TYPE_CHECKING:
    from tapc.flow.comparing import LayerOf


@click.command(name="report", cls=Command)
@click.argument("build", type=click.Path(path_type=Path))
@JSON
def report_command(build: Path, as_json: bool) -> None:
    """Write a build's page again: BUILD/report.html, with what `tapc measure` has measured since.

    \b
    Example:
      tapc report build/resnet8-stm32h7
    """
    from tapc.flow.pages import renew_page

    path = renew_page(build)
    if as_json:
        print_json({"page": str(path)})
    else:
        say(str(path))


@click.command(name="compare", cls=Command)
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@JSON
def compare_command(first: Path, second: Path, as_json: bool) -> None:
    """Show two builds side by side: sizes, speed, accuracy, and the layers that differ.

    \b
    Example:
      tapc compare build/kws-w8 build/kws-w4
    """
    from tapc.flow.comparing import compare_builds

    made = compare_builds(first, second)
    if as_json:
        print_json(dataclasses.asdict(made))
        return
    numbers = ("first", "second", "change")
    table = Table(f"first: {made.builds[0]}; second: {made.builds[1]}", columns("", *numbers, right=numbers))
    for figure in made.figures:
        change = None if figure.change is None else f"{figure.change:+.1f} %"
        table.add(figure.name, _number(figure.first), _number(figure.second), change)
    print_table(table)
    if made.layers:
        figures = ("bits, first", "second", "instructions, first", "second", "change")
        table = Table("layers that differ (bits: weights, input)", columns("layer", *figures, right=figures))
        for pair in made.layers:
            a, b = pair.first, pair.second
            change = None if pair.change is None else f"{pair.change:+.1f} %"
            table.add(pair.name, _bits(a), _bits(b), _count(a), _count(b), change)
        print_table(table)
    say(f"{made.same} layers have the same bits and instructions")
    for note in made.notes:
        say(note, "yellow", label="note: ")


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1e4 else f"{value:,.3f}"


def _bits(layer: "LayerOf | None") -> str | None:
    if layer is None:
        return None
    return ", ".join("-" if bits is None else str(bits) for bits in (layer.w_bits, layer.a_bits))


def _count(layer: "LayerOf | None") -> str | None:
    return None if layer is None else f"{layer.instructions:,}" + ("" if layer.exact else " (predicted)")


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(report_command)
    group.add_command(compare_command)
