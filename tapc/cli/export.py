"""tapc export."""

import dataclasses
from pathlib import Path

import click

from tapc.base.terminal import print_json, say
from tapc.cli.options import JSON, Command

FORMATS = ("arduino", "cmake", "cmsis-pack", "esp-idf", "platformio", "single-file", "zephyr")
"""As in `tapc.flow.export`, which takes a while to import."""


@click.command(name="export", cls=Command)
@click.argument("build", type=click.Path(path_type=Path))
@click.argument("formats", metavar="FORMAT...", nargs=-1, required=True, type=click.Choice(FORMATS))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of one package; default BUILD/export/FORMAT.",
)
@JSON
def export_command(build: Path, formats: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Write a build as a package for other people's projects; nothing is compiled.

    FORMAT is arduino, cmake, cmsis-pack, esp-idf, platformio, single-file or zephyr. Each package holds an example that
    runs the network once and compares its outputs with the reference executor's.

    \b
    Examples:
      tapc export build/resnet8-stm32h7 arduino zephyr
      tapc export build/resnet8-stm32h7 single-file --out src/network
    """
    from tapc.flow.export import export

    written = export(build, *formats, out=out)
    if as_json:
        print_json([dataclasses.asdict(package) | {"folder": str(package.folder)} for package in written])
    for package in () if as_json else written:
        say(f"{package.format}: {len(package.files)} files in {package.folder}")


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(export_command)
