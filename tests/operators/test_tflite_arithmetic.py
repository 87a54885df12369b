"""The arithmetic `tflite` against TFLite-Micro, one operator a file: no bit differs."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.programs import program
from tapc.base.arithmetic import arithmetic_of, softmax_form, softmax_table
from tapc.ir.program import Op, Tensor
from tapc.lower.reference import execute
from tapc.operators.binary import Binary
from tapc.operators.pool import Pool
from tapc.operators.requantize import Requantize
from tapc.operators.softmax import Softmax
from tapc.operators.weighted import Conv
from tflite_micro_files import Codes, Int8Builder, Quantization, run, samples

OWN = arithmetic_of("tflite")
SEEDS = range(3)


def tensor(name: str, shape: tuple[int, ...], q: Quantization) -> Tensor:
    height, width, channels = shape if len(shape) == 3 else (1, 1, shape[-1])
    return Tensor(name, (height, width, channels), 8, q.scale, q.zero)


def check(b: Int8Builder, output: int, op: Op, x: Tensor, y: Tensor) -> None:
    codes = samples(x.shape, x.zero, b.rng)
    expected = run(b.finish(output), codes)
    found = execute(program([op], [x, y], "tflite"), codes.astype(np.int64))
    assert len(np.unique(expected)) > 5  # saturated outputs would show nothing
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kind", "channels"), [("CONV_2D", 5), ("DEPTHWISE_CONV_2D", 3)])
def test_convolutions(kind: str, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = Quantization.draw(rng), Quantization.draw(rng)
    y = Quantization(float(np.float32(y.scale * 40)), -60)
    b = Int8Builder(1, 5, 4, 3, quantization=x, seed=seed)
    scales = rng.uniform(0.002, 0.05, channels if seed else 1).astype(np.float32)
    depthwise = kind.startswith("DEPTH")
    shape = (1, 3, 3, channels) if depthwise else (channels, 3, 3, 3)
    weights = rng.integers(-127, 128, shape).astype(np.int8)
    table = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    bias = rng.integers(-2000, 2000, channels).astype(np.int32)
    options = {"strideW": 1, "strideH": 1, "padding": 0, "fusedActivationFunction": seed % 2}
    options |= {"depthMultiplier": 1} if depthwise else {}
    out = b.layer(kind, b.input, weights, scales, 3 if depthwise else 0, (1, 5, 4, channels), y, table, bias, **options)
    low = -128 if not seed % 2 else max(-128, y.zero)
    ratios = np.broadcast_to(OWN.ratios((x.scale, scales), y.scale), (channels,))
    kernels = weights.transpose(3, 1, 2, 0) if depthwise else weights
    groups = 3 if depthwise else 1
    op = Conv("c", ("x",), "y", kernels, 8, bias, ratios, (1, 1), (1, 1, 1, 1), groups, low, 127)
    check(b, out, op, tensor("x", (5, 4, 3), x), tensor("y", (5, 4, channels), y))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_dense_layers(seed: int, per_channel: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = Quantization.draw(rng), Quantization.draw(rng, 1, 2)
    b = Int8Builder(1, 24, quantization=x, seed=seed)
    scales = rng.uniform(0.002, 0.05, 7 if per_channel else 1).astype(np.float32)
    weights, bias = rng.integers(-127, 128, (7, 24)).astype(np.int8), rng.integers(-2000, 2000, 7).astype(np.int32)
    out = b.layer("FULLY_CONNECTED", b.input, weights, scales, 0, (1, 7), y, "FullyConnectedOptions", bias)
    ratios = np.broadcast_to(OWN.ratios((x.scale, scales), y.scale), (7,))
    op = Conv("c", ("x",), "y", weights[:, None, None], 8, bias, ratios, (1, 1), (0,) * 4, 1, -128, 127)
    check(b, out, op, tensor("x", (24,), x), tensor("y", (7,), y))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("kind", "operation", "size"), [("ADD", "add", 1), ("SUB", "sub", 1), ("MUL", "mul", 0.3)])
def test_operators_of_two_operands(kind: str, operation: Any, size: float, seed: int) -> None:
    """Of a tensor and itself at another scale, turned around."""
    rng, shape = np.random.default_rng(seed), (4, 4, 8)
    x, other, y = Quantization.draw(rng), Quantization.draw(rng), Quantization.draw(rng, 0.03 * size, 0.1 * size)
    b = Int8Builder(1, *shape, quantization=x, seed=seed)
    scaled = b.node("QUANTIZE", [b.input], (1, *shape), other, "QuantizeOptions")
    table = f"{kind.capitalize()}Options"
    result = b.node(kind, [b.input, scaled], (1, *shape), y, table, fusedActivationFunction=seed % 2)
    low = -128 if not seed % 2 else y.zero
    first = Requantize("q", ("x",), "s", OWN.ratios((x.scale,), other.scale), -128, 127)
    op = Binary("a", ("x", "s"), "y", operation, low, 127)
    tensors = [tensor("x", shape, x), tensor("s", shape, other), tensor("y", shape, y)]
    codes = samples(shape, x.zero, rng)
    found = execute(program([first, op], tensors, "tflite"), codes.astype(np.int64))
    np.testing.assert_array_equal(found, run(b.finish(result), codes))


@pytest.mark.parametrize("seed", SEEDS)
def test_average_pooling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, window = Quantization.draw(rng), (2 + seed, 3)
    b = Int8Builder(1, 6, 5, 4, quantization=x, seed=seed)
    height, width = -(-6 // 2), -(-5 // 2)
    options = {"strideW": 2, "strideH": 2, "padding": 0, "filterHeight": window[0], "filterWidth": window[1]}
    out = b.node("AVERAGE_POOL_2D", [b.input], (1, height, width, 4), x, "Pool2DOptions", **options)
    pads = [max((n - 1) * 2 + k - full, 0) for n, k, full in zip((height, width), window, (6, 5), strict=True)]
    sides = (pads[0] // 2, pads[1] // 2, pads[0] - pads[0] // 2, pads[1] - pads[1] // 2)
    ratios = OWN.mean_ratios(x.scale, x.scale, np.arange(1, window[0] * window[1] + 1))
    op = Pool("p", ("x",), "y", "average", window, (2, 2), sides, False, ratios, -128, 127)
    check(b, out, op, tensor("x", (6, 5, 4), x), tensor("y", (height, width, 4), x))


@pytest.mark.parametrize("seed", SEEDS)
def test_means(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = Quantization(Quantization.draw(rng).scale, -3)
    y = Quantization(float(np.float32(x.scale / rng.uniform(3, 6))), 10)
    b = Int8Builder(1, 6, 5 + seed, 4, quantization=x, seed=seed)
    axes = b.constant(np.array([1, 2], np.int32))
    out = b.node("MEAN", [b.input, axes], (1, 4), y, "ReducerOptions", keepDims=False)
    kernel = (6, 5 + seed)
    ratios = OWN.mean_ratios(x.scale, y.scale, np.arange(1, kernel[0] * kernel[1] + 1))
    op = Pool("p", ("x",), "y", "average", kernel, (1, 1), (0,) * 4, False, ratios, -128, 127, whole=True)
    check(b, out, op, tensor("x", (*kernel, 4), x), tensor("y", (1, 1, 4), y))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", [2, 12])
def test_softmax(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = Quantization.draw(rng, *((0.001, 0.05) if seed % 2 else (0.05, 0.4))), Quantization(1 / 256, -128)
    b = Int8Builder(1, classes, quantization=x, seed=seed)
    out = b.node("SOFTMAX", [b.input], (1, classes), y, "SoftmaxOptions", beta=1.0)
    form = softmax_form("tflite", 256, -128)
    op = Softmax("s", ("x",), "y", softmax_table(x.scale, classes, 256, form), 256)
    codes = samples((1, 1, classes), x.zero, rng, 300)
    found = execute(
        program([op], [tensor("x", (classes,), x), tensor("y", (classes,), y)], "tflite"), codes.astype(np.int64)
    )
    expected = run(b.finish(out), codes)
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def table_of(kind: str, x: Quantization, y: Quantization, table: str, **options: Any) -> tuple[Codes, NDArray[Any]]:
    b = Int8Builder(1, 256, quantization=x)
    out = b.node(kind, [b.input], (1, 256), y, table, **options)
    given = np.arange(-128, 128).astype(np.int8)
    return given, run(b.finish(out), given[None])[0]


FUNCTIONS = [
    ("LOGISTIC", "sigmoid", Quantization(1 / 256, -128), "", {}),
    ("TANH", "tanh", Quantization(1 / 128, 0), "", {}),
    ("HARD_SWISH", "hard swish", None, "HardSwishOptions", {}),
    ("LEAKY_RELU", "leaky relu", None, "LeakyReluOptions", {"alpha": 0.1}),
    ("ELU", "elu", None, "", {}),
]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("kind", "name", "fixed", "table", "options"), FUNCTIONS)
def test_functions_of_every_code(
    kind: str, name: str, fixed: Quantization | None, table: str, options: dict[str, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = Quantization.draw(rng, *((0.001, 0.02), (0.02, 0.08), (0.05, 0.3))[seed % 3])
    y = fixed or Quantization(float(np.float32(x.scale * rng.uniform(0.4, 1.5))), int(rng.integers(-128, 60)))
    given, expected = table_of(kind, x, y, table, **options)
    attributes = {"alpha": 1.0} if kind == "ELU" else options
    found = OWN.functions[name](given.astype(np.int64), (x.scale, x.zero), (y.scale, y.zero), **attributes)
    assert found is not None
    np.testing.assert_array_equal(np.clip(found, -128, 127), expected)
