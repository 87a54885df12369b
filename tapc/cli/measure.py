"""tapc measure: the board on the desk."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tapc.base.terminal import Table, columns, print_json, print_table, progress, say
from tapc.cli.options import JSON, SEED, Board, Command, data_option

if TYPE_CHECKING:
    from tapc.device import Timing


def duration(timing: "Timing") -> str:
    """Return cycles and milliseconds of one inference as text."""
    clock = f"{timing.hz / 1e6:g} MHz"
    if timing.hz != timing.rated_hz:
        clock += f" (rated {timing.rated_hz / 1e6:g} MHz: the clock could not be raised)"
    spread = f"{min(timing.cycles):,} / {timing.median:,.0f} / {max(timing.cycles):,} cycles"
    return f"{timing.milliseconds:,.3f} ms at {clock}: {spread}"


@click.command(name="measure", cls=Command)
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--port", required=True, help="Serial port of the board, or an address such as socket://localhost:4000.")
@data_option("Samples; default: those that the build was tested with; `random`.")
@click.option("--samples", type=click.IntRange(min=1), default=20, show_default=True, help="How many are sent.")
@click.option("--repeats", type=click.IntRange(min=0), default=10, show_default=True, help="Further timed inferences.")
@click.option("--board", type=Board(), help="Name or file of the board, where the build's is not found by its name.")
@SEED
@JSON
def measure_command(
    build: Path, port: str, data: str | None, samples: int, repeats: int, board: str | None, seed: int, as_json: bool
) -> None:
    """Measure a build on the board that it was flashed to.

    Sends samples over the board's UART, compares every output and the first one's layers with the reference executor,
    and reads the board's cycle counter. The figures are kept in BUILD/measured.json
    and shown in BUILD/report.html.

    \b
    Examples:
      tapc measure build/resnet8-stm32h7 --port /dev/ttyACM0
      tapc measure build/resnet8-stm32h7 --port COM4 --samples 100 --repeats 50
    """
    from tapc.flow.measuring import measure_build
    from tapc.flow.pages import renew_page

    made = measure_build(
        build, port, board=board, data=data, samples=samples, repeats=repeats, seed=seed, stages=progress()
    )
    if as_json:
        print_json(dataclasses.asdict(made))
        renew_page(build)
        return
    numbers = ("cycles", "share", "instructions")
    table = Table(f"{made.model} on {made.board} at {made.port}", columns("layer", *numbers, "device", right=numbers))
    total = sum(layer.cycles for layer in made.layers) or 1
    for layer in made.layers:
        counted = "-" if layer.instructions is None else f"{layer.instructions:,}"
        share = f"{100 * layer.cycles / total:.1f} %"
        table.add(layer.name, f"{layer.cycles:,}", share, counted, "exact" if layer.exact else "differs")
    print_table(table)
    say(duration(made.timing))
    estimated = "" if made.estimated is None else f"; the model estimated {made.estimated:,.0f} cycles"
    say(
        f"{made.samples} samples bit-exact, {made.runs} inferences timed by {made.timing.counter}, stack {made.stack} B"
        f"{estimated} ({made.provenance})"
    )
    say(f"{renew_page(build)} shows them")


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(measure_command)
