"""TFLite files with activations of 16 bits and weights of 8, kept as they are: every code that TFLite-Micro gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.twin import run_twin
from quantize.test_keep_lstm import kept
from quantize.test_keep_svdf import INT16, micro
from tapc.base.errors import UnsupportedError
from tapc.device.verify import device_inputs, verify
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.lower.reference import execute
from tflite_micro_files import Int8Builder, Quantization

MAP = (1, 6, 5, 4)


class Builder(Int8Builder):
    """Every activation is int16."""

    def __init__(self, *shape: int, scale: float = 0.0003, seed: int = 0) -> None:
        super().__init__(*shape, quantization=Quantization(scale, 0), seed=seed)
        self.graph.tensors[self.input].type = INT16

    def make(self, kind: str, inputs: list[int], shape: tuple[int, ...], scale: float, table: str = "",
             **options: Any) -> int:  # fmt: skip
        index = self.node(kind, inputs, shape, Quantization(scale, 0), table, **options)
        self.graph.tensors[index].type = INT16
        return index

    def weighted(self, kind: str, x: int, weights: tuple[int, ...], axis: int, shape: tuple[int, ...], scale: float,
                 table: str, bias: Any = np.int64, per_channel: bool = True, **options: Any) -> int:  # fmt: skip
        """Add a layer whose results fill about half of their codes."""
        drawn = self.rng.integers(-127, 128, weights).astype(np.int8)
        outputs = weights[axis]
        spread = 73.0 * np.sqrt(drawn.size / outputs)
        scales = 6000 * scale / (self.scale(x) * 10000 * spread) * self.rng.uniform(0.5, 1.5, outputs)
        scales = (scales if per_channel else scales[:1]).astype(np.float32)
        w = self.constant(drawn)
        self.quantize(w, scales, axis if per_channel else 0)
        inputs = [x, w]
        if bias is not None:
            units = (np.float32(self.scale(x)) * scales).astype(np.float32)
            values = np.rint(self.rng.uniform(-3000, 3000, outputs) * scale / units).astype(bias)
            inputs.append(self.constant(values))
            self.quantize(inputs[-1], units, 0)
        return self.make(kind, inputs, shape, scale, table, **options)

    def conv(self, x: int, weights: tuple[int, ...], shape: tuple[int, ...], scale: float, **options: Any) -> int:
        own = {"padding": 0, "strideW": 1, "strideH": 1, **options}
        return self.weighted("CONV_2D", x, weights, 0, shape, scale, "Conv2DOptions", **own)

    def depthwise(self, x: int, weights: tuple[int, ...], shape: tuple[int, ...], scale: float, **options: Any) -> int:
        own = {"padding": 0, "strideW": 1, "strideH": 1, "depthMultiplier": 1, **options}
        return self.weighted("DEPTHWISE_CONV_2D", x, weights, 3, shape, scale, "DepthwiseConv2DOptions", **own)

    def transposed(self, outputs: int, window: tuple[int, int], shape: tuple[int, ...], scale: float) -> int:
        """Add a transposed convolution of the input, by strides of 2."""
        weights = self.rng.integers(-127, 128, (outputs, *window, 4)).astype(np.int8)
        w, scales = self.constant(weights), self.rng.uniform(0.002, 0.01, outputs).astype(np.float32)
        self.quantize(w, scales, 0)
        units = (np.float32(self.scale(self.input)) * scales).astype(np.float32)
        bias = self.constant(np.rint(self.rng.uniform(-3000, 3000, outputs) * scale / units).astype(np.int64))
        self.quantize(bias, units, 0)
        inputs = [self.constant(np.array(shape, np.int32)), w, self.input, bias]
        return self.make(
            "TRANSPOSE_CONV", inputs, shape, scale, "TransposeConvOptions", padding=0, strideW=2, strideH=2
        )

    def dense(self, x: int, outputs: int, scale: float, **options: Any) -> int:
        count = int(np.prod(self.graph.tensors[x].shape))
        return self.weighted("FULLY_CONNECTED", x, (outputs, count), 0, (1, outputs), scale,
                             "FullyConnectedOptions", per_channel=False, **options)  # fmt: skip


def codes(shape: tuple[int, ...], count: int = 24, largest: int = 20000) -> NDArray[np.int16]:
    rng = np.random.default_rng(1)
    drawn = rng.integers(-largest, largest, (count, *shape[1:])).astype(np.int16)
    drawn[0], drawn[1], drawn[2] = -32768, 32767, 0
    drawn[3] = rng.choice([-32768, 32767], shape[1:])
    return drawn


def check(b: Builder, outputs: list[int], folder: Path, x: NDArray[np.int16] | None = None) -> NDArray[np.int64]:
    """Assert that all outputs of all samples are TFLite-Micro's; return them."""
    path = folder / "net.tflite"
    path.write_bytes(b.finish(*outputs))
    x = codes(tuple(b.graph.tensors[b.input].shape)) if x is None else x
    expected = micro(path.read_bytes(), x)
    model, lowered = kept(path)
    program = lowered.program
    given = model.inputs[0].canonical(x.reshape(len(x), -1)).astype(np.int64)
    given = given.transpose(0, 2, 3, 1) if given.ndim == 4 else given
    given = np.ascontiguousarray(given).reshape(len(x), *program.tensors[program.input].shape)
    found = execute(program, given)
    if len(outputs) == 1:
        canonical = found.transpose(0, 3, 1, 2).reshape(len(x), *model.outputs[0].shape[1:])
        found = model.outputs[0].restored(canonical)
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    return expected


def of_input(kind: str, shape: tuple[int, ...], scale: float, table: str = "", *values: Any, **options: Any) -> Any:
    return lambda b: b.make(kind, [b.input, *(b.constant(np.array(v, np.int32)) for v in values)], shape, scale, table,
                            **options)  # fmt: skip


def pair(kind: str, scale: float, table: str, **options: Any) -> Callable[[Builder], int]:
    def make(b: Builder) -> int:
        other = b.conv(b.input, (4, 1, 1, 4), MAP, 0.0002)
        return b.make(kind, [b.input, other], MAP, scale, table, **options)

    return make


def with_mean(kind: str, scale: float, table: str, first: bool = True) -> Callable[[Builder], int]:
    """Return what makes an operator of all pixels and one."""

    def make(b: Builder) -> int:
        axes = b.constant(np.array([1, 2], np.int32))
        mean = b.make("MEAN", [b.input, axes], (1, 1, 1, 4), 0.0002, "ReducerOptions", keepDims=True)
        return b.make(kind, [b.input, mean] if first else [mean, b.input], MAP, scale, table)

    return make


POOL = {"strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 3}
OPERATORS: dict[str, Callable[[Builder], int]] = {
    "convolution": lambda b: b.conv(b.input, (7, 3, 3, 4), (1, 6, 5, 7), 0.0004),
    "convolution, biases of 32 bits": lambda b: b.conv(b.input, (7, 3, 3, 4), (1, 6, 5, 7), 0.0004, bias=np.int32),
    "convolution without bias": lambda b: b.conv(b.input, (7, 3, 3, 4), (1, 6, 5, 7), 0.0004, bias=None),
    "convolution, strides": lambda b: b.conv(
        b.input, (3, 2, 3, 4), (1, 3, 2, 3), 0.0004, padding=1, strideW=2, strideH=2, fusedActivationFunction=3
    ),
    "convolution, dilated": lambda b: b.conv(
        b.input, (3, 2, 2, 4), (1, 6, 5, 3), 0.0004, dilationHFactor=2, dilationWFactor=2, fusedActivationFunction=1
    ),
    "transposed convolution": lambda b: b.transposed(5, (3, 3), (1, 12, 10, 5), 0.002),
    "transposed convolution, even": lambda b: b.transposed(5, (2, 4), (1, 12, 10, 5), 0.002),
    "depthwise": lambda b: b.depthwise(b.input, (1, 3, 3, 4), MAP, 0.0004),
    "depthwise, two each": lambda b: b.depthwise(b.input, (1, 3, 2, 8), (1, 6, 5, 8), 0.0004, depthMultiplier=2),
    "dense": lambda b: b.dense(b.input, 5, 0.0005),
    "dense, biases of 32 bits": lambda b: b.dense(b.input, 5, 0.0005, bias=np.int32),
    "dense without bias": lambda b: b.dense(b.input, 5, 0.0005, bias=None),
    "sum": pair("ADD", 0.0004, "AddOptions"),
    "sum, clamped": pair("ADD", 0.0003, "AddOptions", fusedActivationFunction=3),
    "difference": pair("SUB", 0.0004, "SubOptions"),
    "difference, clamped": pair("SUB", 0.0003, "SubOptions", fusedActivationFunction=1),
    "difference of each": with_mean("SUB", 0.0004, "SubOptions"),
    "sum of each": with_mean("ADD", 0.0004, "AddOptions", first=False),
    "strided slice": of_input(
        "STRIDED_SLICE", (1, 2, 2, 3), 0.0003, "StridedSliceOptions", [0, 1, 0, 0], [1, 5, 4, 3], [1, 2, 2, 1]
    ),
    "slice": of_input("SLICE", (1, 4, 5, 2), 0.0003, "SliceOptions", [0, 1, 0, 2], [1, 4, 5, 2]),
    "transpose": of_input("TRANSPOSE", (1, 5, 6, 4), 0.0003, "TransposeOptions", [0, 2, 1, 3]),
    "product": pair("MUL", 0.001, "MulOptions"),
    "product of each": with_mean("MUL", 0.001, "MulOptions"),
    "product with each": with_mean("MUL", 0.0008, "MulOptions", first=False),
    "product, clamped": pair("MUL", 0.0007, "MulOptions", fusedActivationFunction=1),
    "average": of_input("AVERAGE_POOL_2D", (1, 3, 3, 4), 0.0003, "Pool2DOptions", padding=0, **POOL),
    "maximum": of_input("MAX_POOL_2D", (1, 2, 2, 4), 0.0003, "Pool2DOptions", padding=1, **POOL),
    "relu": of_input("RELU", MAP, 0.0003),
    "relu6": of_input("RELU6", MAP, 0.0003),
    "leaky relu": of_input("LEAKY_RELU", MAP, 0.0002, "LeakyReluOptions", alpha=0.3),
    "leaky relu, steep": of_input("LEAKY_RELU", MAP, 0.0005, "LeakyReluOptions", alpha=1.7),
    "sigmoid": of_input("LOGISTIC", MAP, 2.0**-15),
    "sum of equal scales": lambda b: b.make(
        "ADD", [b.input, b.make("RELU", [b.input], MAP, 0.0003)], MAP, 0.0003, "AddOptions"
    ),
    "tanh": of_input("TANH", MAP, 2.0**-15),
    "softmax": of_input("SOFTMAX", MAP, 2.0**-15, "SoftmaxOptions", beta=1.0),
    "mean": of_input("MEAN", (1, 4), 0.0002, "ReducerOptions", [1, 2]),
    "mean of rows": of_input("MEAN", (1, 5, 4), 0.0002, "ReducerOptions", [1]),
    "pad": of_input("PAD", (1, 8, 6, 4), 0.0003, "PadOptions", [[0, 0], [1, 1], [0, 1], [0, 0]]),
    "reshape": of_input("RESHAPE", (1, 120), 0.0003, "ReshapeOptions", [1, 120]),
    "concatenation": lambda b: b.make(
        "CONCATENATION", [b.input, b.make("RELU", [b.input], MAP, 0.0003)], (1, 6, 5, 8), 0.0003,
        "ConcatenationOptions", axis=3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_every_code_equals_tflite_micro(name: str, tmp_path: Path) -> None:
    b = Builder(*MAP)
    expected = check(b, [OPERATORS[name](b)], tmp_path)
    assert len(np.unique(expected)) > 50


def network(folder: Path, seed: int = 0) -> tuple[Builder, list[int]]:
    """Return a network with most operators behind each other, and the tensors in between."""
    b = Builder(1, 8, 7, 3, seed=seed)
    first = b.conv(b.input, (8, 3, 3, 3), (1, 4, 4, 8), 0.0004, strideW=2, strideH=2, fusedActivationFunction=1)
    filtered = b.depthwise(first, (1, 3, 3, 8), (1, 4, 4, 8), 0.0003)
    total = b.make("ADD", [first, filtered], (1, 4, 4, 8), 0.0005, "AddOptions")
    gate = b.make("LOGISTIC", [total], (1, 4, 4, 8), 2.0**-15)
    product = b.make("MUL", [gate, total], (1, 4, 4, 8), 0.0004, "MulOptions")
    point = b.conv(product, (5, 1, 1, 8), (1, 4, 4, 5), 0.0004, bias=np.int32)
    pooled = b.make("AVERAGE_POOL_2D", [point], (1, 2, 2, 5), 0.0004, "Pool2DOptions", padding=1,
                    strideW=2, strideH=2, filterWidth=2, filterHeight=2)  # fmt: skip
    padded = b.make("PAD", [pooled, b.constant(np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.int32))], (1, 3, 3, 5),
                    0.0004, "PadOptions")  # fmt: skip
    flat = b.make("RESHAPE", [padded, b.constant(np.array([1, 45], np.int32))], (1, 45), 0.0004, "ReshapeOptions")
    outputs = [b.dense(flat, 6, 0.0002), b.dense(flat, 3, 0.0005, bias=np.int32)]
    outputs.append(b.make("SOFTMAX", outputs[:1], (1, 6), 2.0**-15, "SoftmaxOptions", beta=1.0))
    return b, [*outputs, total, product, padded]


@pytest.mark.parametrize("seed", range(3))
def test_networks_equal_tflite_micro(seed: int, tmp_path: Path) -> None:
    b, outputs = network(tmp_path, seed)
    expected = check(b, outputs, tmp_path)
    assert len(np.unique(expected[:, :9])) > 50


@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH"])
def test_functions_are_no_tables_of_its_own(kind: str, tmp_path: Path) -> None:
    b = Builder(*MAP)
    (tmp_path / "net.tflite").write_bytes(b.finish(b.make(kind, [b.input], MAP, 2.0**-14)))
    with pytest.raises(UnsupportedError, match="no kernel with the source's integers"):
        kept(tmp_path / "net.tflite")


def long_sums(seed: int) -> tuple[Builder, list[int]]:
    b = Builder(1, 1100, seed=seed)
    return b, [b.dense(b.input, 5, 0.0003 * (1 + seed))]


def test_sums_of_64_bits_equal_tflite_micro(tmp_path: Path) -> None:
    for seed in range(4):
        b, outputs = long_sums(seed)
        x = codes((1, 1100), largest=32767)
        weights = np.frombuffer(b.model.buffers[1].data.tobytes(), np.int8).reshape(5, -1)
        x[4] = np.where(weights[0] > 0, 32767, -32768)
        expected = check(b, outputs, tmp_path, x)
        assert len(np.unique(expected)) > 50


@pytest.mark.parametrize(
    ("board_name", "mode"), [("stm32h7", "tflite"), ("pico", ""), ("mps3-an547", "tflite"), ("nucleo-f103rb", "")]
)
def test_firmware_is_exact(board_name: str, mode: str, tmp_path: Path) -> None:
    board = load_board(board_name)
    target = load_target(board.core)
    for make in (lambda: network(tmp_path), lambda: long_sums(0)):
        b, outputs = make()
        path = tmp_path / "net.tflite"
        path.write_bytes(b.finish(*outputs))
        _, lowered = kept(path, mode or target.requantize, target.isa)
        x = codes(tuple(b.graph.tensors[b.input].shape), 8)
        given = x.reshape(len(x), *lowered.program.tensors[lowered.program.input].shape).astype(np.int64)
        run = run_twin(lowered, board, device_inputs(lowered, given), layers=len(x))
        found = verify(lowered, run, given)
        assert found.mismatch is None, found.mismatch
