"""Prove a network on boards that emulators play: the flashed image boots, is spoken to over a port, and is right.

    python tools/prove_boards.py kws_ref_model_float32.tflite --data kws01-mfcc.npz

For each board: `tapc compile`; the board's emulator runs the firmware, its UART behind a pseudo-terminal; then what
`tapc measure --port` does with a board on a desk. It prints a table; exit code 1 where a board fails, 0 where all are
right or skipped. What is in the build folder is not compiled again.
"""

import argparse
import contextlib
import os
import pty
import select
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from tapc.base.errors import TapcError
from tapc.device import device_for
from tapc.device.channel import Channel, port
from tapc.device.choose import missing
from tapc.device.dialog import Dialog
from tapc.device.speaking import SpeakingDevice
from tapc.flow.measuring import BoardMeasurement, measure_build
from tapc.flow.rerun import open_build
from tapc.hardware.board import Board, load_board
from tapc.hardware.target import load_target

BOARDS = ("stm32h7", "nucleo-l4r5zi", "nrf52840dk", "pico", "microbit", "netduinoplus2", "hifive1")
OPTIONS = ("--rounding", "nearest", "--calibration", "32", "--proxy", "parameters", "--eval", "2", "--no-simulate")
HEAD = """| board | emulator | clock, of rated | samples | layers | flash, what speaks | arena, stack used | |
|---|---|---|---|---|---|---|---|"""


def emulators(board: Board) -> list[str]:
    """Return the devices that run what is flashed to a board."""
    return [name for name in board.simulators if name != "qemu"]


def pumped(channel: Channel, ours: int, over: threading.Event) -> None:
    """Carry bytes between an emulator's UART and a pseudo-terminal until it is over."""
    while not over.is_set():
        with contextlib.suppress(TapcError, OSError):
            if select.select([ours], [], [], 0.0)[0]:
                channel.write(os.read(ours, 4096))
            if heard := channel.read(0.002):
                os.write(ours, heard)
            continue
        return


@contextlib.contextmanager
def emulated(folder: Path, board: Board, name: str) -> Iterator[str]:
    """Run a build's firmware in an emulator; the pseudo-terminal that is the board's port."""
    device = device_for(load_target(board.core), name, board=board)
    assert isinstance(device, SpeakingDevice)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    over = threading.Event()
    with device.line(device.load(open_build(folder))) as channel:
        carrier = threading.Thread(target=pumped, args=(channel, ours, over), daemon=True)
        carrier.start()
        try:
            yield os.ttyname(theirs)
        finally:
            over.set()
            carrier.join()
            os.close(ours)
            os.close(theirs)


def compiled(model: Path, data: str, board: str, folder: Path, options: list[str]) -> None:
    """Compile the network, unless the folder has it."""
    if (folder / "report.json").is_file():
        return
    command = [sys.executable, "-P", "-m", "tapc", "compile", str(model), "--board", board, "--data", data, "-q"]
    command += [*OPTIONS, "-o", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TapcError(done.stderr.strip() or f"tapc compile ended with {done.returncode}")


def named(where: str) -> str:
    """Return what the board answers to `name`."""
    with port(where) as opened:
        dialog = Dialog(opened)
        dialog.connect()
        return dialog.ask("name")[0]


def proved(folder: Path, board: Board, name: str, samples: int, data: str) -> BoardMeasurement:
    """Run a build's firmware in an emulator and measure it over its port."""
    with emulated(folder, board, name) as where:
        said = named(where)
        if said != f"m-name-dut-[tapc {board.name}]":
            raise TapcError(f"the board calls itself {said!r}")
        return measure_build(folder, where, data=data, samples=samples)


def row(board: Board, name: str, made: BoardMeasurement, folder: Path, seconds: float) -> str:
    """Return a board's line of the table."""
    memory = open_build(folder).report["memory"]
    assert isinstance(memory, dict)
    exact, clock = sum(layer.exact for layer in made.layers), made.timing
    return (
        f"| {board.name} | {name} | {clock.hz / 1e6:g} of {clock.rated_hz / 1e6:g} MHz | {made.samples} equal "
        f"| {exact} of {len(made.layers)} equal | {memory['flash']['measured']:,} + {memory['support']:,} B "
        f"| {memory['arena']['measured']:,} B, {made.stack} B | {seconds:.0f} s |"
    )


def main() -> None:
    """Compile, run, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default="random")
    parser.add_argument("--board", action="append", help=f"by default {', '.join(BOARDS)}")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--build", type=Path, default=Path("build/boards"))
    parser.epilog = "further options are those of `tapc compile`"
    given, options = parser.parse_known_args()
    failed = False
    print(HEAD, flush=True)
    for board in map(load_board, given.board or BOARDS):
        folder = given.build / f"{given.model.stem}-{board.name}"
        for name in emulators(board) or [""]:
            if lack := missing(name) if name else "no emulator runs its flashed image":
                print(f"| {board.name} | {name} | skipped: {lack} | | | | | |", flush=True)
                continue
            began = time.monotonic()
            try:
                compiled(given.model, given.data, board.name, folder, options)
                made = proved(folder, board, name, given.samples, given.data)
                print(row(board, name, made, folder, time.monotonic() - began), flush=True)
            except TapcError as error:
                failed = True
                print(f"| {board.name} | {name} | **wrong**: {error} | | | | | |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
