"""Small canonical float ONNX graphs with random weights, for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Model:
    """The one attribute of a frontend's model that quantization reads."""

    onnx: onnx.ModelProto


class Builder:
    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.shape = shape
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(
        self, x: str, name: str, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> str:
        fan = inputs // groups * kernel * kernel
        weights = self.rng.normal(0, np.sqrt(2 / fan), (outputs, inputs // groups, kernel, kernel))
        w = self.constant(f"{name}.weight", weights.astype(np.float32))
        b = self.constant(f"{name}.bias", self.rng.normal(0, 0.1, outputs).astype(np.float32))
        pad = [kernel // 2] * 4
        return self.node(
            "Conv", [x, w, b], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pad, group=groups
        )

    def gemm(self, x: str, name: str, inputs: int, outputs: int) -> str:
        w = self.constant(f"{name}.weight", self.rng.normal(0, 0.3, (outputs, inputs)).astype(np.float32))
        b = self.constant(f"{name}.bias", self.rng.normal(0, 0.1, outputs).astype(np.float32))
        return self.node("Gemm", [x, w, b], name, transB=1)

    def clip(self, x: str, name: str, low: float, high: float) -> str:
        bounds = [self.constant(f"{name}.{end}", np.float32(value)) for end, value in (("low", low), ("high", high))]
        return self.node("Clip", [x, *bounds], name)

    def reshape(self, x: str, name: str, target: list[int]) -> str:
        return self.node("Reshape", [x, self.constant(f"{name}.shape", np.array(target, np.int64))], name)

    def pad(self, x: str, name: str, pads: list[int]) -> str:
        names = [self.constant(f"{name}.pads", np.array(pads, np.int64)), self.constant(f"{name}.zero", np.float32(0))]
        return self.node("Pad", [x, *names], name, mode="constant")

    def build(
        self, *outputs: str, inputs: Mapping[str, tuple[int, ...]] | None = None, tokens: Sequence[str] = ()
    ) -> Model:
        """Return the network; `inputs` are those beside `x`."""
        shapes = {"x": self.shape, **(inputs or {})}
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
            initializer=self.initializers,
        )
        for name in tokens:
            next(v for v in graph.input if v.name == name).type.tensor_type.elem_type = TensorProto.INT64
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
        return Model(model)


def residual(seed: int = 0) -> Model:
    """Two residual blocks, the first on the stem's output, the second with a projection; logits out."""
    b = Builder((1, 3, 12, 12), seed)
    stem = b.node("Relu", [b.conv("x", "stem", 3, 8)], "stem.relu")
    y = b.node("Relu", [b.conv(stem, "a1", 8, 8)], "a1.relu")
    y = b.conv(y, "a2", 8, 8)
    block = b.node("Relu", [b.node("Add", [y, stem], "a.add")], "a.relu")
    y = b.node("Relu", [b.conv(block, "b1", 8, 16, stride=2)], "b1.relu")
    y = b.conv(y, "b2", 16, 16)
    short = b.conv(block, "b.short", 8, 16, kernel=1, stride=2)
    y = b.node("Relu", [b.node("Add", [y, short], "b.add")], "b.relu")
    y = b.node("GlobalAveragePool", [y], "pool")
    y = b.node("Flatten", [y], "flatten", axis=1)
    return b.build(b.gemm(y, "fc", 16, 5))


def everything(seed: int = 0) -> Model:
    """Every canonical operator once: depthwise, Clip, MaxPool, Pad, AveragePool, Concat, Reshape, Softmax."""
    b = Builder((1, 4, 8, 8), seed)
    dw = b.clip(b.conv("x", "dw", 4, 4, groups=4), "dw.clip", 0.0, 6.0)
    left = b.node("MaxPool", [dw], "max", kernel_shape=[2, 2], strides=[2, 2])
    right = b.node("AveragePool", [dw], "avg", kernel_shape=[2, 2], strides=[2, 2])
    right = b.node("Relu", [right], "lone.relu")
    joined = b.node("Concat", [left, right], "cat", axis=1)
    padded = b.pad(joined, "pad", [0, 0, 0, 1, 0, 0, 1, 0])
    y = b.conv(padded, "grouped", 8, 6, groups=2)
    y = b.node("GlobalAveragePool", [y], "pool")
    y = b.reshape(y, "reshape", [1, 6])
    y = b.node("Relu", [b.gemm(y, "fc1", 6, 7)], "fc1.relu")
    return b.build(b.node("Softmax", [b.gemm(y, "fc2", 7, 4)], "softmax", axis=-1))


def pooled(seed: int = 0) -> Model:
    """Two convolutions with max-pooling behind them, windows of 2 x 2 and of 3 x 3, and a dense layer."""
    b = Builder((1, 3, 14, 14), seed)
    y = b.node("Relu", [b.conv("x", "c1", 3, 8)], "c1.relu")
    y = b.node("MaxPool", [y], "p1", kernel_shape=[2, 2], strides=[2, 2])
    y = b.node("MaxPool", [b.conv(y, "c2", 8, 12)], "p2", kernel_shape=[3, 3], strides=[3, 3])
    y = b.node("Relu", [y], "p2.relu")
    return b.build(b.gemm(b.node("Flatten", [y], "flatten", axis=1), "fc", 48, 5))


def dead(seed: int = 0) -> Model:
    """MobileNet blocks and a residual block with channels that training has zeroed, biases left."""
    b = Builder((1, 3, 12, 12), seed)
    rng = np.random.default_rng(seed + 1)

    def zero(name: str, count: int) -> None:
        weights, bias = (numpy_helper.to_array(t).copy() for t in b.initializers[-2:])
        rows = rng.choice(len(weights), count, replace=False)
        weights[rows], bias[rows] = 0, rng.choice([-0.5, 0.0, 0.7], count)
        b.initializers[-2:] = [
            numpy_helper.from_array(value.astype(np.float32), f"{name}.{part}")
            for value, part in ((weights, "weight"), (bias, "bias"))
        ]

    def layer(x: str, name: str, inputs: int, outputs: int, count: int, **kind: int) -> str:
        y = b.conv(x, name, inputs, outputs, **kind)
        zero(name, count)
        return b.node("Relu", [y], f"{name}.relu")

    y = layer("x", "stem", 3, 9, 2, stride=2)
    for i, outputs in enumerate((14, 14)):
        inputs = (9, 14)[i]
        y = layer(y, f"dw{i}", inputs, inputs, 1, groups=inputs)
        y = layer(y, f"pw{i}", inputs, outputs, 6, kernel=1)
    side = layer(y, "side", 14, 14, 5)
    y = b.node("Add", [b.conv(side, "back", 14, 14), y], "add")
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flatten", axis=1)
    return b.build(b.gemm(y, "fc", 14, 5))


def pair(seed: int = 0) -> Model:
    """Two inputs, a picture and a map of depths that are added, and three numbers that are joined late.

    Three outputs: the sum's map, which goes on; classes; and the numbers themselves, in another shape.
    """
    b = Builder((1, 3, 8, 8), seed)
    both = b.node("Add", [b.conv("x", "picture", 3, 6), b.conv("depth", "depths", 1, 6)], "sum")
    y = b.node("Relu", [both], "sum.relu")
    z = b.conv(y, "behind", 6, 4, stride=2)
    flat = b.node("Flatten", [b.node("GlobalAveragePool", [z], "pool")], "flat", axis=1)
    joined = b.node("Concat", [flat, "numbers"], "joined", axis=1)
    scores = b.node("Softmax", [b.gemm(joined, "fc", 7, 4)], "scores", axis=1)
    numbers = b.reshape("numbers", "numbers.copy", [1, 3])
    return b.build(y, scores, numbers, inputs={"depth": (1, 1, 8, 8), "numbers": (1, 3)})


def words(seed: int = 0, rows: int = 23, features: int = 10) -> Model:
    """Seven tokens, their vectors, a convolution over them, the mean, classes."""
    b = Builder((1, 1, 7, 1), seed)
    table = b.constant("embed.weight", b.rng.normal(0, 1, (rows, features)).astype(np.float32))
    vectors = b.node("Transpose", [b.node("GatherND", [table, "x"], "embed")], "embed.order", perm=[0, 3, 1, 2])
    y = b.node("Relu", [b.conv(vectors, "conv", features, 6)], "relu")
    flat = b.node("Flatten", [b.node("GlobalAveragePool", [y], "mean")], "flat", axis=1)
    return b.build(b.gemm(flat, "fc", 6, 4), tokens=("x",))
