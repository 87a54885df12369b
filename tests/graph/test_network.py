"""Layers, quantization points and activation groups."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from graph_builder import Builder, Model, everything, residual
from tapc.base.errors import DataError, UnsupportedError
from tapc.graph.analysis import Graph, analyse, quantization_points
from tapc.graph.rules import rule
from tapc.quantize.runtime import session


def test_residual_layers() -> None:
    network = analyse(residual().onnx, "net")
    by_name = {layer.name: layer for layer in network.layers}
    assert [layer.name for layer in network.layers] == ["stem", "a1", "a2", "b1", "b2", "b.short", "fc"]
    assert [layer.depth for layer in network.layers] == list(range(7))
    assert by_name["stem"].weight_shape == (8, 3, 3, 3)
    assert by_name["stem"].macs == 12 * 12 * 8 * 3 * 9
    assert by_name["b1"].macs == 6 * 6 * 16 * 8 * 9
    assert by_name["b.short"].parameters == 16 * 8
    assert (by_name["fc"].op, by_name["fc"].macs) == ("dense", 80)


def test_residual_groups() -> None:
    groups = analyse(residual().onnx, "net").groups
    assert groups[0].tensors == ("x",)
    assert groups[1].tensors == ("stem.relu_out", "a2_out", "a.relu_out")
    assert ("b2_out", "b.short_out", "b.relu_out") in [group.tensors for group in groups]
    assert ("pool_out", "flatten_out") in [group.tensors for group in groups]
    assert [group.interface for group in groups] == [True, False, False, False, False, False, True]


def test_every_operator() -> None:
    model = everything().onnx
    network = analyse(model, "net")
    assert [layer.op for layer in network.layers] == ["depthwise", "conv", "dense", "dense"]
    assert network.layers[1].macs == 9 * 9 * 6 * 4 * 9 - (81 - 25) * 6 * 36
    points = {point.tensor: point for point in quantization_points(Graph(model))}
    assert "dw_out" not in points
    assert (points["dw.clip_out"].op, points["dw.clip_out"].low, points["dw.clip_out"].high) == ("Conv", 0.0, 6.0)
    assert points["max_out"].like == "dw.clip_out"
    assert points["pad_out"].like == "cat_out"
    assert points["reshape_out"].like == "pool_out"
    # A Relu after a pooling is a point of its own, and so is the pooling's output.
    assert points["lone.relu_out"].op == "Relu"
    assert points["avg_out"].op == "AveragePool"
    joined = next(group for group in network.groups if "cat_out" in group.tensors)
    assert set(joined.tensors) == {"dw.clip_out", "max_out", "lone.relu_out", "cat_out", "pad_out"}


def test_residual_that_reaches_the_input_is_interface() -> None:
    b = Builder((1, 4, 6, 6))
    y = b.node("Add", [b.conv("x", "conv", 4, 4), "x"], "add")
    y = b.conv(y, "last", 4, 2)
    network = analyse(b.build(y).onnx, "net")
    assert network.groups[0].tensors == ("x", "conv_out", "add_out")
    assert network.groups[0].interface


def test_activation_with_a_second_reader_is_not_fused() -> None:
    b = Builder((1, 4, 6, 6))
    raw = b.conv("x", "conv", 4, 4)
    y = b.node("Add", [raw, b.node("Relu", [raw], "relu")], "add")
    points = {point.tensor: point.op for point in quantization_points(Graph(b.build(y).onnx))}
    assert points == {"x": "Input", "conv_out": "Conv", "relu_out": "Relu", "add_out": "Add"}


@st.composite
def chains(draw: st.DrawFn) -> Model:
    """Random stacks of the operators that keep the shape (1, 4, 6, 6), with residual adds."""
    b = Builder((1, 4, 6, 6), draw(st.integers(0, 99)))
    tensors = ["x"]
    for index in range(draw(st.integers(1, 10))):
        x = tensors[draw(st.integers(0, len(tensors) - 1))]
        kind = draw(st.sampled_from(["conv", "depthwise", "relu", "add", "max", "average", "concat"]))
        name = f"{kind}{index}"
        if kind == "conv":
            y = b.conv(x, name, 4, 4)
        elif kind == "depthwise":
            y = b.conv(x, name, 4, 4, groups=4)
        elif kind == "relu":
            y = b.node("Relu", [x], name)
        elif kind == "add":
            y = b.node("Add", [x, tensors[-1]], name)
        elif kind == "concat":
            y = b.conv(b.node("Concat", [x, tensors[-1]], name, axis=1), f"{name}.conv", 8, 4, kernel=1)
        else:
            op = "MaxPool" if kind == "max" else "AveragePool"
            y = b.node(op, [x], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        tensors.append(y)
    return b.build(tensors[-1])


@settings(max_examples=60, deadline=None)
@given(chains())
def test_groups_partition_the_points_and_respect_coupling(model: Model) -> None:
    graph = Graph(model.onnx)
    network = analyse(model.onnx, "net")
    points = quantization_points(graph)
    members = [tensor for group in network.groups for tensor in group.tensors]
    assert sorted(members) == sorted(point.tensor for point in points)
    group_of = {tensor: index for index, group in enumerate(network.groups) for tensor in group.tensors}
    for node in graph.nodes:
        if rule(node).joins or rule(node).repeats:
            tensors = [*graph.activations(node), graph.ending(node)]
            assert len({group_of[tensor] for tensor in tensors}) == 1
        # What any operator reads is quantized, save a fused activation's operand.
        for tensor in graph.activations(node):
            fused = tensor in graph.producer and graph.fused_activation(graph.producer[tensor]) is node
            assert (tensor in group_of) != fused
    assert network.groups[group_of["x"]].interface
    assert network.groups[group_of[graph.output]].interface
    for layer in network.layers:
        node = next(node for node in graph.nodes if node.name == layer.name)
        assert layer.input_group == group_of[node.input[0]]
        assert layer.output_group == group_of[graph.ending(node)]


def test_macs_match_an_all_ones_network() -> None:
    """With weights and input of one, no padding and no bias, the output sums to the MACs."""
    b = Builder((1, 4, 9, 9))
    w = b.constant("w", np.ones((6, 2, 3, 3), np.float32))
    bias = b.constant("b", np.zeros(6, np.float32))
    y = b.node("Conv", ["x", w, bias], "conv", kernel_shape=[3, 3], strides=[2, 2], pads=[0] * 4, group=2)
    model = b.build(y).onnx
    output = session(model, optimized=True).run(None, {"x": np.ones((1, 4, 9, 9), np.float32)})[0]
    assert analyse(model, "net").layers[0].macs == int(output.sum())


def test_unsupported_operator_is_named() -> None:
    b = Builder((1, 4))
    with pytest.raises(UnsupportedError, match=r"'odd'.*Hardmax.*supported: Abs, Add"):
        analyse(b.build(b.node("Hardmax", ["x"], "odd")).onnx, "net")


def test_nan_weights_are_named() -> None:
    model = residual().onnx
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "a1.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0, 0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(DataError, match=r"'a1'.*NaN"):
        analyse(model, "net")


def test_dynamic_shape_and_missing_output_are_refused() -> None:
    model = residual().onnx
    del model.graph.value_info[:]
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(UnsupportedError, match="static shape"):
        analyse(model, "net")
    model = residual().onnx
    del model.graph.output[:]
    with pytest.raises(UnsupportedError, match="outputs"):
        analyse(model, "net")


def test_duplicate_layer_names_are_refused() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(residual().onnx)
    for node in model.graph.node:
        if node.name == "a2":
            node.name = "a1"
    with pytest.raises(UnsupportedError, match="unique"):
        analyse(model, "net")
