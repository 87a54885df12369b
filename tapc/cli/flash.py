"""tapc flash."""

import dataclasses
from pathlib import Path

import click

from tapc.base.terminal import print_json, say, visible
from tapc.cli.options import JSON, Board, Command
from tapc.flash.plan import TOOLS


@click.command(name="flash", cls=Command)
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--tool", type=click.Choice(TOOLS), help="By default the first of the board's that this machine has.")
@click.option("--serial", metavar="NUMBER", help="Serial number of the probe, where several are plugged in.")
@click.option(
    "--volume", type=click.Path(path_type=Path), help="Folder of the drive that takes files, found by its label else."
)
@click.option("--board", type=Board(), help="Name or file of the board, where the build's is not found by its name.")
@click.option("--dry-run", is_flag=True, help="Print the command and do nothing.")
@JSON
def flash_command(
    build: Path,
    tool: str | None,
    serial: str | None,
    volume: Path | None,
    board: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put a build's firmware on its board.

    The board's file names the tools that can: OpenOCD, pyOCD, st-flash, a drive that takes UF2 files, or the probe's
    drive. The command that is run is printed.

    \b
    Examples:
      tapc flash build/resnet8-stm32h7
      tapc flash build/resnet8-pico --tool uf2
      tapc flash build/resnet8-stm32h7 --dry-run
    """
    from tapc.flow.flashing import flash

    result = flash(
        build, board=board, tool=tool, serial=serial, volume=volume, dry=dry_run,
        announce=(lambda _: None) if as_json else lambda command: click.echo(visible(command)),
    )  # fmt: skip
    if as_json:
        print_json(dataclasses.asdict(result))
    elif result.done is not None:
        say(result.done)


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(flash_command)
