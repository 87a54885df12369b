"""Each TFLite operator on a network written for the test, against LiteRT's reference kernels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.canonical_form import assert_canonical, operators, run
from frontend.tflite_builder import TfliteBuilder, litert
from tapc.frontend import FloatModel, load
from tapc.frontend.canonical import canonical_form
from tapc.frontend.tflite_convert import convert
from tapc.frontend.tflite_reader import parse

RELU, RELU_N1, RELU6 = 1, 2, 3
SAME, VALID = 0, 1


def compare(blob: bytes, folder: Path, seed: int = 5) -> FloatModel:
    path = folder / "net.tflite"
    path.write_bytes(blob)
    loaded = load(str(path))
    assert_canonical(loaded.onnx)
    assert "checked against LiteRT" in loaded.provenance
    x = np.random.default_rng(seed).normal(0, 1, loaded.input_shape).astype(np.float32)
    got = run(loaded.onnx, x)
    expected = litert(blob, x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)
    np.testing.assert_allclose(
        got, expected.transpose(0, 3, 1, 2) if expected.ndim == 4 else expected, rtol=1e-4, atol=1e-5
    )
    return loaded


def finish(build: Callable[[TfliteBuilder], int], *shape: int) -> bytes:
    builder = TfliteBuilder(*shape)
    return builder.finish(build(builder))


def pool(kind: str, padding: int) -> Callable[[TfliteBuilder], int]:
    shape = (1, 4, 2, 3) if padding == SAME else (1, 3, 2, 3)
    options = {"padding": padding, "strideH": 2, "strideW": 3, "filterHeight": 3, "filterWidth": 2}
    return lambda b: b.operator(kind, [b.input], shape, "Pool2DOptions", fusedActivationFunction=RELU6, **options)


def flatten_dense(b: TfliteBuilder) -> int:
    return b.dense(b.reshape(b.conv(b.input, 4, (2, 2), (1, 6, 4, 4), padding=VALID), 1, 96), 5)


def dense_to_image(b: TfliteBuilder) -> int:
    """A decoder: the dense layer's rows must be permuted so that its output is an NCHW image."""
    image = b.reshape(b.dense(b.input, 24, fusedActivationFunction=RELU), 1, 3, 2, 4)
    return b.conv(image, 3, (2, 2), (1, 3, 2, 3), padding=SAME)


def image_through_vectors(b: TfliteBuilder) -> int:
    flat = b.operator("RELU", [b.reshape(b.input, 1, 105)], (1, 105))
    total = b.operator("ADD", [flat, b.reshape(b.input, 1, 105)], (1, 105), "AddOptions")
    return b.reshape(total, 1, 7, 5, 3)


def dense_without_flatten(b: TfliteBuilder) -> int:
    return b.dense(b.input, 4)


def dense_without_bias(b: TfliteBuilder) -> int:
    return b.operator("FULLY_CONNECTED", [b.input, b.weights(4, 6), -1], (1, 4), "FullyConnectedOptions")


def depthwise(b: TfliteBuilder) -> int:
    inputs = [b.input, b.weights(1, 3, 3, 6), b.weights(6)]
    return b.operator(
        "DEPTHWISE_CONV_2D",
        inputs,
        (1, 4, 3, 6),
        "DepthwiseConv2DOptions",
        strideH=2,
        strideW=2,
        depthMultiplier=2,
        fusedActivationFunction=RELU6,
    )


def grouped(b: TfliteBuilder) -> int:
    inputs = [b.input, b.weights(6, 3, 1, 2), b.weights(6)]
    return b.operator("CONV_2D", inputs, (1, 5, 5, 6), "Conv2DOptions", padding=VALID, strideH=1, strideW=1)


def pad_conv(b: TfliteBuilder) -> int:
    pads = b.constant(np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32))
    padded = b.operator("PAD", [b.input, pads], (1, 10, 8, 3), "PadOptions")
    return b.conv(padded, 4, (3, 3), (1, 8, 6, 4), padding=VALID)


def mean(keep: bool) -> Callable[[TfliteBuilder], int]:
    def build(b: TfliteBuilder) -> int:
        axes = b.constant(np.array([1, 2], np.int32))
        return b.operator("MEAN", [b.input, axes], (1, 1, 1, 3) if keep else (1, 3), "ReducerOptions", keepDims=keep)

    return build


def concat(b: TfliteBuilder) -> int:
    relu = b.operator("RELU_N1_TO_1", [b.input], (1, 7, 5, 3))
    return b.operator("CONCATENATION", [b.input, relu], (1, 7, 5, 6), "ConcatenationOptions", axis=-1)


def add_constant(b: TfliteBuilder) -> int:
    return b.operator("ADD", [b.input, b.weights(3)], (1, 7, 5, 3), "AddOptions", fusedActivationFunction=RELU_N1)


def half_weights(b: TfliteBuilder) -> int:
    stored = b.constant(np.random.default_rng(1).normal(size=(4, 6)).astype(np.float16))
    weights = b.operator("DEQUANTIZE", [stored], (4, 6))
    return b.operator("FULLY_CONNECTED", [b.input, weights, b.weights(4)], (1, 4), "FullyConnectedOptions")


def softmax(b: TfliteBuilder) -> int:
    return b.operator("SOFTMAX", [b.input], (1, 6), "SoftmaxOptions", beta=1.0)


def gate(b: TfliteBuilder) -> int:
    """An image times a number for each channel, as squeeze-and-excitation has it."""
    axes = b.constant(np.array([1, 2], np.int32))
    means = b.operator("MEAN", [b.input, axes], (1, 1, 1, 3), "ReducerOptions", keepDims=True)
    gates = b.operator("LOGISTIC", [means], (1, 1, 1, 3))
    return b.operator("MUL", [gates, b.input], (1, 7, 5, 3), "MulOptions", fusedActivationFunction=RELU)


def square(b: TfliteBuilder) -> int:
    flat = b.reshape(b.input, 1, 105)
    return b.reshape(b.operator("MUL", [flat, flat], (1, 105), "MulOptions"), 1, 7, 5, 3)


def scaled(b: TfliteBuilder) -> int:
    return b.operator("MUL", [b.weights(3), b.input], (1, 7, 5, 3), "MulOptions")


def leaky(b: TfliteBuilder) -> int:
    image = b.operator("LEAKY_RELU", [b.input], IMAGE, "LeakyReluOptions", alpha=0.25)
    return b.dense(b.operator("LOGISTIC", [b.reshape(image, 1, 105)], (1, 105)), 4)


IMAGE, VECTOR = (1, 7, 5, 3), (1, 6)
CASES: dict[str, tuple[Callable[[TfliteBuilder], int], tuple[int, ...], list[str]]] = {
    "max pool same": (pool("MAX_POOL_2D", SAME), IMAGE, ["MaxPool", "Clip"]),
    "max pool valid": (pool("MAX_POOL_2D", VALID), IMAGE, ["MaxPool", "Clip"]),
    "average pool same": (pool("AVERAGE_POOL_2D", SAME), IMAGE, ["AveragePool", "Clip"]),
    "average pool valid": (pool("AVERAGE_POOL_2D", VALID), IMAGE, ["AveragePool", "Clip"]),
    "flatten and dense": (flatten_dense, IMAGE, ["Conv", "Flatten", "Gemm"]),
    "dense to image": (dense_to_image, VECTOR, ["Gemm", "Relu", "Reshape", "Transpose", "Reshape", "Conv"]),
    "image through vectors": (image_through_vectors, IMAGE, ["Relu", "Add"]),
    "reshape that keeps channels": (lambda b: b.reshape(b.input, 1, 5, 7, 3), IMAGE, ["Reshape"]),
    "dense without flatten": (dense_without_flatten, IMAGE, ["Flatten", "Gemm"]),
    "dense without bias": (dense_without_bias, VECTOR, ["Gemm"]),
    "depthwise, multiplier 2": (depthwise, IMAGE, ["Conv", "Clip"]),
    "grouped conv": (grouped, (1, 7, 5, 4), ["Conv"]),
    "pad + conv": (pad_conv, IMAGE, ["Conv"]),
    "mean": (mean(False), IMAGE, ["GlobalAveragePool", "Flatten"]),
    "mean, kept": (mean(True), IMAGE, ["GlobalAveragePool"]),
    "concat": (concat, IMAGE, ["Clip", "Concat"]),
    "add constant": (add_constant, IMAGE, ["Conv", "Clip"]),
    "half-precision weights": (half_weights, VECTOR, ["Gemm"]),
    "softmax": (softmax, VECTOR, ["Softmax"]),
    "gate": (gate, IMAGE, ["GlobalAveragePool", "Sigmoid", "Mul", "Relu"]),
    "square": (square, IMAGE, ["Mul"]),
    "constant factor": (scaled, IMAGE, ["Conv"]),
    "leaky": (leaky, IMAGE, ["LeakyRelu", "Sigmoid", "Flatten", "Gemm"]),
}


@pytest.mark.parametrize("case", CASES)
def test_operator(case: str, tmp_path: Path) -> None:
    build, shape, expected = CASES[case]
    loaded = compare(finish(build, *shape), tmp_path)
    assert operators(loaded.onnx) == expected
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-4


def test_one_channel_vector_to_image(tmp_path: Path) -> None:
    """(1, 490) -> (1, 49, 10, 1): with one channel, NHWC and NCHW order agree."""

    def build(b: TfliteBuilder) -> int:
        return b.conv(b.reshape(b.input, 1, 49, 10, 1), 4, (10, 4), (1, 25, 5, 4), padding=SAME, strideH=2, strideW=2)

    loaded = compare(finish(build, 1, 490), tmp_path)
    assert loaded.input_shape == (1, 490)
    assert operators(loaded.onnx) == ["Reshape", "Conv"]


def test_target_shape_may_be_computed(tmp_path: Path) -> None:
    """Keras flattens through SHAPE and PACK; the tensor's static shape already tells the result."""

    def build(b: TfliteBuilder) -> int:
        target = b.operator("SHAPE", [b.input], (4,), "ShapeOptions", outType=2)
        b.graph.tensors[target].type = 2
        relu = b.operator("RELU", [b.input], IMAGE)
        return b.operator("RESHAPE", [relu, target], IMAGE, "ReshapeOptions")

    assert operators(compare(finish(build, *IMAGE), tmp_path).onnx) == ["Relu"]


def test_int8_weights_are_dequantized_per_channel(tmp_path: Path) -> None:
    """The source LiteRT runs in 8-bit arithmetic, so compare with the exact product of codes and scales."""
    rng = np.random.default_rng(2)
    codes = rng.integers(-127, 128, (4, 6)).astype(np.int8)
    scale = rng.uniform(0.01, 0.02, 4).astype(np.float32)

    def build(b: TfliteBuilder) -> int:
        weights = b.constant(codes)
        b.quantize(weights, scale, axis=0)
        return b.operator("FULLY_CONNECTED", [b.input, weights, -1], (1, 4), "FullyConnectedOptions")

    path = tmp_path / "hybrid.tflite"
    path.write_bytes(finish(build, *VECTOR))
    loaded = load(str(path))
    x = rng.random((1, 6), np.float32)
    exact = x.astype(np.float64) @ (codes.astype(np.float64) * scale.astype(np.float64)[:, None]).T
    np.testing.assert_allclose(run(loaded.onnx, x), exact, rtol=1e-5)
    assert "INT8 weights dequantized" in loaded.provenance
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kind=st.sampled_from(["CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D"]),
)
def test_same_padding(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], kind: str) -> None:
    """SAME puts the odd row and column at the bottom and right."""
    height, width = (-(-extent // step) for extent, step in zip(size, stride, strict=True))
    builder = TfliteBuilder(1, *size, 2)
    steps = {"padding": SAME, "strideH": stride[0], "strideW": stride[1]}
    if kind == "CONV_2D":
        output = builder.conv(builder.input, 3, kernel, (1, height, width, 3), **steps)
    else:
        window = {"filterHeight": kernel[0], "filterWidth": kernel[1]}
        output = builder.operator(kind, [builder.input], (1, height, width, 2), "Pool2DOptions", **steps, **window)
    blob = builder.finish(output)
    x = np.random.default_rng(0).normal(size=(1, *size, 2)).astype(np.float32)
    model = canonical_form(convert(parse(blob, "test"), "test"), channels_last=True).onnx
    expected = litert(blob, x).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run(model, x.transpose(0, 3, 1, 2)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_the_place_of_a_maximum(kind: str, tmp_path: Path) -> None:
    b = TfliteBuilder(1, 9)
    code = {"int32": 2, "int64": 4}[kind]
    place = b.operator(
        "ARG_MAX", [b.input, b.constant(np.array([1], np.int32))], (1,), "ArgMaxOptions", outputType=code
    )
    b.graph.tensors[place].type = code
    path = tmp_path / "net.tflite"
    path.write_bytes(b.finish(place))
    assert load(path).source_error == 0
