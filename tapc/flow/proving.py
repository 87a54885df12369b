"""What the device should give, and what it gives: the run that proves a build."""

from concurrent.futures import Future
from dataclasses import dataclass

from tapc import cycles
from tapc.base.arithmetic import Ints
from tapc.base.errors import MismatchError
from tapc.base.progress import Stages
from tapc.data import Samples
from tapc.device.verify import run_sequences, sequences, verify
from tapc.flow.build import Built
from tapc.flow.devices import device_of
from tapc.flow.fidelity import affordable, check_same, source_outputs
from tapc.frontend import FloatModel, Reference
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.lower import Lowered
from tapc.lower.codes import input_codes
from tapc.quantize import QuantizedModel, evaluate
from tapc.quantize.runtime import Float
from tapc.report import Measured

EXACT_SAMPLES = 4
EXACT_STEPS = 8
"""Samples of which every layer is compared; of networks with states, steps of a sequence."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What the device should give for the evaluation samples, and what others give.

    Attributes
    ----------
    codes, outputs : ndarray of int64, shape (N, H, W, C)
        Input and output codes of the reference executor.
    float_logits, onnx_logits : float32 (N, ...)
        Outputs of the source network in its own runtime, and of model.onnx in onnxruntime.
    """

    codes: Ints
    outputs: Ints
    float_logits: Float
    onnx_logits: Float


def expect(model: FloatModel, quantized: QuantizedModel, lowered: Lowered, test: Samples) -> Expected:
    """Run the evaluation samples everywhere but on the device."""
    codes, outputs = sequences(lowered, input_codes(lowered.program, test.x), test.steps)
    float_logits = source_outputs(model, test.x)
    return Expected(codes, outputs, float_logits, evaluate(quantized.onnx, test, optimized=quantized.optimizable))


def measure(
    model: FloatModel,
    expected: Future[Expected],
    built: Built,
    board: Board,
    target: Target,
    test: Samples,
    stages: Stages,
    device: str | None = None,
) -> Measured:
    """Run the firmware on all evaluation samples and compare it with the reference executor and onnxruntime.

    Raises
    ------
    MismatchError
        The device differs from the reference: names layer, element and both values.
    """
    lowered = built.lowered
    codes = input_codes(lowered.program, test.x)
    layers = min(EXACT_STEPS if lowered.program.states else EXACT_SAMPLES, len(codes))
    with stages.stage("simulate") as advance:
        image = device_of(target, device, board).load(built.images)
        run = run_sequences(image, lowered, codes, test.steps, layers=layers, progress=advance)
        known = expected.result()
    with stages.stage("prove"):
        verification = verify(lowered, run, known.codes, expected=known.outputs)
        if verification.mismatch is not None:
            raise MismatchError(f"the firmware is wrong: {verification.mismatch}")
        if model.run is not None:
            some = affordable(model, len(test.x))
            check_same(model, Reference(test.x[some], known.float_logits[some]), "compilation")
    estimated = None
    if run.instructions is not None and cycles.available(target.name):
        with stages.stage("estimate cycles"):
            model_of_core = cycles.estimate(run.image, run.blocks, target.name)
            outside = {i: built.placed[i].stalls for i in lowered.regions}
            for i, region in built.fast.constants.items():  # once, as those that stay in flash
                outside[i] = built.placed[i].bytes / board.region(region).bandwidth.at(board.clocks.cpu_hz)
            counts = run.instructions_per_step
            estimated = sum(cycles.step_cycles(model_of_core, lowered, counts, board, outside))
    return Measured(run, verification, known.float_logits, known.onnx_logits, estimated)
