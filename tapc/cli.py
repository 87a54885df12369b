"""The command line. Exit codes: 0 success, 1 internal error, and those of `tapc.errors` (2 to 8)."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tapc.cli_accuracy import register as register_accuracy
from tapc.cli_bench import register
from tapc.cli_compile import EXIT_CODES
from tapc.cli_compile import register as register_compile
from tapc.cli_search import register as register_search
from tapc.errors import DataError, TapcError
from tapc.progress import Advance, Stages


class Live(Stages):
    """Shows each stage with a spinner, a bar where its length is known, and its time."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    @contextmanager
    def show(self, name: str) -> Iterator[Advance]:
        """Display a running stage."""
        columns = (SpinnerColumn(), TextColumn("{task.description:<16}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=False) as progress:
            task = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
            progress.update(task, completed=1, total=1)


class _Group(click.Group):
    """Prints tapc's errors without a traceback and leaves with their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TapcError as error:
            Console(stderr=True).print(f"[red]error:[/] {_plain(str(error))}", highlight=False, soft_wrap=True)
            sys.exit(error.exit_code)


_WHOLE = ("name", "tool", "layer", "region", "weights", "input", "parameters", "top-1")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=1, default=str))


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table = Table(title=title, title_justify="left")
    for name in columns:
        # Names stay whole so that they can be copied; prose gives way.
        table.add_column(name, overflow="fold", no_wrap=name in _WHOLE)
    for row in rows:
        table.add_row(*("-" if cell is None else _plain(str(cell)) for cell in row))
    Console().print(table)


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group(cls=_Group, epilog=EXIT_CODES)
@click.version_option(package_name="tapc")
def main() -> None:
    """Compile trained networks into proved firmware for microcontrollers.

    \b
    Example:
      tapc compile resnet8 --board stm32h7
    """


@main.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--data", default=None, help="Samples; random input codes by default, or by `random`.")
@click.option("--samples", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--layers", is_flag=True, help="Compare every layer of every sample, not only of the first four.")
@JSON
def run(build: Path, data: str | None, samples: int, seed: int, layers: bool, as_json: bool) -> None:
    """Run a compiled network again in the simulator and prove it.

    \b
    Example:
      tapc run build/resnet8-stm32h7 --samples 20
    """
    from tapc.rerun import rerun

    result = rerun(build, data=data, samples=samples, seed=seed, all_layers=layers, stages=Live(Console(stderr=True)))
    if as_json:
        _print_json(dataclasses.asdict(result))
        return
    rows = [(s.name, f"{s.instructions:,}", "exact" if s.exact else "differs") for s in result.layers]
    _table(f"{result.model} on {result.board} in QEMU", ("layer", "instructions", "device"), rows)
    click.echo(f"instructions: {result.instructions:,}; stack {result.stack} B; {result.samples} samples bit-exact")
    if result.accuracy is not None:
        click.echo(f"top-1 on the device: {result.accuracy:.1f} %")


@main.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--stage", type=click.Choice(["integer", "plan", "steps", "c"]), default="integer", show_default=True)
def show(build: Path, stage: str) -> None:
    """Print what a compilation made at a stage.

    \b
    Example:
      tapc show build/resnet8-stm32h7 --stage integer
    """
    from tapc.rerun import describe

    click.echo(describe(build, stage))


@main.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=None, help="SVG, PNG or PDF; default BUILD/plot.svg."
)
def plot(build: Path, output: Path | None) -> None:
    """Draw a compilation: instructions per layer, and who lives where in the arena.

    \b
    Example:
      tapc plot build/resnet8-stm32h7 -o resnet8.svg
    """
    from tapc.rerun import draw

    click.echo(draw(build, output or build / "plot.svg"))


@main.group(invoke_without_command=True)
@JSON
@click.pass_context
def boards(context: click.Context, as_json: bool) -> None:
    """List boards.

    \b
    Examples:
      tapc boards
      tapc boards show stm32h7
    """
    if context.invoked_subcommand is not None:
        return
    from tapc.board import board_names, load_board

    found = [load_board(name) for name in board_names()]
    if as_json:
        _print_json([board.model_dump(mode="json") for board in found])
        return
    rows = [(b.name, b.core, f"{b.clocks.cpu_hz / 1e6:g} MHz", f"{b.flash.size >> 10} KiB",
             f"{b.arena_region.size >> 10} KiB", b.description) for b in found]  # fmt: skip
    _table("boards", ("name", "core", "clock", "flash", "arena RAM", "description"), rows)


@boards.command(name="show")
@click.argument("name")
@JSON
def show_board(name: str, as_json: bool) -> None:
    """Show a board's memory and its cost model.

    \b
    Example:
      tapc boards show stm32h7
    """
    from tapc.board import load_board
    from tapc.cost.model import CostModel, load_coefficients
    from tapc.target import load_target

    board = load_board(name)
    target = load_target(board.core)
    cost = CostModel(load_coefficients(target.cost)) if target.cost.is_file() else None
    if as_json:
        extra = {"cost": cost.coefficients.model_dump(mode="json") if cost else None, "arch": target.arch}
        _print_json(board.model_dump(mode="json") | extra)
        return
    rows = [
        (r.name, r.kind, f"0x{r.origin:08x}", f"{r.size:,}", f"{r.bandwidth.at(board.clocks.cpu_hz):.2f}",
         ", ".join(r.holds)) for r in board.memory
    ]  # fmt: skip
    title = f"{board.name}: {board.description} ({target.arch}, requantization: {target.requantize})"
    _table(title, ("region", "kind", "origin", "bytes", "bytes/cycle", "holds"), rows)
    click.echo(f"simulators: {', '.join(board.simulators)}")
    click.echo(
        f"cost {cost.provenance}"
        if cost
        else f"no cost model yet; fit one: python -m tapc.cost.fit {board.core} --board {board.name}"
    )


@main.command()
@JSON
def models(as_json: bool) -> None:
    """List the networks of the zoo.

    \b
    Example:
      tapc models --json
    """
    from tapc import zoo

    entries = zoo.models()
    if as_json:
        _print_json([entry.model_dump(mode="json") for entry in entries])
        return
    rows = [
        (e.name, "official" if v is e.official else "bundled", "x".join(map(str, v.input_shape[1:])),
         f"{v.parameters:,}", f"{v.accuracy:.1f} %", e.description)
        for e in entries for v in e.variants()
    ]  # fmt: skip
    _table("models", ("name", "weights", "input", "parameters", "top-1", "description"), rows)
    click.echo("data, sha256 and training command: --json")
    click.echo("official weights: --weights imagenet fetches them, --weights FILE takes a copy")


@main.command()
@JSON
def doctor(as_json: bool) -> None:
    """Check the tools and packages that tapc uses; exit code 6 when a needed one is missing.

    \b
    Example:
      tapc doctor
    """
    from tapc.doctor import checks

    found = checks()
    if as_json:
        _print_json([dataclasses.asdict(check) for check in found])
    else:
        rows = [(c.name, c.version or ("MISSING" if c.needed else "missing (optional)"), c.purpose,
                 "" if c.version else c.install) for c in found]  # fmt: skip
        _table("doctor", ("tool", "version", "for", "install with"), rows)
    if any(check.needed and check.version is None for check in found):
        sys.exit(6)


register_compile(main, Live)
register(main, Live)
register_search(main, Live)
register_accuracy(main, Live)

__all__ = ["DataError", "main"]
