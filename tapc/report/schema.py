"""The report: every figure of a compilation, with where it comes from. `report.json` is this model."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tapc.kernels.schedule import Schedule
from tapc.report.alternatives import AlternativeReport
from tapc.report.front_end import FrontEndReport
from tapc.report.patches import PatchReport
from tapc.report.refused import RefusedReport
from tapc.report.regions import RegionReport
from tapc.report.samples import Inputs, SampleFiles
from tapc.report.stack import StackReport
from tapc.report.states import StateReport
from tapc.report.streaming import StreamReport
from tapc.report.timing import PredictedTime, TimingReport

SCHEMA = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class LayerReport(_Frozen):
    """One operator of the integer program.

    Attributes
    ----------
    name, op : str
    w_bits, a_bits : int or None
        Weight bits and input activation bits.
    out_bits : int
        Bits of the operator's output.
    macs, bops : int
        Multiply-accumulates of the network's layer, and macs x w_bits x a_bits.
    live_macs : int
        Multiply-accumulates that run: without channels that cannot change the output.
    flash_bytes : int
        Constants of this layer; its code is shared and counted in the totals.
    arena_bytes : int
        Bytes of its output and scratch buffer.
    predicted_instructions : int
        By the cost model.
    instructions : int or None
        Exact, of one inference; None when nothing ran.
    exact : bool or None
        Every element of every channel that runs equal to the reference executor.
    rounding : str or None
        How its weights were rounded.
    region : str or None
        Memory that its constants are in; None where it has none.
    stall_cycles : float or None
        Predicted cycles of an inference that wait for them.
    cycles, predicted_cycles : int or None
        Measured on the board; predicted by what it measured earlier.
    alternatives : tuple of AlternativeReport
        Of a convolution: by which algorithm it is computed, and what others would have cost.
    """

    name: str
    op: str
    w_bits: int | None
    a_bits: int | None
    out_bits: int
    macs: int
    live_macs: int
    bops: int
    flash_bytes: int
    arena_bytes: int
    predicted_instructions: int
    instructions: int | None
    exact: bool | None
    rounding: str | None = None
    region: str | None = None
    stall_cycles: float | None = None
    cycles: int | None = None
    predicted_cycles: int | None = None
    alternatives: tuple[AlternativeReport, ...] = ()


class Quantity(_Frozen):
    """A predicted and a measured number of bytes, and the limit."""

    predicted: int
    measured: int | None
    limit: int | None


class TensorReport(_Frozen):
    """A tensor or scratch buffer of the arena: its region, offset and bytes, and the steps between which it lives."""

    name: str
    region: str
    offset: int
    bytes: int
    first: int
    last: int


class Memory(_Frozen):
    """Bytes of flash and RAM; ram = arena + stack + static variables.

    Attributes
    ----------
    flash : Quantity
        Code and constants in internal and external flash.
    external : dict of str to Quantity
        Of that, what is in each external flash.
    arena_region : str
        Where the activations are.
    tensors : tuple of TensorReport
    support : int
        Bytes of flash, in none of the other figures, for the commands that the firmware answers and for the clock.
    regions : tuple of RegionReport
        Every memory of the board.
    run_stack : StackReport or None
        The most that an inference can take; None where the compiler does not tell.
    """

    flash: Quantity
    arena: Quantity
    stack: Quantity
    ram: Quantity
    external: dict[str, Quantity] = Field(default_factory=dict)
    arena_region: str = ""
    tensors: tuple[TensorReport, ...] = ()
    support: int = 0
    regions: tuple[RegionReport, ...] = ()
    run_stack: StackReport | None = None


class OutputReport(_Frozen):
    """One of several outputs.

    Attributes
    ----------
    name : str
    sqnr_db, float_max_step : float or None
        As in `Accuracy`, of this output.
    """

    name: str
    sqnr_db: float | None
    float_max_step: float


class Accuracy(_Frozen):
    """How well the outputs are the labels, over the same samples, and how near the device is to the float network.

    Attributes
    ----------
    float, onnx, device : float or None
        Right answers in percent (`top1` and `binary`); None for other metrics, without labels, or where nothing ran.
    metric : str
        `top1`, `binary`, `regression`, `auc` or `none`.
    reason : str or None
        Why there is none.
    threshold : float or None
        Of a single output, above which it names class 1.
    scores : dict
        `float`, `onnx` and `device` -> the metric's figures by name; see `tapc.data.metrics.Score`.
    sqnr_db : float or None
        Signal to noise of the device's outputs against the float network's, in decibels, of the worst of several
        outputs; None where they are equal or nothing ran.
    float_max_step : float or None
        Largest difference between both, in steps of the output's scale.
    float_agreement : float or None
        Share (percent) of samples on which both name the same class, where outputs are classes.
    confusion : tuple of tuple of int or None
        Samples by class (rows) and by the class that the device names (columns), for up to 100 classes.
    outputs : tuple of OutputReport
        Each of several outputs; empty where there is one.
    samples : int
        Samples that the device ran; `onnx` and `float` are measured on the same ones.
    onnx_agreement : float or None
        Share (percent) of samples on which the exported ONNX in onnxruntime and the device give the same class.
    onnx_max_step : int or None
        Largest difference of an output code between onnxruntime and the device.
    """

    float32: float | None = Field(alias="float")
    onnx: float | None
    device: float | None
    samples: int
    onnx_agreement: float | None
    onnx_max_step: int | None
    metric: str = "none"
    reason: str | None = None
    threshold: float | None = None
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    sqnr_db: float | None = None
    float_max_step: float | None = None
    float_agreement: float | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    outputs: tuple[OutputReport, ...] = ()


class AllocationReport(_Frozen):
    """How the bits were chosen; `used` has a latency in `latency_unit` ("instructions", "cycles" or "ms")."""

    proxy: str
    status: str
    objective: float
    bound: float
    gap: float
    sensitivity: dict[str, float]
    used: dict[str, dict[str, float | None]]
    latency_unit: str = "instructions"


class TrainingRun(_Frozen):
    """A rate that was tried, and the loss on the samples kept back after its best epoch."""

    rate: float
    loss: float


class TrainingReport(_Frozen):
    """How the quantized network was trained.

    Attributes
    ----------
    data : str
        Where the training samples come from.
    samples, kept_back : int
        All of them, and of these the ones that only say which epoch was the best.
    labels : bool
        Labels took part in the loss; else the float network alone taught.
    epochs, batch : int
    rate : float
        That was asked for.
    augment : bool
        Pictures were mirrored and shifted.
    runs : tuple of TrainingRun
        The rates in the order in which they were tried.
    used_rate : float or None
        That gave the network; None where none helped, and the network is as it was before.
    loss_before, loss_after : float
        On the samples kept back.
    before, after : dict
        What the device scored on the evaluation samples; empty where nothing ran or there is no metric.
    """

    data: str
    samples: int
    kept_back: int
    labels: bool
    epochs: int
    batch: int
    rate: float
    augment: bool
    runs: tuple[TrainingRun, ...]
    used_rate: float | None
    loss_before: float
    loss_after: float
    before: dict[str, float] = Field(default_factory=dict)
    after: dict[str, float] = Field(default_factory=dict)


def _measured(quantity: Quantity) -> int:
    return quantity.predicted if quantity.measured is None else quantity.measured


class Report(_Frozen):
    """A compilation.

    Attributes
    ----------
    schema_version : int
        Serialized as `schema`.
    exact : bool or None
        Every checked element of every layer, and every output, equal to the reference executor.
    exact_samples : int
        Samples of which every layer was compared; outputs were compared for all samples.
    instructions : int or None
        One inference, exact.
    cycles_estimated : float or None
        The same by a model of the core's pipeline; None where no model is at hand.
    timing : TimingReport or None
        Measured on a board.
    predicted_time : PredictedTime or None
        By what the board measured of other networks; None where it was not calibrated.
    device : str
        What ran the firmware.
    provenance : dict
        Figure -> where it comes from.
    samples : SampleFiles
        Files of `data`.
    pixel_scale, mean, std
        Inputs are (raw * pixel_scale - mean) / std.
    units_given : bool
        The user gave these three.
    inputs : Inputs or None
    labels : tuple of str or None
        Names of the classes.
    channel_groups : dict of str to tuple of (int, int)
        Layers in parts -> (weight bits, output channels) of each; `layers` has them one by one.
    equalized : bool
        Channels were given ranges alike before quantization.
    kept : str
        What the source is whose scales and integers are kept, such as "int8 TFLite"; empty where tapc chose them.
    arithmetic : str
        How integers round; see `tapc.base.arithmetic`.
    training : TrainingReport or None
        None where the network was not trained.
    refused : tuple of RefusedReport
        Alternatives that were not taken.
    schedules : dict
        Layer -> its schedule (rows, pixels, unroll, algorithm, single), where it is not the default.
    patches : tuple of PatchReport
        Parts of the network that are computed band by band, so that the arena fits.
    states : tuple of StateReport
        What lives in the arena between calls.
    front_end : FrontEndReport or None
        C beside the library that makes its input of samples of audio.
    stream : StreamReport or None
        Of a build of one step of a network over time.
    without_tflite : str
        Why there is no model.tflite; empty where there is.
    seconds : dict
        Stage -> wall-clock seconds.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema", validation_alias="schema")
    tapc: str
    model: str
    source: str
    source_error: float | None
    board: str
    core: str
    data: str
    samples: SampleFiles = Field(default_factory=SampleFiles)
    pixel_scale: float
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    units_given: bool = False
    inputs: Inputs | None = None
    labels: tuple[str, ...] | None = None
    seed: int
    exact: bool | None
    exact_samples: int
    layers: tuple[LayerReport, ...]
    memory: Memory
    accuracy: Accuracy
    allocation: AllocationReport
    instructions: int | None
    cycles_estimated: float | None = None
    timing: TimingReport | None = None
    predicted_time: PredictedTime | None = None
    device: str = "qemu"
    predicted_instructions: int
    macs: int
    live_macs: int
    bops: int
    average_weight_bits: float
    provenance: dict[str, str]
    channel_groups: dict[str, tuple[tuple[int, int], ...]] = Field(default_factory=dict)
    equalized: bool = False
    kept: str = ""
    arithmetic: str = ""
    training: TrainingReport | None = None
    refused: tuple[RefusedReport, ...] = ()
    schedules: dict[str, Schedule] = Field(default_factory=dict)
    patches: tuple[PatchReport, ...] = ()
    states: tuple[StateReport, ...] = ()
    front_end: FrontEndReport | None = None
    stream: StreamReport | None = None
    without_tflite: str = ""
    warnings: tuple[str, ...]
    seconds: dict[str, float]

    def __repr__(self) -> str:
        memory, accuracy = self.memory, self.accuracy
        parts = [
            f"{self.model} on {self.board}: {self.average_weight_bits:.2f} weight bits",
            f"{_measured(memory.flash):,} B flash",
            f"{_measured(memory.ram):,} B RAM",
            f"{self.predicted_instructions if self.instructions is None else self.instructions:,.0f} instructions",
        ]
        if accuracy.device is not None:
            exact = "" if accuracy.float32 is None else f" (float {accuracy.float32:.1f} %)"
            parts.append(f"right on {accuracy.device:.1f} %{exact}")
        elif "device" in accuracy.scores:
            parts.append(", ".join(f"{name} {value:.3g}" for name, value in accuracy.scores["device"].items()))
        if self.exact is not None:
            parts.append("bit-exact" if self.exact else "differs from the reference")
        return ", ".join(parts)

    __str__ = __repr__

    def to_json(self) -> str:
        """Serialize with the stable keys."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the stable keys."""
        return self.model_dump(by_alias=True, mode="json")
