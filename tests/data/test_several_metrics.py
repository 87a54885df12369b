"""Metrics of networks with several outputs: accuracy of the one that names classes, errors of all."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graph_builder import pair
from tapc.base.errors import DataError
from tapc.data import Samples
from tapc.data.choice import choose
from tapc.data.figures import least_sqnr
from tapc.data.metrics import agreement, measure

X = np.zeros((3, 259), np.float32)


def test_the_output_of_classes_is_measured() -> None:
    samples = Samples(X, np.array([0, 3, 2]), "d")
    metric = choose("auto", samples, pair().onnx)
    assert (metric.name, metric.outputs, metric.span) == ("top1", 4, (384, 388))
    outputs = np.zeros((3, 391), np.float32)
    outputs[:, 384:388] = np.eye(4)[[0, 3, 1]]
    outputs[:, 388:] = 9
    assert measure(metric, outputs, samples).share == pytest.approx(200 / 3)
    assert agreement(metric, outputs, outputs[[0, 1, 0]]) == pytest.approx(200 / 3)


def test_without_labels_or_one_output_of_classes_there_is_none() -> None:
    assert "no labels" in choose("auto", Samples(X, None, "d"), pair().onnx).reason
    nodes = [helper.make_node("Relu", ["x"], [name]) for name in ("a", "b")]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in ("x", "a", "b")]
    twins = helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:]))
    samples = Samples(np.zeros((3, 4), np.float32), np.array([0, 3, 2]), "d")
    assert choose("auto", samples, twins).reason == "several outputs (a, b)"
    with pytest.raises(DataError, match="several outputs"):
        choose("top1", samples, twins)


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="labels from 0 to 4, the network has 4 outputs"):
        choose("auto", Samples(X, np.array([0, 4, 2]), "d"), pair().onnx)


def test_signal_to_noise_is_that_of_the_worst_output() -> None:
    exact = np.float32([[1000, 1], [1000, 1]])
    found = exact + np.float32([[0, 0.1], [0, 0.1]])
    assert least_sqnr([1, 1], exact, found) == pytest.approx(20, abs=0.01)
    assert least_sqnr([1, 1], exact, exact) is None
    assert isinstance(pair().onnx, onnx.ModelProto)


def numbered(classes: int = 5) -> onnx.ModelProto:
    """A network that ends in the number of the class."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["place"], axis=1, keepdims=1),
        helper.make_node("Cast", ["place"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["number"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    ends = [info("x", TensorProto.FLOAT, (1, classes))], [info("y", TensorProto.FLOAT, (1, 1))]
    graph = helper.make_graph(nodes, "g", *ends)
    graph.value_info.append(info("x", TensorProto.FLOAT, (1, classes)))
    return helper.make_model(graph)


def test_an_output_that_numbers_classes_is_compared_by_them() -> None:
    samples = Samples(np.zeros((4, 5), np.float32), np.array([0, 1, 4, 2]), "d")
    metric = choose("auto", samples, numbered())
    assert (metric.name, metric.outputs, metric.index) == ("top1", 5, True)
    outputs = np.float32([[0], [1], [4], [3]])
    assert measure(metric, outputs, samples).share == 75
    assert agreement(metric, outputs, np.float32([[0], [2], [4], [3.2]])) == 75
    with pytest.raises(DataError, match="classes 0 to 4"):
        choose("auto", Samples(samples.x, np.array([0, 1, 5, 2]), "d"), numbered())
    assert agreement(choose("auto", Samples(samples.x, None, "d"), numbered()), outputs, outputs) == 100
