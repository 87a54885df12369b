"""TFLite's operators, one a file, kept as they are: equal to TFLite-Micro, byte for byte."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize.kept import assert_kept
from tapc.base.errors import UnsupportedError
from tapc.frontend import load
from tflite_micro_files import Int8Builder, Quantization

OWN = Quantization(0.05, 3)
MAP = (1, 4, 5, 3)


def vector(b: Int8Builder, *values: int) -> int:
    return b.constant(np.array(values, np.int32))


def codes(b: Int8Builder, *shape: int, scale: float = 0.05, zero: int = 3) -> int:
    index = b.constant(b.rng.integers(-128, 128, shape).astype(np.int8))
    b.quantize(index, np.array([scale], np.float32), 0, zero)
    return index


def of_constants(
    kind: str, shape: tuple[int, ...], q: Quantization, table: str = "", *values: Any, **options: Any
) -> Any:
    """Return what makes an operator of the input and of vectors of integers."""
    return lambda b: b.node(
        kind, [b.input, *(b.constant(np.array(v, np.int32)) for v in values)], shape, q, table, **options
    )


def transposed_convolution(b: Int8Builder, *window: int) -> int:
    """A window that the stride divides becomes parts of as many values in all."""
    weights = b.rng.integers(-127, 128, (5, *(window or (3, 3)), 3)).astype(np.int8)
    w, bias = b.constant(weights), b.constant(b.rng.integers(-500, 500, 5).astype(np.int32))
    b.quantize(w, b.rng.uniform(0.002, 0.01, 5).astype(np.float32), 0)
    b.quantize(bias, np.full(5, 0.0003, np.float32), 0)
    inputs = [vector(b, 1, 8, 10, 5), w, b.input, bias]
    options = {"strideW": 2, "strideH": 2, "padding": 0}
    return b.node("TRANSPOSE_CONV", inputs, (1, 8, 10, 5), Quantization(0.15, 3), "TransposeConvOptions", **options)


def product_with_itself(b: Int8Builder) -> int:
    turned = b.node("TRANSPOSE", [b.input, vector(b, 0, 1, 3, 2)], (1, 4, 3, 5), OWN, "TransposeOptions")
    return b.node("BATCH_MATMUL", [b.input, turned], (1, 4, 5, 5), Quantization(0.2, 3), "BatchMatMulOptions")


def joined(b: Int8Builder) -> int:
    parts = [b.input, b.node("RELU", [b.input], MAP, OWN)]
    return b.node("CONCATENATION", parts, (1, 4, 5, 6), OWN, "ConcatenationOptions", axis=3)


def product_with_constants(b: Int8Builder) -> int:
    weights = b.constant(b.rng.integers(-100, 101, (1, 4, 3, 7)).astype(np.int8))
    b.quantize(weights, np.array([0.02], np.float32), 0, 5)
    return b.node("BATCH_MATMUL", [b.input, weights], (1, 4, 5, 7), Quantization(0.2, 3), "BatchMatMulOptions")


def constants_by_matrix(b: Int8Builder) -> int:
    weights = codes(b, 7, 5, zero=0)
    return b.node("BATCH_MATMUL", [weights, b.input], (1, 4, 7, 3), Quantization(0.3, 3), "BatchMatMulOptions")


def turned_constants(b: Int8Builder) -> int:
    weights, shape = codes(b, 1, 4, 7, 3, zero=0), (1, 4, 5, 7)
    return b.node("BATCH_MATMUL", [b.input, weights], shape, Quantization(0.2, 3), "BatchMatMulOptions", adjY=True)


def computed_weights(b: Int8Builder) -> int:
    rows = b.node("RESHAPE", [b.input, vector(b, 20, 3)], (20, 3), OWN)
    inner = b.node("FULLY_CONNECTED", [rows, rows], (20, 20), Quantization(0.2, 3), "FullyConnectedOptions")
    return b.node("RESHAPE", [inner, vector(b, 1, 20, 20)], (1, 20, 20), Quantization(0.2, 3))


def beside_constants(b: Int8Builder) -> int:
    given = b.constant(np.arange(-128, 128, 6.4).reshape(1, 4, 5, 2).astype(np.int8))  # with the lowest code
    b.quantize(given, np.array([OWN.scale], np.float32), 0, OWN.zero)
    return b.node("CONCATENATION", [b.input, given], (1, 4, 5, 5), OWN, "ConcatenationOptions", axis=3)


def cut_apart(b: Int8Builder) -> int:
    """A dilated convolution as TensorFlow writes it: every second row and column a map of its own."""
    sizes, none = vector(b, 2, 2), b.constant(np.zeros((2, 2), np.int32))
    pads = b.constant(np.array([[0, 0], [1, 3], [0, 1], [0, 0]], np.int32))
    wide = b.node("PAD", [b.input, pads], (1, 8, 6, 3), OWN, "PadOptions")
    parts = b.node("SPACE_TO_BATCH_ND", [wide, sizes, none], (4, 4, 3, 3), OWN, "SpaceToBatchNDOptions")
    weights, scales = b.rng.integers(-127, 128, (6, 3, 2, 3)).astype(np.int8), b.rng.uniform(0.002, 0.01, 6)
    made = b.layer(
        "CONV_2D", parts, weights, scales.astype(np.float32), 0, (4, 2, 2, 6), Quantization(0.15, -5), "Conv2DOptions",
        padding=1, strideH=1, strideW=1,
    )  # fmt: skip
    turned = b.node("LEAKY_RELU", [made], (4, 2, 2, 6), Quantization(0.1, 5), "LeakyReluOptions", alpha=0.1)
    crops = b.constant(np.array([[0, 1], [0, 0]], np.int32))
    inputs = [turned, sizes, crops]
    return b.node("BATCH_TO_SPACE_ND", inputs, (1, 3, 4, 6), Quantization(0.1, 5), "BatchToSpaceNDOptions")


PADS = [[0, 0], [1, 2], [0, 1], [0, 0]]
OPERATORS: dict[str, Callable[[Int8Builder], int]] = {
    "prelu": lambda b: b.node("PRELU", [b.input, codes(b, 1, 1, 3, scale=0.01)], MAP, Quantization(0.04, -5)),
    "prelu, one slope": lambda b: b.node("PRELU", [b.input, codes(b, 1, 1, 1, scale=0.01)], MAP, Quantization(0.04, 5)),
    "prelu, a slope per element": lambda b: b.node(
        "PRELU", [b.input, codes(b, 4, 5, 3, scale=0.01)], MAP, Quantization(0.04, -5)
    ),
    "maximum": lambda b: b.node("MAXIMUM", [b.input, codes(b, 1, 1, 1, 3)], MAP, OWN, "MaximumMinimumOptions"),
    "concatenation": joined,
    "concatenation with constants": beside_constants,
    "pad": of_constants("PAD", (1, 7, 6, 3), OWN, "PadOptions", PADS),
    "pad, edges repeated": of_constants("MIRROR_PAD", (1, 7, 6, 3), OWN, "MirrorPadOptions", PADS, mode=1),
    "resize, nearest": of_constants(
        "RESIZE_NEAREST_NEIGHBOR", (1, 8, 10, 3), OWN, "ResizeNearestNeighborOptions", [8, 10]
    ),
    "resize": of_constants("RESIZE_BILINEAR", (1, 8, 9, 3), OWN, "ResizeBilinearOptions", [8, 9]),
    "resize, half pixels": of_constants(
        "RESIZE_BILINEAR", (1, 9, 8, 3), OWN, "ResizeBilinearOptions", [9, 8], halfPixelCenters=True
    ),
    "resize, corners": of_constants(
        "RESIZE_BILINEAR", (1, 9, 8, 3), OWN, "ResizeBilinearOptions", [9, 8], alignCorners=True
    ),
    "mean of channels": of_constants("MEAN", (1, 4, 5), Quantization(0.02, 1), "ReducerOptions", [3]),
    "mean of rows": of_constants("MEAN", (1, 5, 3), Quantization(0.02, 1), "ReducerOptions", [1]),
    "mean of columns": of_constants("MEAN", (1, 4, 3), Quantization(0.02, 1), "ReducerOptions", [2]),
    "sum of rows": of_constants("SUM", (1, 5, 3), Quantization(0.12, 1), "ReducerOptions", [1]),
    "sum of pixels": of_constants("SUM", (1, 1, 1, 3), Quantization(0.4, 7), "ReducerOptions", [1, 2], keepDims=True),
    "smallest": of_constants("REDUCE_MIN", (1, 5, 3), OWN, "ReducerOptions", [1]),
    "largest": of_constants("REDUCE_MAX", (1, 3), OWN, "ReducerOptions", [1, 2]),
    "length 1": of_constants("L2_NORMALIZATION", MAP, Quantization(1 / 128, 0), "L2NormOptions"),
    "log softmax": of_constants("LOG_SOFTMAX", MAP, Quantization(1 / 16, 127), "LogSoftmaxOptions"),
    "softmax": of_constants("SOFTMAX", MAP, Quantization(1 / 256, -128), "SoftmaxOptions", beta=1.0),
    "slice": of_constants(
        "STRIDED_SLICE", (1, 2, 3, 3), OWN, "StridedSliceOptions", [0, 1, 0, 0], [1, 3, 5, 3], [1, 1, 2, 1]
    ),
    "transposed convolution": transposed_convolution,
    "transposed convolution, even": lambda b: transposed_convolution(b, 2, 4),
    "batch matmul": product_with_itself,
    "batch matmul by constants": product_with_constants,
    "batch matmul by turned constants": turned_constants,
    "batch matmul of a constant": constants_by_matrix,
    "computed weights": computed_weights,
    "cut apart, convolved, joined": cut_apart,
    "gather, batched": of_constants("GATHER", (1, 2, 5, 3), OWN, "GatherOptions", [[3, 1]], axis=1, batchDims=1),
    "gather of rows": of_constants("GATHER_ND", (1, 2, 5, 3), OWN, "GatherNdOptions", [[[0, 1], [0, 3]]]),
    "relu6": of_constants("RELU6", MAP, OWN),
    "elu": of_constants("ELU", MAP, Quantization(0.05, -100)),
    "abs": of_constants("ABS", MAP, Quantization(0.04, -128), "AbsOptions"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str, tmp_path: Path) -> None:
    b = Int8Builder(*MAP, quantization=OWN, seed=len(name))
    expected = assert_kept(b, OPERATORS[name](b), OWN.zero, tmp_path)
    assert len(np.unique(expected)) > 20


def test_sum_of_several_is_refused_where_it_is_kept(tmp_path: Path) -> None:
    """TFLite begins its sum at the negative of the zero point instead of at 0."""
    b = Int8Builder(*MAP, quantization=OWN)
    path = tmp_path / "net.tflite"
    path.write_bytes(b.finish(b.node("ADD_N", [b.input, b.input], MAP, Quantization(0.1, 3), "AddNOptions")))
    with pytest.raises(UnsupportedError, match=r"ADD_N.*a zero point too many.*--requantize"):
        load(path)
    assert load(path, keep=False).given is None
