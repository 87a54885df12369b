"""The command line. Exit codes: 0 success, 1 internal error, and those of `tapc.errors` (2 to 8)."""

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tapc.cli_bench import register
from tapc.cli_search import register as register_search
from tapc.cli_types import BitList, Bytes, Numbers, PositiveNumber
from tapc.errors import DataError, TapcError, UsageError
from tapc.progress import Advance, Stages

EXIT_CODES = """\b
Exit codes: 0 success, 2 usage, 3 unsupported network, 4 bad input file,
5 does not fit, 6 missing or failing tool, 7 device differs, 8 output folder."""


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


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=1, default=str))


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table = Table(title=title, title_justify="left")
    for name in columns:
        # Names stay whole so that they can be copied; prose gives way.
        table.add_column(name, overflow="fold", no_wrap=name in ("name", "tool", "layer", "region"))
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


@main.command(name="compile", epilog=EXIT_CODES)
@click.argument("model")
@click.option("--board", required=True, help="Board name or board file; see `tapc boards`.")
@click.option("--data", default=None, help="Samples: folder, zip or npz; `random` for random inputs.")
@click.option(
    "--test-data",
    type=click.Path(path_type=Path),
    default=None,
    help="Samples for accuracy, all of this file; by default a disjoint part of --data.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    default=None,
    help="State dict for a zoo or torch model; `imagenet` for a zoo model's official one.",
)
@click.option("--input-shape", default=None, metavar="1,3,32,32", help="For torch models that do not say.")
@click.option("--pixel-scale", type=PositiveNumber(), default=None, help="Factor from raw values to network inputs.")
@click.option("--mean", type=Numbers(), default=None, help="Subtracted after that: one value, or one per channel.")
@click.option("--std", type=Numbers(), default=None, help="Divided by after that: one value, or one per channel.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="Folder, default build/MODEL.")
@click.option(
    "--wbits",
    type=BitList((2, 4, 8)),
    default="2,4,8",
    show_default=True,
    help="Weight bits on offer; one value is uniform.",
)
@click.option(
    "--abits",
    type=BitList((4, 8)),
    default="8",
    show_default=True,
    help="Activation bits on offer; the network's input and output stay at 8.",
)
@click.option("--target-bits", type=click.FloatRange(min=2, max=8), default=None, help="Average weight bits.")
@click.option("--flash", type=Bytes(), default=None, help="Flash budget, e.g. 64K; default: the board's.")
@click.option("--ram", type=Bytes(), default=None, help="RAM budget (arena, stack, variables).")
@click.option(
    "--latency", type=click.FloatRange(min=0, min_open=True), default=None, help="Instructions per inference."
)
@click.option("--bops", type=click.IntRange(min=1), default=None, help="Budget of MACs x weight x activation bits.")
@click.option(
    "--proxy", default="error", show_default=True, help="What scores the layers: a name of `tapc proxies`, or a file."
)
@click.option(
    "--allocator",
    type=click.Choice(["ilp", "proxy"]),
    default="ilp",
    show_default=True,
    help="Who chooses weight bits: the integer program, or the proxy file's own allocate().",
)
@click.option(
    "--pin",
    type=click.Choice(["none", "first", "last", "both"]),
    default="none",
    show_default=True,
    help="Keep these layers at 8 bits.",
)
@click.option("--overrides", type=click.Path(path_type=Path), default=None, help="TOML of manual bits; wins.")
@click.option(
    "--rounding", default="gptq", show_default=True, help="Weight rounding: nearest, mse, gptq, adaround, block."
)
@click.option("--equalize/--no-equalize", default=True, show_default=True, help="Balance channel ranges where it pays.")
@click.option("--calibration", type=click.IntRange(min=1), default=1024, show_default=True, help="Most samples.")
@click.option(
    "--eval",
    "evaluation",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Samples that run on the device.",
)
@click.option(
    "--tune",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Measure up to N schedules of each kernel in the simulator and keep the fastest.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--no-external", is_flag=True, help="Keep weights and activations in internal memory.")
@click.option("--no-simulate", is_flag=True, help="Build only: nothing is proved or measured.")
@JSON
def compile_command(
    model: str, board: str, data: str | None, test_data: Path | None, weights: Path | None, input_shape: str | None,
    pixel_scale: float | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, output: Path | None,
    pin: str, evaluation: int, no_simulate: bool, as_json: bool, **rest: Any,
) -> None:  # fmt: skip
    """Compile MODEL for a board: bits, ONNX, C, firmware, proof, report.

    MODEL is a zoo name, file.py:callable, an .onnx or a .tflite file.

    \b
    Examples:
      tapc compile resnet8 --board stm32h7
      tapc compile net.onnx --board nrf52840dk --data images/ --target-bits 4
      tapc compile resnet8 --board pico --flash 64K --abits 4,8
    """
    from tapc.options import Options
    from tapc.pipeline import compile
    from tapc.report import print_report

    options = Options(
        pin_first=pin in ("first", "both"), pin_last=pin in ("last", "both"), eval=evaluation,
        simulate=not no_simulate, test_data=test_data, **rest,
    )  # fmt: skip
    console = Console(stderr=True)
    result = compile(
        model, board=board, data=data, weights=weights, input_shape=_shape(input_shape), pixel_scale=pixel_scale,
        mean=mean, std=std, output=output, options=options, stages=Live(console),
    )  # fmt: skip
    if as_json:
        _print_json(result.report.to_dict())
        return
    out = Console(width=None if sys.stdout.isatty() else 150)
    print_report(result.report, out)
    out.print(f"written to {result.output}")


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = re.split(r"[,x]", text)
    if not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"--input-shape {text!r}: write the extents with commas, batch first, e.g. 1,3,32,32")
    return tuple(int(part) for part in parts)


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
      tapc run build/resnet8 --samples 20
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
      tapc show build/resnet8 --stage integer
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
      tapc plot build/resnet8 -o resnet8.svg
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
        (e.name, "official" if v.url else "bundled", "x".join(map(str, v.input_shape)), f"{v.parameters:,}",
         f"{v.accuracy:.1f} %", v.data, v.sha256[:12], e.description)
        for e in entries for v in e.variants()
    ]  # fmt: skip
    _table("models", ("name", "weights", "input", "parameters", "top-1", "data", "sha256", "description"), rows)
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


register(main, Live)
register_search(main, Live)

__all__ = ["DataError", "main"]
