"""Networks over windows of time, for tests: canonical float graphs of any number of frames with the same weights."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tapc.frontend.canonical import canonicalize

FEATURES = 10


class _Nodes:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, *inputs: str, to: str = "", **attributes: object) -> str:
        to = to or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [to], name=to, **attributes))
        return to

    def constant(self, value: object) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def conv(self, x: str, inputs: int, outputs: int, kernel: tuple[int, ...], **attributes: object) -> str:
        groups = int(attributes.get("group", 1))  # type: ignore[call-overload]
        shape = (outputs, inputs // groups, *kernel)
        weights = self.rng.normal(0, 1.6 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        bias = self.rng.normal(0, 0.1, outputs).astype(np.float32)
        return self(
            "Conv", x, self.constant(weights), self.constant(bias), kernel_shape=list(kernel), **attributes
        )  # fmt: skip

    def crop(self, x: str, first: int, last: int) -> str:
        return self("Slice", x, *(self.constant(np.array([value])) for value in (first, last, 2)))

    def built(self, shape: tuple[int, ...], output: str) -> onnx.ModelProto:
        self("Identity", output, to="y")
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "net", [info("x", TensorProto.FLOAT, shape)], [info("y", TensorProto.FLOAT, None)],
            self.constants,
        )  # fmt: skip
        return canonicalize(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def tcn(frames: int = 40, chomp: bool = False, right: int = 0) -> onnx.ModelProto:
    """Return dilated causal convolutions with residuals: their padding on the left, or on both sides and cut off."""
    g = _Nodes()
    y, width = "x", FEATURES
    for dilation in (1, 2, 4):
        z, inputs = y, width
        for _ in range(2):
            before = 2 * dilation
            pads = [before, before] if chomp else [before - right, right]
            z = g.conv(z, inputs, 8, (3,), dilations=[dilation], pads=pads)
            z = g("Relu", g.crop(z, 0, -before) if chomp else z)
            inputs = 8
        y = g("Relu", g("Add", z, y if width == 8 else g.conv(y, width, 8, (1,))))
        width = 8
    return g.built((1, FEATURES, frames), g.conv(y, 8, 4, (1,)))


def ds_cnn(frames: int = 25, stride: int = 1, mean: bool = True, pad: int = 0) -> onnx.ModelProto:
    """Return a small keyword spotter over (time, features) that pads frequencies alone, with a mean or a dense head."""
    g = _Nodes()
    y = g.conv("x", 1, 8, (5, 4), strides=[stride, 2], pads=[pad, 1, pad, 1])
    for _ in range(2):
        y = g.conv(g("Relu", y), 8, 8, (3, 3), group=8, pads=[0, 1, 0, 1])
        y = g.conv(g("Relu", y), 8, 8, (1, 1))
    y = g("Relu", y)
    if mean:
        y = g("GlobalAveragePool", y)
    y = g("Flatten", y)
    left = (frames + 2 * pad - 5) // stride + 1 - 4
    weights = g.rng.normal(0, 0.3, (8 if mean else 8 * left * 5, 6)).astype(np.float32)
    return g.built((1, 1, frames, FEATURES), g("Softmax", g("MatMul", y, g.constant(weights)), axis=-1))


def mixed(frames: int = 36) -> onnx.ModelProto:
    """Return convolutions without padding, a stride, a pool, a residual that is cropped and a concatenation."""
    g = _Nodes()
    y = g("Relu", g.conv("x", FEATURES, 8, (3,)))
    z = g("Relu", g.conv(y, 8, 8, (3,), dilations=[2]))
    z = g("Add", z, g.crop(y, 4, frames - 2))
    z = g("Concat", z, g("Sigmoid", g.conv(z, 8, 4, (1,))), axis=1)
    z = g("Relu", g.conv(z, 12, 8, (4,), strides=[2]))
    return g.built((1, FEATURES, frames), g("MaxPool", z, kernel_shape=[2], strides=[2]))


def both_sides(frames: int = 40) -> onnx.ModelProto:
    """Return convolutions with as much padding on the right of time as on the left."""
    g = _Nodes()
    y = g("Relu", g.conv("x", FEATURES, 8, (3,), pads=[1, 1]))
    return g.built((1, FEATURES, frames), g("Add", g.conv(y, 8, FEATURES, (5,), pads=[2, 2]), "x"))


def time_last(frames: int = 14) -> onnx.ModelProto:
    """Return convolutions over (features, time), and a dense head over all frames of one channel."""
    g = _Nodes()
    y = g("Relu", g.conv("x", 1, 8, (4, 3), strides=[3, 1], pads=[0, 2, 0, 0]))
    y = g("Relu", g.conv(y, 8, 8, (3, 3), group=8, pads=[1, 0, 1, 0]))
    y = g("Flatten", g("Relu", g.conv(y, 8, 1, (3, 1))))
    weights = g.rng.normal(0, 0.3, (frames - 2, 3)).astype(np.float32)
    return g.built((1, 1, FEATURES, frames), g("MatMul", y, g.constant(weights)))


def excitation(frames: int = 20) -> onnx.ModelProto:
    """Return a product of frames and of their mean."""
    g = _Nodes()
    y = g.conv("x", FEATURES, 8, (3,))
    mean = g("ReduceMean", y, axes=[2], keepdims=1)
    return g.built((1, FEATURES, frames), g("Mul", y, g("Sigmoid", mean)))


FRAMEWISE: dict[str, Callable[..., onnx.ModelProto]] = {
    "tcn": tcn,
    "cut off": lambda frames=40: tcn(frames, chomp=True),
    "mixed": mixed,
    "both sides": both_sides,
}
"""Networks that give something for every frame, or every so manieth."""
