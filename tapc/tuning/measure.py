"""Runs a library alone on a device, whatever its size: for measuring kernels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapc.base.errors import UsageError
from tapc.base.files import scratch_folder
from tapc.device import DeviceRun, device_for, obstacle
from tapc.firmware import build_firmware
from tapc.hardware.target import Target
from tapc.kernels.builder import is_part
from tapc.lower import Library


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

    def code_bytes(self, kernel: str) -> int:
        """Return the bytes of a kernel's functions."""
        return code_bytes(self.symbols, kernel)


def code_bytes(symbols: Mapping[str, int], kernel: str) -> int:
    """Return the bytes of a kernel's functions, given those of all."""
    return sum(size for symbol, size in symbols.items() if is_part(symbol, kernel))


def simulate(
    library: Library, target: Target, input_bytes: int, inspect: Callable[[DeviceRun], Any] | None = None
) -> Simulation:
    """Compile a library for a core and run it once with all of a device's memory.

    Parameters
    ----------
    library : Library
    target : Target
    input_bytes : int
        Bytes of the network's input.
    inspect : callable, optional
        Called with the run before its image is deleted.

    Raises
    ------
    UsageError
        No device runs the target.
    """
    reason = obstacle(target)
    if reason is not None:
        raise UsageError(f"{reason}, so nothing can be measured on it")
    device = device_for(target)
    with scratch_folder() as folder:
        (folder / "lib").mkdir()
        library.write(folder / "lib")
        images = build_firmware(folder / "lib", device.roomy_board(), target, folder, work=folder / "work")
        run = device.load(images).run(np.zeros((1, input_bytes), np.int8))
        extra = None if inspect is None else inspect(run)
    return Simulation(run, images.memory.symbols, extra)
