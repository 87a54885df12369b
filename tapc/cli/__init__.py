"""The command line. Exit codes: 0 success, 1 internal error, and those of `tapc.base.errors` (2 to 8)."""

import dataclasses
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from tapc.base.ending import Stopped, explained, stopped_by_signals
from tapc.base.errors import DataError, TapcError
from tapc.base.options import Source
from tapc.base.terminal import Table, columns, print_json, print_table, progress, say, visible
from tapc.cli.accuracy import register as register_accuracy
from tapc.cli.bench import register
from tapc.cli.boards import register as register_boards
from tapc.cli.ci import register as register_ci
from tapc.cli.compile import EXIT_CODES
from tapc.cli.compile import register as register_compile
from tapc.cli.export import register as register_export
from tapc.cli.flash import register as register_flash
from tapc.cli.measure import duration
from tapc.cli.measure import register as register_measure
from tapc.cli.npu import register as register_npu
from tapc.cli.options import DEVICE, JSON, SEED, Command, data_option, unit_options
from tapc.cli.report import register as register_report
from tapc.cli.search import register as register_search
from tapc.cli.study import register as register_study
from tapc.cli.types import metric_option

FIGURES = ("instructions", "cycles")


class _Group(click.Group):
    """Prints errors, click's own as well, without a traceback and leaves with their exit code."""

    command_class = Command
    group_class = type

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TapcError as error:
            _print_error(str(error))
            sys.exit(error.exit_code)

    def main(self, *args: Any, **extra: Any) -> Any:
        standalone = extra.pop("standalone_mode", True)
        run: Callable[..., Any] = super().main
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # what the terminal's encoding lacks is shown as its code
                stream.reconfigure(errors="backslashreplace")
        if not standalone:
            return run(*args, standalone_mode=False, **extra)
        try:
            with _shown_warnings(), stopped_by_signals():
                code = run(*args, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            text, context = error.format_message(), getattr(error, "ctx", None)
            hint = "" if context is None else f"\n{context.get_usage()}; `{context.command_path} -h` explains"
            _print_error(text[:1].lower() + text[1:] + hint)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _print_error("stopped")
            sys.exit(130)
        except Stopped as error:
            _print_error(str(error))
            sys.exit(error.exit_code)
        except Exception as error:
            text, exit_code = explained(error)
            _print_error(text)
            sys.exit(exit_code)
        sys.exit(code if isinstance(code, int) else 0)


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), "yellow", label="warning: ", err=True)


@contextmanager
def _shown_warnings() -> Iterator[None]:
    logger, handler = logging.getLogger("tapc"), _Warnings(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _print_error(text: str) -> None:
    say(text, "red", label="error: ", err=True)


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tapc")
def main() -> None:
    """Compile trained networks into proved firmware for microcontrollers.

    \b
    Example:
      tapc compile resnet8 --board stm32h7
    """


@main.command()
@click.argument("build", type=click.Path(path_type=Path))
@data_option("Samples; random input codes by default, or by `random`.")
@unit_options
@click.option("--samples", type=click.IntRange(min=1), default=10, show_default=True)
@SEED
@click.option("--layers", is_flag=True, help="Compare every layer of every sample, not only of the first four.")
@DEVICE
@metric_option
@JSON
def run(
    build: Path, data: str | None, source: Source, samples: int, seed: int, layers: bool, device: str | None,
    metric: str, as_json: bool,
) -> None:  # fmt: skip
    """Run a compiled network again, in the simulator or on its board, and prove it.

    \b
    Examples:
      tapc run build/resnet8-stm32h7 --samples 20
      tapc run build/resnet8-stm32h7 --device serial:/dev/ttyACM0
    """
    from tapc.data.metrics import TITLES, shown
    from tapc.flow.rerun import rerun

    result = rerun(
        build, data=data, source=source, samples=samples, seed=seed, all_layers=layers, wanted=metric,
        stages=progress(), device=device,
    )  # fmt: skip
    if as_json:
        print_json(dataclasses.asdict(result))
        return
    title = f"{result.model} on {result.board} ({result.device})"
    figures = {name: any(getattr(step, name) is not None for step in result.layers) for name in FIGURES}
    shown_figures = [name for name, there in figures.items() if there]
    table = Table(title, columns("layer", *shown_figures, "device", right=FIGURES))
    for step in result.layers:
        counts = (f"{getattr(step, name):,}" for name in shown_figures)
        table.add(step.name, *counts, "exact" if step.exact else "differs")
    print_table(table)
    counted = "" if result.instructions is None else f"instructions: {result.instructions:,}; "
    say(f"{counted}stack {result.stack} B; {result.samples} samples bit-exact")
    if (t := result.timing) is not None:
        say(f"{duration(t)} (measured: {t.counter})")
    if result.scores:
        above = "" if result.threshold is None else f" (threshold {result.threshold:g})"
        name = "regression" if result.metric == "regression" else TITLES[result.metric]
        say(f"{name} on the device{above}: {shown(result.scores)}")
    elif data not in (None, "random"):
        say(f"accuracy: none, {result.reason}")


@main.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--stage",
    type=click.Choice(["integer", "plan", "steps", "c", "npu", "tflite"]),
    default="integer",
    show_default=True,
)
def show(build: Path, stage: str) -> None:
    """Print what a compilation made at a stage.

    \b
    Example:
      tapc show build/resnet8-stm32h7 --stage integer
    """
    from tapc.flow.showing import describe

    click.echo(visible(describe(build, stage)))


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
    from tapc.flow.showing import draw

    click.echo(visible(str(draw(build, output or build / "plot.svg"))))


@main.command()
@JSON
def models(as_json: bool) -> None:
    """List the networks of the zoo.

    \b
    Example:
      tapc models --json
    """
    from tapc import zoo
    from tapc.data.metrics import TITLES

    entries = zoo.models()
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    numbers = ("parameters", "accuracy")
    names = columns("name", "weights", "input", *numbers, "description", right=numbers, prose=("description",))
    table = Table("models", names)
    for entry in entries:
        for v in entry.variants():
            table.add(
                entry.name, "official" if v is entry.official else "bundled", "x".join(map(str, v.input_shape[1:])),
                f"{v.parameters:,}", f"{v.accuracy:.1f} % {TITLES[v.metric]}", entry.description,
            )  # fmt: skip
    print_table(table)
    say("data, sha256 and training command: --json")
    say("official weights: --weights imagenet fetches them, --weights FILE takes a copy")


@main.command()
@JSON
def doctor(as_json: bool) -> None:
    """Check the tools and packages that tapc uses; exit code 6 when a needed one is missing.

    \b
    Example:
      tapc doctor
    """
    from tapc.cli.doctor import checks

    found = checks()
    if as_json:
        print_json([dataclasses.asdict(check) for check in found])
    else:
        table = Table("doctor", columns("tool", "version", "for", prose=("version", "for")))
        for check in found:
            absent = "MISSING" if check.needed else "missing (optional)"
            table.add(check.name, check.version or absent, check.purpose, style="" if check.version else "yellow")
        print_table(table)
        for check in found:
            if check.version is None:
                say(f"{check.name}: {check.install}", label="install ")
    if any(check.needed and check.version is None for check in found):
        sys.exit(6)


for _add in (
    register_compile,
    register,
    register_search,
    register_study,
    register_accuracy,
    register_flash,
    register_measure,
    register_ci,
    register_export,
    register_npu,
    register_boards,
    register_report,
):
    _add(main)

__all__ = ["DataError", "main"]
