"""Commands about boards: tapc boards, its show and its new."""

from pathlib import Path
from typing import Any

import click

from tapc.base.errors import OutputError, UsageError
from tapc.base.terminal import Table, columns, print_json, print_table, progress, say
from tapc.cli.options import JSON, Board, Command
from tapc.cli.types import Bytes


class _Boards(click.Group):
    command_class = Command


class _Address(click.ParamType[int]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return int(str(value), 0)
        except ValueError:
            self.fail(f"{value!r} is no address; write 0x20000000", param, ctx)


@click.group(invoke_without_command=True, cls=_Boards)
@JSON
@click.pass_context
def boards(context: click.Context, as_json: bool) -> None:
    """List boards.

    \b
    Examples:
      tapc boards
      tapc boards show stm32h7
      tapc boards new
      tapc boards calibrate build/resnet8-stm32h7 build/kws-stm32h7
    """
    if context.invoked_subcommand is not None:
        return
    from tapc.hardware.board import board_names, load_board

    found = [load_board(name) for name in board_names()]
    if as_json:
        print_json([board.model_dump(mode="json") for board in found])
        return
    numbers = ("clock", "flash", "arena RAM")
    table = Table("boards", columns("name", "core", *numbers, "description", right=numbers, prose=("description",)))
    for b in found:
        table.add(b.name, b.core, f"{b.clocks.cpu_hz / 1e6:g} MHz", f"{b.flash.size >> 10} KiB",
                  f"{b.arena_region.size >> 10} KiB", b.description)  # fmt: skip
    print_table(table)


@boards.command(name="show")
@click.argument("name", type=Board())
@JSON
def show_board(name: str, as_json: bool) -> None:
    """Show a board's memory and its cost model.

    \b
    Example:
      tapc boards show stm32h7
    """
    from tapc.cost.calibrated import load_calibration
    from tapc.cost.model import CostModel, load_coefficients
    from tapc.hardware.board import load_board
    from tapc.hardware.target import load_target

    board = load_board(name)
    target = load_target(board.core)
    cost = CostModel(load_coefficients(target.cost)) if target.cost.is_file() else None
    calibrated, stale = (None, "") if cost is None else load_calibration(board.name, cost.coefficients)
    if as_json:
        extra = {"cost": cost.coefficients.model_dump(mode="json") if cost else None, "arch": target.arch}
        extra |= {"calibration": calibrated.model_dump(mode="json", by_alias=True) if calibrated else None}
        print_json(board.model_dump(mode="json") | extra)
        return
    title = f"{board.name}: {board.description} ({target.arch}, requantization: {target.requantize})"
    numbers = ("bytes", "bytes/cycle")
    table = Table(title, columns("region", "kind", "origin", *numbers, "holds", right=numbers))
    for r in board.memory:
        table.add(r.name, r.kind, f"0x{r.origin:08x}", f"{r.size:,}", f"{r.bandwidth.at(board.clocks.cpu_hz):.2f}",
                  ", ".join(r.holds))  # fmt: skip
    print_table(table)
    say(f"simulators: {', '.join(board.simulators)}")
    say(
        f"cost {cost.provenance}"
        if cost
        else f"no cost model yet; fit one: python -m tapc.tuning.fit {board.core} --board {board.name}"
    )
    if calibrated is not None:
        say(f"cycles {calibrated.provenance}")
    elif stale:
        say(stale, "yellow", label="warning: ")


@boards.command(name="calibrate")
@click.argument("builds", nargs=-1, type=click.Path(path_type=Path))
@click.option("--port", default=None, help="Flash and measure each build first, on the board at this port.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=20, show_default=True, help="Of a measurement: how many."
)
@click.option("--board", type=Board(), default=None, help="With --reset: whose calibration is removed.")
@click.option("--reset", is_flag=True, help="Remove a board's calibration: its cycles are no longer predicted.")
@JSON
def calibrate_command(
    builds: tuple[Path, ...], port: str | None, samples: int, board: str | None, reset: bool, as_json: bool
) -> None:
    """Have cycles and milliseconds of a board predicted by what it measured.

    Takes builds that `tapc measure` measured, all for one board, and fits a factor for each kind of operator. Later
    compilations for the board predict milliseconds. Of several builds, each is predicted by the others to tell the
    error; of one build, each layer.

    \b
    Examples:
      tapc boards calibrate build/resnet8-stm32h7 build/kws-stm32h7
      tapc boards calibrate build/resnet8-stm32h7 build/kws-stm32h7 --port /dev/ttyACM0
      tapc boards calibrate --reset --board stm32h7
    """
    from tapc.cost.calibrated import remove_calibration
    from tapc.flow.calibrating import calibrate_board
    from tapc.flow.measuring import measure_build
    from tapc.hardware.board import load_board

    if reset:
        if builds or board is None or port is not None:
            raise UsageError("--reset takes --board NAME, and nothing else")
        name = load_board(board).name
        removed = remove_calibration(name)
        if as_json:
            print_json({"removed": None if removed is None else str(removed)})
        else:
            say(f"{name} was not calibrated" if removed is None else f"removed: {removed}")
        return
    if board is not None:
        raise UsageError("--board goes with --reset; the builds say which board they are for")
    if port is not None:
        for build in builds:
            measure_build(build, port, samples=samples, flash=True, stages=progress())
    made, path = calibrate_board(builds)
    if as_json:
        print_json(made.model_dump(mode="json", by_alias=True) | {"file": str(path)})
        return
    fit, numbers = made.fit, ("cycles per instruction",)
    table = Table(f"{made.board}: {made.layers} layers of {', '.join(made.builds)}, {made.counter} at "
                  f"{made.hz / 1e6:g} MHz", columns("kind", *numbers, right=numbers))  # fmt: skip
    for kind, factor in sorted(fit.factors.kinds.items()):
        table.add(kind, f"{factor:.2f}")
    table.add("others", f"{fit.factors.other:.2f}")
    print_table(table)
    say(f"reading constants: {fit.factors.stalls:.0%} of what the memory's peak bandwidth predicts")
    say(f"error before, with a cycle for each instruction: {fit.before}")
    say(f"error after, on what it was fitted to: {fit.after}")
    kept = "nothing could be kept back" if fit.held_out is None else f"{fit.held_out}"
    say(f"error after, on what was kept back (one {fit.kept_back or 'layer'} at a time): {kept}")
    for doubt in made.doubts:
        say(f"{doubt}; its time means nothing", "yellow", label="warning: ")
    say(f"kept in {path}; tapc compile --board {made.board} predicts milliseconds by it")


@boards.command(name="new")
@click.option("--name", prompt="Name (letters, digits, - and _)", help="The file is NAME.toml.")
@click.option("--description", prompt="What is it (chip, core, clock)", help="For people.")
@click.option("--core", prompt="Core (see `ls targets`: cortex-m0plus, cortex-m4, cortex-m7 ...)", help="Its target.")
@click.option("--mhz", type=click.FloatRange(min=0, min_open=True), prompt="Clock of the core in MHz", help="Clock.")
@click.option("--flash-origin", type=_Address(), prompt="Flash begins at", default="0x08000000", show_default=True)
@click.option("--flash-size", type=Bytes(), prompt="Bytes of flash (512K, 2M)", help="All of it.")
@click.option("--ram-origin", type=_Address(), prompt="RAM begins at", default="0x20000000", show_default=True)
@click.option("--ram-size", type=Bytes(), prompt="Bytes of RAM", help="Of one stretch without a gap.")
@click.option("--openocd", prompt="OpenOCD's scripts, by commas (empty: none)", default="", help="To flash it.")
@click.option("--support", prompt="C file that starts clock and UART (empty: none)", default="", help="To speak to it.")
@click.option("--uart", default="", help="Its UART, pins and where a cable goes; asked where --support is given.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="File; default NAME.toml.")
def new_board(output: Path | None, **given: Any) -> None:
    """Write a board's file from a few questions; options answer them.

    One flash and one RAM: add the other memories, and how fast each is, by hand afterwards (docs/boards.md).

    \b
    Examples:
      tapc boards new
      tapc boards new --name mine --core cortex-m4 --mhz 100 --flash-size 512K --ram-size 128K
    """
    from pydantic import ValidationError

    from tapc.hardware.draft import draft
    from tapc.hardware.target import load_target

    load_target(given["core"])
    if given["support"] and not given["uart"]:
        given["uart"] = click.prompt("Its UART, pins, where a cable goes")
    place = output or Path(f"{given['name']}.toml")
    try:
        text = draft(
            name=given["name"],
            description=given["description"],
            core=given["core"],
            mhz=given["mhz"],
            flash=(given["flash_origin"], given["flash_size"]),
            ram=(given["ram_origin"], given["ram_size"]),
            openocd=tuple(filter(None, (part.strip() for part in given["openocd"].split(",")))),
            support={"source": given["support"], "uart": given["uart"]} if given["support"] else None,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, first['loc'])) or 'board'}: {first['msg']}") from error
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"{place} exists; name another file with -o") from error
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error}") from error
    say(f"written: {place}; use it with --board {place}, or put its folder into TAPC_PATH")


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(boards)
