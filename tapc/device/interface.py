"""What every device does: load an image of a build, take samples, give outputs and counts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tapc.base.errors import DataError
from tapc.hardware.board import Board
from tapc.hardware.target import Target

Progress = Callable[[int, int], None]
Flasher = Callable[[Path, tuple[str, ...]], None]


@dataclass(frozen=True)
class Timing:
    """What a board's own counter told.

    Attributes
    ----------
    hz, rated_hz : int
        The core's clock as the firmware set it, and as the board's file has it.
    counter : str
        What counted: "dwt", "systick", "mcycle".
    cycles : tuple of int
        Of the whole network, for each inference.
    steps : tuple of int
        Of each step of one inference.
    """

    hz: int
    rated_hz: int
    counter: str
    cycles: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def median(self) -> float:
        """Median of the cycles; of two in the middle, their mean."""
        return float(np.median(self.cycles))

    @property
    def milliseconds(self) -> float:
        """Time of the median, at the clock that the firmware set."""
        return 1e3 * self.median / self.hz


@dataclass(frozen=True)
class DeviceRun:
    """What one run gave.

    Attributes
    ----------
    image : Path
        What ran.
    outputs : ndarray of int8, shape (samples, output bytes)
        The network's quantized outputs.
    layer_outputs : tuple of tuple of bytes
        For each of the first `layers` samples: the bytes of every step's output, as they lay in the arena.
    instructions_per_step : tuple of int
        Exact instructions of each step of the first sample; empty where the device does not count them.
    instructions : int or None
        Their sum.
    stack_high_water : int
        Bytes of stack that were ever used, start-up and main included.
    blocks : ndarray of uint64, shape (n, 3)
        Address in the image, instructions and executions of every block of the whole run; none where not counted.
    layer_crcs : tuple of int
        CRC-32 of every step's output of the first sample, where a device gives no more of them.
    timing : Timing or None
        Measured on silicon.
    device : str
        What ran it, as provenance names it.
    """

    image: Path
    outputs: npt.NDArray[np.int8]
    layer_outputs: tuple[tuple[bytes, ...], ...]
    instructions_per_step: tuple[int, ...]
    instructions: int | None
    stack_high_water: int
    blocks: npt.NDArray[np.uint64]
    layer_crcs: tuple[int, ...] = ()
    timing: Timing | None = None
    device: str = "qemu"


class Images(Protocol):
    """A build's images, of which a device runs one."""

    @property
    def elf(self) -> Path:
        """Firmware for the board."""

    @property
    def twin(self) -> Path:
        """The same library for a simulated machine, with marks between the model's steps."""


@dataclass(frozen=True)
class LoadedImage(ABC):
    """An image on a device, and what it says about its model.

    Attributes
    ----------
    path : Path
        The image's file.
    steps : int
    input_bytes, output_bytes : int
        Of one sample.
    """

    path: Path
    steps: int
    input_bytes: int
    output_bytes: int

    def check_inputs(self, inputs: npt.NDArray[np.int8]) -> None:
        """Raise DataError where the inputs' shape or type is not the model's, or there are none."""
        if inputs.dtype != np.int8 or inputs.ndim != 2 or inputs.shape[1] != self.input_bytes or not len(inputs):
            raise DataError(
                f"the model takes int8 inputs of shape (samples, {self.input_bytes}), "
                f"but got {inputs.dtype} of shape {inputs.shape}"
            )

    @abstractmethod
    def run(
        self, inputs: npt.NDArray[np.int8], *, layers: int = 0, progress: Progress | None = None, period: int = 0
    ) -> DeviceRun:
        """Run all samples.

        Parameters
        ----------
        inputs : ndarray of int8, shape (samples, input bytes)
            Quantized inputs, NHWC, row major; at least one.
        layers : int
            For how many samples, from the first, every step's output is read back.
        progress : callable, optional
            Called with (samples done, samples) while the device runs.
        period : int
            Samples of a sequence, at the start of which what the network keeps begins anew; 0: all are one.

        Raises
        ------
        ToolError
            The device or one of its tools is missing, or the run failed, faulted or took too long; or the image is
            foreign and nothing would keep it from this machine's files.
        BudgetError
            The stack overflowed.
        DataError
            The inputs' shape or type is not the model's.
        """


@dataclass(frozen=True)
class Device(ABC):
    """What runs a core's images.

    Attributes
    ----------
    target : Target
        The core.
    timeout : float
        Seconds after which a run is given up.
    foreign : bool
        The images were not made by this process, so that they may hold anything: a device that cannot keep them from
        this machine's files does not run them.
    argument : str
        What follows the colon in the device's name: a port, a machine.
    board : Board or None
        The board whose images run, where it is known.
    flasher : callable, optional
        Flashes a board with the images of a folder and their external regions, where it runs others.
    """

    target: Target
    timeout: float = 900.0
    foreign: bool = False
    argument: str = ""
    board: Board | None = None
    flasher: Flasher | None = None

    @staticmethod
    @abstractmethod
    def obstacle(target: Target) -> str | None:
        """Return why the device never runs a core's images, as a clause ("target X names no Y"); None if it does."""

    @staticmethod
    def missing() -> str | None:
        """Return what this machine lacks for it, and what installs that; None where nothing is known to be missing."""
        return None

    @abstractmethod
    def roomy_board(self) -> Board:
        """Return a board with all of the device's memory: counts of instructions do not depend on it."""

    @abstractmethod
    def load(self, images: Images) -> LoadedImage:
        """Take the image of a build that this device runs.

        Raises
        ------
        DataError
            It is missing, or no image that tapc made for the device.
        """
