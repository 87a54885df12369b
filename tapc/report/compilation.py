"""What a report is made from: everything that the stages of a compilation returned."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tapc.allocate import Allocation, AllocationProblem
from tapc.base.arithmetic import Mode
from tapc.base.options import Options
from tapc.base.refusal import Refusal
from tapc.cost.calibrated import Calibration
from tapc.cost.model import CostModel
from tapc.data import Samples
from tapc.data.metrics import Metric
from tapc.device import DeviceRun
from tapc.device.verify import Verification
from tapc.firmware import FirmwareImages
from tapc.frontend import FloatModel
from tapc.graph.network import Network
from tapc.hardware.board import Board
from tapc.kernels.schedule import Tuning
from tapc.lower import Lowered
from tapc.lower.fast import Fast
from tapc.lower.place import Placed
from tapc.report.alternatives import AlternativeReport
from tapc.report.schema import TrainingReport
from tapc.report.streaming import StreamReport


@dataclass(frozen=True, eq=False)
class Measured:
    """What running the firmware gave, beside the float and ONNX networks on the same samples.

    Attributes
    ----------
    run : DeviceRun
    verification : Verification
    float_logits, onnx_logits : ndarray of float32, shape (N, ...)
    cycles : float or None
        Estimated, of one inference; None where no model is at hand.
    """

    run: DeviceRun
    verification: Verification
    float_logits: NDArray[np.float32]
    onnx_logits: NDArray[np.float32]
    cycles: float | None


@dataclass(frozen=True, eq=False)
class Compilation:
    """The results of all stages, from which a report is made.

    Attributes
    ----------
    model : FloatModel
    board : Board
    network : Network
    allocation : Allocation
    rounding : dict of str to str
        Layer -> the method that rounded its weights.
    equalized : bool
        Whether channels were given ranges alike first.
    sensitivity : dict of str to float
    lowered : Lowered
    cost : CostModel
    calibrated : Calibration or None
        What the board measured of other networks.
    images : FirmwareImages
    calibration : Samples
    test : Samples
        What the device ran.
    metric : Metric
        What the test samples measure.
    labels : tuple of str or None
        Names of the classes.
    data : str
        Where the samples come from.
    options : Options
    file : str or None
        The samples' file or folder as it was given; None for the network's own data set, random inputs and arrays.
    measured : Measured or None
        None when nothing ran.
    placed : tuple of Placed
        Where the constants of each step are read.
    fast : Fast
        What start-up copies to fast memories.
    tuning : Tuning or None
        None when schedules are the defaults.
    training : TrainingReport or None
    arithmetic : Mode
        How integers round.
    warnings : tuple of str
    seconds : dict of str to float
    refused : tuple of Refusal
        On the way to what was built.
    problem : AllocationProblem or None
        Whose solution the bits are; None where there was nothing to choose.
    without_tflite : str
        Why there is no model.tflite; empty where there is.
    stream : StreamReport or None
        Of one step of a network over time.
    alternatives : mapping of str to tuple of AlternativeReport
        Convolution -> the ways to compute it.
    """

    model: FloatModel
    board: Board
    network: Network
    allocation: Allocation
    rounding: dict[str, str]
    equalized: bool
    sensitivity: dict[str, float]
    lowered: Lowered
    cost: CostModel
    calibrated: Calibration | None
    images: FirmwareImages
    calibration: Samples
    test: Samples
    metric: Metric
    labels: tuple[str, ...] | None
    data: str
    options: Options
    file: str | None
    measured: Measured | None
    placed: tuple[Placed, ...]
    fast: Fast
    tuning: Tuning | None
    training: TrainingReport | None
    arithmetic: Mode
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    refused: tuple[Refusal, ...] = ()
    problem: AllocationProblem | None = None
    alternatives: Mapping[str, tuple[AlternativeReport, ...]] = field(default_factory=dict)
    without_tflite: str = ""
    stream: StreamReport | None = None
