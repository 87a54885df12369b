"""tapc ci."""

from pathlib import Path

import click

from tapc.base.errors import UsageError
from tapc.base.terminal import print_json, say
from tapc.cli.options import JSON, Board, Command


@click.command(name="ci", cls=Command)
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--qemu", is_flag=True, help="A workflow that proves the build in QEMU.")
@click.option("--renode", is_flag=True, help="A platform script, a Robot test and a workflow for Renode.")
@click.option("--board", type=Board(), help="Name or file of the board, where the build's is not found by its name.")
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Root of the repository; default: here.")
@click.option("--replace", is_flag=True, help="Replace files that are there and differ.")
@JSON
def ci_command(
    build: Path, qemu: bool, renode: bool, board: str | None, root: Path, replace: bool, as_json: bool
) -> None:
    """Write files by which a CI service proves a build: a GitHub workflow, and what Renode runs.

    Call it in the root of the repository that holds the build. Renode gets a sample over the UART, and must answer as
    the reference executor does.

    \b
    Examples:
      tapc ci build/resnet8-stm32h7 --qemu
      tapc ci build/resnet8-stm32h7 --renode
    """
    from tapc.flow.workflows import ci_files, write_ci_files

    if not (qemu or renode):
        raise UsageError("say for what: --qemu, --renode, or both")
    places = write_ci_files(ci_files(build, board, qemu=qemu, renode=renode), root, replace=replace)
    if as_json:
        print_json({"files": [str(place) for place in places]})
    for place in () if as_json else places:
        say(f"written: {place} (not run here)")


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(ci_command)
