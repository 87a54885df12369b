"""Intervals hold every value that inputs of any size give, and are attained where that is simple."""

import numpy as np
import onnx
import pytest

from graph_builder import Builder, everything, residual
from tapc.graph.analysis import Graph
from tapc.quantize.reach import reaches
from tapc.quantize.runtime import session


@pytest.mark.parametrize("make", [everything, residual])
@pytest.mark.parametrize("size", [0.1, 10.0, 1e4])
def test_values_lie_within(make: type, size: float) -> None:
    model = make().onnx
    graph = Graph(model)
    names = [str(node.output[0]) for node in graph.nodes]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    bounds = reaches(graph)
    runner = session(exposed, optimized=False)
    for seed in range(4):
        x = np.random.default_rng(seed).normal(0, size, graph.shape("x")).astype(np.float32)
        for name, value in zip(names, runner.run(names, {"x": x}), strict=True):
            by_channel = value.reshape(value.shape[1], -1).astype(np.float64)
            slack = 1e-5 * np.abs(by_channel).max(axis=1) + 1e-6
            assert np.all(by_channel >= bounds[name].low[:, None] - slack[:, None]), name
            assert np.all(by_channel <= bounds[name].high[:, None] + slack[:, None]), name


def test_a_layer_behind_a_clip_is_bounded_by_its_weights() -> None:
    b = Builder((1, 2, 1, 1))
    y = b.clip("x", "clip", -1.0, 2.0)
    w = b.constant("w", np.array([[3.0, -1.0], [0.0, 0.5]], np.float32).reshape(2, 2, 1, 1))
    bias = b.constant("b", np.array([0.5, -4.0], np.float32))
    model = b.build(b.node("Conv", [y, w, bias], "conv"))
    found = reaches(Graph(model.onnx))
    assert found["conv_out"].low.tolist() == [-3 - 2 + 0.5, -0.5 - 4]
    assert found["conv_out"].high.tolist() == [6 + 1 + 0.5, 1 - 4]


def test_weights_of_zero_take_nothing_from_what_has_no_bound() -> None:
    b = Builder((1, 2, 1, 1))
    w = b.constant("w", np.array([[0.0, 0.0], [0.0, 1.0]], np.float32).reshape(2, 2, 1, 1))
    model = b.build(b.node("Conv", ["x", w, b.constant("b", np.array([3.0, 1.0], np.float32))], "conv"))
    found = reaches(Graph(model.onnx))["conv_out"]
    assert (found.low[0], found.high[0]) == (3.0, 3.0)
    assert (found.low[1], found.high[1]) == (-np.inf, np.inf)
