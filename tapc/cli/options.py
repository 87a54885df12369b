"""What commands share: --json, --quiet, names that a shell completes, and where a network and its samples come from."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from tapc.base.options import Source
from tapc.base.terminal import QUIET
from tapc.cli.types import Numbers, PositiveNumber, Shape

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


class Command(click.Command):
    """A command with --quiet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_silence,
            help="Show no progress: only results, warnings and errors.",
        ))  # fmt: skip


def _silence(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[QUIET] = context.meta.get(QUIET, False) or value


DEVICE = click.option(
    "--device",
    metavar="NAME",
    default=None,
    help="What runs the firmware: qemu (default), qemu:MACHINE, unicorn, rp2040js or serial:PORT; see `tapc doctor`.",
)


SCORE_EXPONENT = click.option(
    "--score-exponent",
    type=click.FloatRange(0, 4),
    default=1.0,
    show_default=True,
    help="Scores are raised to it; does nothing to what error measures.",
)
GRANULARITY = click.option(
    "--granularity",
    type=click.Choice(["layer", "channel"]),
    default="layer",
    show_default=True,
    help="What gets weight bits of its own: layers, or up to three groups of a layer's output channels, where the "
    "network loses less with them.",
)


class Named(click.ParamType[str]):
    """A name that tapc knows, or a file; the shell completes both."""

    name = "name"

    def names(self) -> Sequence[str]:
        """Return the names that are offered."""
        return ()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is; what takes it says what is wrong with it."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so, and let the shell look for files."""
        found = [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *found]


class Board(Named):
    """A board's name or file."""

    name = "board"

    def names(self) -> Sequence[str]:
        """Return the boards at hand."""
        from tapc.hardware.board import board_names

        return board_names()


class Model(Named):
    """A network of the zoo, or a file."""

    name = "model"

    def names(self) -> Sequence[str]:
        """Return the zoo's networks."""
        from tapc.zoo.registry import models

        return [entry.name for entry in models()]


class Proxy(Named):
    """A proxy's name or file."""

    name = "proxy"

    def names(self) -> Sequence[str]:
        """Return the proxies that come with tapc."""
        from tapc.proxy import all_names

        return all_names()


class Data(Named):
    """A file or folder of samples."""

    name = "data"


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
PLOT = click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="SVG, PNG or PDF to write.")
SEED = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random.")
TEST_DATA = click.option(
    "--test-data",
    type=click.Path(path_type=Path),
    default=None,
    help="Samples for accuracy, all of this file; by default a disjoint part of --data.",
)
_UNITS = (
    click.option(
        "--pixel-scale", type=PositiveNumber(), default=None, help="Factor from raw values to network inputs."
    ),
    click.option("--mean", type=Numbers(), default=None, help="Subtracted after that: one value, or one per channel."),
    click.option("--std", type=Numbers(), default=None, help="Divided by after that: one value, or one per channel."),
)
_MODEL = (
    click.option(
        "--weights",
        type=click.Path(path_type=Path),
        default=None,
        help="State dict for a zoo or torch model; `imagenet` for a zoo model's official one.",
    ),
    click.option("--input-shape", type=Shape(), default=None, metavar="1,3,32,32", help="For models that do not say."),
    click.option(
        "--state",
        multiple=True,
        metavar="INPUT=OUTPUT",
        help="An input that is this output in the next call; repeatable.",
    ),
    click.option(
        "--constant",
        multiple=True,
        metavar="INPUT=VALUE",
        help="An input that always holds this number, as a sampling rate does; ONNX; repeatable.",
    ),
)


def data_option(text: str, **more: Any) -> Callable[[AnyCommand], AnyCommand]:
    """Return --data with a help text."""
    return click.option("--data", type=Data(), help=text, **{"default": None, **more})


_UNIT_NAMES = ("pixel_scale", "mean", "std")


def _with_source(
    command: Callable[..., Any], options: Sequence[Callable[..., Any]], names: Sequence[str]
) -> Callable[..., Any]:
    @functools.wraps(command)
    def run(**given: Any) -> Any:
        return command(source=Source(**{name: given.pop(name) for name in names}), **given)

    for option in reversed(options):
        run = option(run)
    return run


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says how a network and raw values are read: --weights, --input-shape, --state, --constant, units.

    The command takes them as one `source`.
    """
    return _with_source(command, (*_MODEL, *_UNITS), ("weights", "input_shape", "state", "constant", *_UNIT_NAMES))


def unit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says how raw values are read, for builds: --pixel-scale, --mean, --std, as one `source`."""
    return _with_source(command, _UNITS, _UNIT_NAMES)
