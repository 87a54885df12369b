"""Networks that keep something between calls, as ONNX files of several kinds, for tests."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class _Nodes:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant((self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32))

    def __call__(self, op: str, *inputs: str, to: str = "", **attributes: object) -> str:
        to = to or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [to], **attributes))
        return to

    def save(self, path: Path, inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]) -> Path:
        def infos(values: dict[str, tuple[int, ...]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]

        graph = helper.make_graph(self.nodes, "g", infos(inputs), infos(outputs), self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path


def cell(path: Path, n: int = 6, kept: int = 8, outputs: int = 3, lead: tuple[int, ...] = (1,), seed: int = 0) -> Path:
    """Write h' = tanh(Wx + Uh + b), y = Vh'; the state stands before the input, and has these axes before its own."""
    g = _Nodes(seed)
    width = int(np.prod(lead)) * kept
    h = g("Reshape", "h_in", g.constant(np.array([1, width], np.int64)))
    total = g("Add", g("MatMul", "x", g.weights(n, width)), g("MatMul", h, g.weights(width, width)))
    new = g("Tanh", g("Add", total, g.weights(width)))
    g("Reshape", new, g.constant(np.array([*lead, kept], np.int64)), to="h_out")
    g("MatMul", new, g.weights(width, outputs), to="y")
    state = (*lead, kept)
    return g.save(path, {"h_in": state, "x": (1, n)}, {"h_out": state, "y": (1, outputs)})


def window(path: Path, channels: int = 4, frames: int = 5, outputs: int = 3, seed: int = 0) -> Path:
    """Write a convolution over the last frames: the window moves on by one frame a call."""
    g = _Nodes(seed)
    whole = g("Concat", "past", "x", axis=2)
    ends = [g.constant(np.array([value], np.int64)) for value in (1, frames, 2)]
    g("Slice", whole, *ends, to="past_out")
    made = g("Relu", g("Conv", whole, g.weights(outputs, channels, frames, 1), kernel_shape=[frames, 1]))
    g("Flatten", made, to="y")
    state = (1, channels, frames - 1, 1)
    return g.save(path, {"x": (1, channels, 1, 1), "past": state}, {"y": (1, outputs), "past_out": state})


def delays(path: Path, width: int = 4) -> Path:
    """Write two delays in a row, of which the second's value is an output as it is: y is the input two calls before."""
    g = _Nodes(0)
    g("Identity", "x", to="a_out")
    g("Identity", "a", to="b_out")
    g("Identity", "b", to="y")
    g("Add", "a", "b", to="sum")
    shape = (1, width)
    return g.save(path, dict.fromkeys(("x", "a", "b"), shape), dict.fromkeys(("y", "a_out", "b_out", "sum"), shape))


def joined(path: Path, n: int = 5, kept: int = 6, seed: int = 0) -> Path:
    """Write h' = tanh(W [x, h] + b), y = Vh'."""
    g = _Nodes(seed)
    whole = g("Concat", "x", "h", axis=1)
    g("Tanh", g("Gemm", whole, g.weights(n + kept, kept), g.weights(kept)), to="h_out")
    g("MatMul", "h_out", g.weights(kept, 3), to="y")
    return g.save(path, {"x": (1, n), "h": (1, kept)}, {"y": (1, 3), "h_out": (1, kept)})


def lstm(path: Path, n: int = 5, kept: int = 6, seed: int = 0) -> Path:
    """Write a step of an LSTM, which reads and gives both of its states, and a dense layer of its result."""
    g = _Nodes(seed)
    parts = [g.weights(1, 4 * kept, n), g.weights(1, 4 * kept, kept), g.weights(1, 8 * kept)]
    results = ["all", "hn", "cn"]
    g.nodes.append(helper.make_node("LSTM", ["x", *parts, "", "h", "c"], results, name="lstm", hidden_size=kept))
    g("MatMul", g("Reshape", "hn", g.constant(np.array([1, kept], np.int64))), g.weights(kept, 3), to="y")
    states = dict.fromkeys(("h", "c"), (1, 1, kept))
    return g.save(path, {"x": (1, 1, n), **states}, {"y": (1, 3), **dict.fromkeys(("hn", "cn"), (1, 1, kept))})
