"""TFLite operators on tensors of any rank, along any axis: what LiteRT computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frontend.tflite_builder import TfliteBuilder
from tapc.frontend import load

IMAGE = (1, 7, 5, 3)
Build = Callable[[TfliteBuilder], int]


def ints(*values: Any) -> Any:
    return np.array(values, np.int32)


def unary(kind: str, shape: tuple[int, ...], *constants: Any, table: str = "", **options: Any) -> Build:
    """Return input -> RELU -> an operator with these constants behind its activation."""

    def build(b: TfliteBuilder) -> int:
        given = tuple(b.graph.tensors[b.input].shape)
        x = b.operator("RELU", [b.input], given)
        return b.operator(kind, [x, *(b.constant(c) for c in constants)], shape, table, **options)

    return build


def dilated_sequence(b: TfliteBuilder) -> int:
    """A causal convolution of every fourth step, as Keras writes it: steps apart are a batch of sequences."""
    x = b.operator("SPACE_TO_BATCH_ND", [b.input, b.constant(ints(4)), b.constant(ints([8, 0]))], (4, 7, 3))
    x = b.conv(b.reshape(x, 4, 1, 7, 3), 6, (1, 3), (4, 1, 5, 6), padding=1)
    x = b.reshape(x, 4, 5, 6)
    return b.operator("BATCH_TO_SPACE_ND", [x, b.constant(ints(4)), b.constant(ints([0, 0]))], (1, 20, 6))


def cut_image(b: TfliteBuilder) -> int:
    pads = b.constant(ints([1, 2], [0, 1]))
    x = b.operator("SPACE_TO_BATCH_ND", [b.input, b.constant(ints(2, 3)), pads], (6, 5, 2, 3))
    x = b.operator("RELU", [b.conv(x, 4, (3, 2), (6, 5, 2, 4), padding=0)], (6, 5, 2, 4))
    crops = b.constant(ints([1, 2], [0, 2]))
    return b.operator("BATCH_TO_SPACE_ND", [x, b.constant(ints(2, 3)), crops], (1, 7, 4, 4))


CASES: dict[str, tuple[Build, tuple[int, ...]]] = {
    "dilation": (lambda b: b.conv(b.input, 2, (2, 2), (1, 7, 5, 2), dilationHFactor=2, dilationWFactor=1), IMAGE),
    "an image as a vector": (lambda b: b.reshape(b.input, 1, 105), IMAGE),
    "interleaving": (lambda b: b.reshape(b.operator("RELU", [b.input], IMAGE), 1, 7, 3, 5), IMAGE),
    "mean of channels": (unary("MEAN", (1, 7, 5), ints(3), table="ReducerOptions"), IMAGE),
    "mean of a sequence": (unary("MEAN", (1, 5), ints(1), table="ReducerOptions"), (1, 9, 5)),
    "sum of rows": (unary("SUM", (1, 1, 5, 3), ints(1), table="ReducerOptions", keepDims=True), IMAGE),
    "maximum": (unary("REDUCE_MAX", (1, 3), ints(1, 2), table="ReducerOptions"), IMAGE),
    "rows side by side": (
        lambda b: b.operator("CONCATENATION", [b.input, b.operator("RELU", [b.input], IMAGE)], (1, 14, 5, 3),
                             "ConcatenationOptions", axis=1), IMAGE,
    ),
    "sum with a map": (lambda b: b.operator("ADD", [b.input, b.weights(7, 5, 3)], IMAGE, "AddOptions"), IMAGE),
    "dense layers of rows": (
        lambda b: b.operator("FULLY_CONNECTED", [b.input, b.weights(4, 3), -1], (35, 4), "FullyConnectedOptions"),
        IMAGE,
    ),
    "dense layers of a sequence": (
        lambda b: b.operator("FULLY_CONNECTED", [b.input, b.weights(4, 5), b.weights(4)], (1, 9, 4),
                             "FullyConnectedOptions", keepNumDims=True), (1, 9, 5),
    ),
    "softmax of an image": (unary("SOFTMAX", IMAGE, table="SoftmaxOptions", beta=1.0), IMAGE),
    "a sharper softmax": (lambda b: b.operator("SOFTMAX", [b.dense(b.input, 4)], (1, 4), "SoftmaxOptions", beta=2.0),
        IMAGE),
    "padded channels": (unary("PAD", (1, 7, 5, 4), ints([0, 0], [0, 0], [0, 0], [1, 0]), table="PadOptions"), IMAGE),
    "reflected": (
        unary("MIRROR_PAD", (1, 9, 5, 3), ints([0, 0], [1, 1], [0, 0], [0, 0]), table="MirrorPadOptions", mode=0),
        IMAGE,
    ),
    "permuted": (unary("TRANSPOSE", (1, 3, 7, 5), ints(0, 3, 1, 2), table="TransposeOptions"), IMAGE),
    "a box": (unary("SLICE", (1, 3, 5, 2), ints(0, 1, 0, 1), ints(1, 3, -1, 2), table="SliceOptions"), IMAGE),
    "every other column": (
        unary("STRIDED_SLICE", (1, 7, 2, 3), ints(0, 0, 1, 0), ints(1, 7, 5, 3), ints(1, 1, 2, 1),
              table="StridedSliceOptions", beginMask=0b1011, endMask=0b1011), IMAGE,
    ),
    "a row": (
        unary("STRIDED_SLICE", (1, 5, 3), ints(0, -2, 0, 0), ints(0, -1, 0, 0), ints(1, 1, 1, 1),
              table="StridedSliceOptions", beginMask=0b1101, endMask=0b1101, shrinkAxisMask=0b10), IMAGE,
    ),
    "chosen": (unary("GATHER", (1, 7, 4, 3), ints(3, 0, 0, 1), table="GatherOptions", axis=2), IMAGE),
    "tiles": (unary("TILE", (1, 7, 10, 3), ints(1, 1, 2, 1), table="TileOptions"), IMAGE),
    "from the end": (unary("REVERSE_V2", IMAGE, ints(2), table="ReverseV2Options"), IMAGE),
    "nearest": (
        unary("RESIZE_NEAREST_NEIGHBOR", (1, 14, 8, 3), ints(14, 8), table="ResizeNearestNeighborOptions"), IMAGE,
    ),
    "nearest, half pixels": (
        unary("RESIZE_NEAREST_NEIGHBOR", (1, 10, 8, 3), ints(10, 8), table="ResizeNearestNeighborOptions",
              halfPixelCenters=True), IMAGE,
    ),
    "nearest, corners": (
        unary("RESIZE_NEAREST_NEIGHBOR", (1, 13, 8, 3), ints(13, 8), table="ResizeNearestNeighborOptions",
              alignCorners=True), IMAGE,
    ),
    "depth to space": (unary("DEPTH_TO_SPACE", (1, 4, 6, 3), table="DepthToSpaceOptions", blockSize=2), (1, 2, 3, 12)),
    "space to depth": (unary("SPACE_TO_DEPTH", (1, 2, 3, 12), table="SpaceToDepthOptions", blockSize=2), (1, 4, 6, 3)),
    "a dilated sequence": (dilated_sequence, (1, 20, 3)),
    "an image cut apart": (cut_image, IMAGE),
    "a choice of places": (unary("GATHER_ND", (2, 5, 3), ints([0, 6], [0, 2]), table="GatherNdOptions"), IMAGE),
    "a sequence": (lambda b: b.operator("RELU", [b.input], (1, 7, 5)), (1, 7, 5)),
    "transposed convolution": (
        lambda b: b.operator("TRANSPOSE_CONV", [b.constant(ints(1, 14, 10, 2)), b.weights(2, 3, 3, 3), b.input],
                             (1, 14, 10, 2), "TransposeConvOptions", padding=0, strideH=2, strideW=2), IMAGE,
    ),
    "transposed convolution, valid": (
        lambda b: b.operator("TRANSPOSE_CONV", [b.constant(ints(1, 15, 11, 2)), b.weights(2, 3, 3, 3), b.input],
                             (1, 15, 11, 2), "TransposeConvOptions", padding=1, strideH=2, strideW=2), IMAGE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_operator(case: str, tmp_path: Path) -> None:
    build, shape = CASES[case]
    builder = TfliteBuilder(*shape)
    path = tmp_path / "net.tflite"
    path.write_bytes(builder.finish(build(builder)))
    loaded = load(path)
    assert "checked against LiteRT" in loaded.provenance
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-5
