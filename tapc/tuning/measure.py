"""Runs a library alone in the simulator, whatever its size: for measuring kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapc.base.errors import UsageError
from tapc.base.files import scratch_folder
from tapc.device import DeviceRun, QemuRunner
from tapc.firmware import build_firmware
from tapc.hardware.board import Bandwidth, Board, Clocks, Region
from tapc.hardware.target import Target
from tapc.lower import Library

HARNESS_BYTES = 1 << 18


@dataclass(frozen=True, eq=False)
class Simulation:
    """One run on input codes of zero.

    Attributes
    ----------
    run : DeviceRun
    symbols : dict of str to int
        Symbol -> bytes.
    extra : object
        What `inspect` returned.
    """

    run: DeviceRun
    symbols: dict[str, int]
    extra: Any = None


def simulate(
    library: Library, target: Target, input_bytes: int, inspect: Callable[[Path, DeviceRun], Any] | None = None
) -> Simulation:
    """Compile a library for a core and run it once with all of the simulated machine's memory.

    Parameters
    ----------
    library : Library
    target : Target
    input_bytes : int
        Bytes of the network's input.
    inspect : callable, optional
        Called with the image that ran and the run, before the image is deleted.

    Raises
    ------
    UsageError
        The target has no simulator.
    """
    with scratch_folder() as folder:
        (folder / "lib").mkdir()
        library.write(folder / "lib")
        images = build_firmware(folder / "lib", roomy_board(target), target, folder, work=folder / "work")
        run = QemuRunner().run(images.twin, target, np.zeros((1, input_bytes), np.int8))
        extra = None if inspect is None else inspect(images.twin, run)
    return Simulation(run, images.memory.symbols, extra)


def roomy_board(target: Target) -> Board:
    """Return a board with all of the simulated machine's memory: counts of instructions do not depend on it.

    Raises
    ------
    UsageError
        The target names no QEMU machine.
    """
    if target.qemu is None:
        raise UsageError(f"target {target.name} names no QEMU machine, so nothing can be measured on it")
    machine, fast = target.qemu, Bandwidth(bytes_per_cycle=4)

    def region(name: str, kind: str, origin: int, size: int, *holds: str) -> Region:
        values = {"name": name, "kind": kind, "origin": origin, "size": size, "bandwidth": fast, "holds": holds}
        return Region.model_validate(values)

    return Board(
        schema=1,
        name="roomy",
        description="All memory of the simulated machine",
        core=target.name,
        clocks=Clocks(cpu_hz=1),
        memory=(
            region("rom", "flash", machine.rom.origin, machine.rom.size - HARNESS_BYTES, "code", "weights"),
            region("ram", "ram", machine.ram.origin, machine.ram.size - HARNESS_BYTES, "data", "stack"),
            region("psram", "ram", machine.psram.origin, machine.psram.size, "arena"),
        ),
    )
