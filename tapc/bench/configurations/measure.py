"""What one bit configuration of a network costs and how good it is: the integer network, its ELF, the simulator."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapc import zoo
from tapc.base.errors import DataError
from tapc.base.files import scratch_folder
from tapc.bench.configurations.draw import Configuration
from tapc.bench.configurations.table import Measurement
from tapc.cost.layers import NetworkCost
from tapc.cost.model import CostModel, load_coefficients
from tapc.data import load_samples
from tapc.data.choice import check_classes
from tapc.device import device_for
from tapc.firmware import build_firmware
from tapc.flow.losses.measure import cross_entropy, right
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.graph.network import Network
from tapc.hardware.board import Board, load_board
from tapc.hardware.target import Target, load_target
from tapc.ir.program import Op
from tapc.lower import Lowered, lower
from tapc.lower.codes import input_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.reference import execute
from tapc.operators.softmax import Softmax
from tapc.quantize import Calibration, calibrate, evaluate, quantize, uniform_bits

Array = NDArray[np.float32]

_BATCH = 16  # samples: more leave the processor's caches and take twice as long


@dataclass(frozen=True)
class Source:
    """A network and its data, by name.

    Attributes
    ----------
    name : str
        The network's name in the benchmark.
    model : str
        What `tapc.frontend.load` takes.
    data : Path
        Labelled npz archive. Where it has a training and a test set, calibration is drawn from the first and all of
        the second is measured; else calibration is drawn from all of it, and the rest is measured.
    calibration : int
        Samples to calibrate on.
    seed : int
        Of the draw of samples and of calibration.
    board : str
    """

    name: str
    model: str
    data: Path
    calibration: int
    seed: int = 0
    board: str = "stm32h7"


@dataclass(frozen=True, eq=False)
class Setup:
    """A network ready to be measured: loaded, calibrated, with a board and cost model."""

    source: Source
    model: FloatModel
    network: Network
    calibration: Calibration
    calibration_x: Array
    x: Array
    y: NDArray[np.int64]
    board: Board
    target: Target
    cost: NetworkCost


def prepare(source: Source) -> Setup:
    """Load and calibrate a network.

    Raises
    ------
    DataError
        Model or data are missing or do not fit, or the data has no labels.
    """
    model = load(source.model, seed=source.seed, keep=False)
    calibration_x, x, y, pictures = _split(source, model)
    network = analyse(model.onnx, model.name)
    calibration = calibrate(model, calibration_x, seed=source.seed, pictures=pictures)
    board = load_board(source.board)
    target = load_target(board.core)
    # As the allocator predicts: re-labelled from one template, before anything is quantized.
    template = quantize(model, network, uniform_bits(network, 8, 8), calibration, x=calibration_x[:1],
                        bias_correction=False)  # fmt: skip
    program = program_from_onnx(template.onnx, model.name, target.requantize, target.isa)
    cost = NetworkCost(program, network, CostModel(load_coefficients(target.cost)))
    return Setup(source, model, network, calibration, calibration_x, x, y, board, target, cost)


def _split(source: Source, model: FloatModel) -> tuple[Array, Array, NDArray[np.int64], bool]:
    """Return calibration inputs, test inputs, test labels, and whether they are pictures."""
    shape, scale = model.input_shape, model.units
    whole = load_samples(source.data, shape, pixel_scale=scale, count=None, split="all", seed=source.seed)
    test = load_samples(source.data, shape, pixel_scale=scale, count=None, split="test", seed=source.seed)
    with np.load(source.data, allow_pickle=False) as archive:
        separate = "train_x" in archive.files and "test_x" in archive.files
    if test.y is None or whole.y is None:
        raise DataError(f"{source.data}: has no labels; the benchmark needs 'y', or 'test_y'")
    check_classes(whole, math.prod(model.output_shape))
    if separate:
        count = source.calibration
        drawn = load_samples(source.data, shape, pixel_scale=scale, count=count, split="calibration", seed=source.seed)
        return drawn.x, test.x, test.y, test.pictures
    order = np.random.default_rng(source.seed).permutation(len(whole.x))
    first, rest = order[: source.calibration], np.sort(order[source.calibration :])
    return whole.x[first], whole.x[rest], whole.y[rest], whole.pictures


def measure(setup: Setup, configuration: Configuration) -> Measurement:
    """Quantize, lower, build, run.

    Raises
    ------
    TapcError
        A tool is missing, or the configuration does not fit the board.
    """
    network, bits = setup.network, configuration.bits(setup.network)
    quantized = quantize(setup.model, network, bits, setup.calibration, x=setup.calibration_x)
    by_onnx = evaluate(quantized.onnx, setup.x, optimized=quantized.optimizable)
    lowered = lower(quantized.onnx, setup.model.name, setup.target.requantize, setup.target.isa)
    output, logits = integer_outputs(lowered, setup.x)
    library = lowered.library()
    with scratch_folder() as folder:
        (folder / "lib").mkdir()
        library.write(folder / "lib")
        images = build_firmware(folder / "lib", setup.board, setup.target, folder, work=folder / "work")
        # Instructions do not depend on the input, but for code that branches on data, which this core's has none of.
        zeros = np.zeros((1, lowered.program.tensors[lowered.program.input].bytes), np.int8)
        run = device_for(setup.target).load(images).run(zeros)
    total = sum(layer.parameters for layer in network.layers)
    weight_bits = sum(layer.parameters * bits.weights[layer.name] for layer in network.layers)
    pairs = [(layer.macs, *bits.pair(layer)) for layer in network.layers]
    _, steps = setup.cost.steps(bits)
    flash_predicted, instructions_predicted = setup.cost.whole(bits)
    return Measurement(
        correct=right(output, setup.y),
        onnx_correct=right(by_onnx, setup.y),
        cross_entropy=cross_entropy(logits, setup.y),
        average_bits=weight_bits / total,
        weight_bytes=weight_bits / 8,
        bops=sum(macs * w * a for macs, w, a in pairs),
        constant_bytes=library.weight_bytes,
        constant_bytes_predicted=sum(constant.bytes for step in steps for constant in step.constants.values()),
        flash_bytes=images.memory.flash,
        flash_bytes_predicted=flash_predicted,
        arena_bytes=lowered.plan.size,
        ram_bytes=images.memory.static_ram + run.stack_high_water,
        instructions=run.instructions or 0,
        instructions_predicted=instructions_predicted,
    )


def integer_outputs(lowered: Lowered, x: Array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Run the reference executor, which the firmware equals bit for bit.

    Parameters
    ----------
    lowered : Lowered
    x : float32 (N, *input_shape[1:])

    Returns
    -------
    output : int64 (N, classes)
        Codes of the network's output.
    logits : float64 (N, classes)
        Dequantized output, or the input of the softmax where the network ends in one: its 8-bit output rounds
        probabilities below 1/512 to 0, whose logarithm is infinite.
    """
    program = lowered.reference
    last = program.ops[-1]
    wanted = last.inputs[0] if isinstance(last, Softmax) else program.output
    seen: list[NDArray[np.int64]] = []

    def observe(op: Op, codes: NDArray[np.int64]) -> None:
        if op.output == wanted:
            seen.append(codes)

    codes = input_codes(program, x)
    parts = (codes[start : start + _BATCH] for start in range(0, len(codes), _BATCH))
    output = np.concatenate([execute(program, part, observe=observe) for part in parts])
    scale, zero = program.tensors[wanted].quantization
    logits = (np.concatenate(seen) - zero).astype(np.float64) * scale
    return output.reshape(len(x), -1), logits.reshape(len(x), -1)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises
    ------
    DataError
        It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def model_digest(model: str) -> str:
    """Return the SHA-256 of a model file, or of a zoo network's weights."""
    entry = next((entry for entry in zoo.models() if entry.name == model), None)
    return file_digest(Path(model)) if entry is None else entry.default.sha256
