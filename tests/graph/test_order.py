"""Channels in another order, and layers in parts, compute the same: in floats, and in the integers of the program."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from graph_builder import Builder, Model, dead, everything, pooled, residual
from tapc.graph.analysis import Graph, analyse, quantization_points
from tapc.graph.order import reordered, ties
from tapc.graph.parts import joins, layers_in_parts, part_name
from tapc.graph.split import divided, divisible
from tapc.lower import lower
from tapc.lower.reference import execute
from tapc.quantize import calibrate, evaluate, quantize, uniform_bits
from tapc.quantize.runtime import Float


def separable(seed: int = 0) -> Model:
    """Return depthwise layers, Clip and poolings between layers that may be divided, and a flattened map."""
    b = Builder((1, 3, 9, 9), seed)
    y = b.clip(b.conv("x", "stem", 3, 12, stride=2), "stem.clip", 0.0, 6.0)
    y = b.node("Relu", [b.conv(y, "dw", 12, 12, groups=12)], "dw.relu")
    y = b.node("MaxPool", [b.conv(y, "pw", 12, 10, kernel=1)], "max", kernel_shape=[2, 2], strides=[1, 1])
    y = b.node("Sigmoid", [y], "sigmoid")
    y = b.node("Relu", [b.gemm(b.node("Flatten", [y], "flatten", axis=1), "one", 160, 9)], "one.relu")
    return b.build(b.gemm(y, "two", 9, 4))


NETWORKS: dict[str, tuple[Callable[[int], Model], tuple[str, ...]]] = {
    "residual": (residual, ("stem", "a1", "a2", "b1", "b2", "b.short")),
    "separable": (separable, ("stem", "pw", "one")),
    "pooled": (pooled, ("c1", "c2")),
    "dead": (dead, ("stem", "pw0", "pw1", "side", "back")),
    "everything": (everything, ("fc1",)),
}


def eighths(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with weights of whole eighths, whose sums are exact in any order."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim and value.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.rint(value * 8) / np.float32(8), tensor.name))
    return copy


def draw(model: onnx.ModelProto, seed: int, count: int = 8) -> Float:
    shape = Graph(model).input_ports[0].shape
    return np.random.default_rng(seed).integers(-8, 9, (count, *shape[1:])).astype(np.float32) / 8


@st.composite
def changes(draw: st.DrawFn) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return a network, and the same with channels in other orders and layers in parts."""
    name, seed = draw(st.sampled_from(sorted(NETWORKS))), draw(st.integers(0, 99))
    model = NETWORKS[name][0](seed).onnx
    graph, rng = Graph(model), np.random.default_rng(seed)
    other = reordered(model, {tie: rng.permutation(tie.channels) for tie in ties(graph)})
    outputs = {str(node.name): graph.shape(node.output[0])[1] for node in graph.nodes}
    sizes = {}
    for layer in divisible(graph):
        inner = sorted(rng.choice(np.arange(1, outputs[layer]), draw(st.integers(0, 2)), replace=False))
        sizes[layer] = tuple(map(int, np.diff([0, *inner, outputs[layer]])))
    return model, divided(other, sizes)


@settings(max_examples=12)
@given(changes())
def test_orders_and_parts_leave_the_outputs_as_they_are(found: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    model, other = found
    onnx.checker.check_model(other, full_check=True)
    x = draw(model, 1)
    exact = evaluate(model, x, optimized=True)
    np.testing.assert_allclose(evaluate(other, x, optimized=True), exact, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("name", ["residual", "separable", "pooled"])
def test_parts_of_one_width_have_the_integers_of_the_whole_layer(name: str) -> None:
    """Sorted and in parts, the program gives the same output codes: one scale for all parts, which are only moved."""
    build, layers = NETWORKS[name]
    model = eighths(build(3).onnx)
    graph, rng = Graph(model), np.random.default_rng(0)
    assert tuple(divisible(graph)) == layers
    outputs = {str(node.name): graph.shape(node.output[0])[1] for node in graph.nodes}
    order = {tie: rng.permutation(tie.channels) for tie in ties(graph)}
    whole = divided(model, {})
    parts = divided(reordered(model, order), {name: (4, outputs[name] - 4) for name in layers})
    x, codes = draw(model, 1), []
    for one in (whole, parts):
        network = analyse(one, "net")
        bits = uniform_bits(network, 4, 8)
        quantized = quantize(Model(one), network, bits, calibrate(Model(one), x, seed=0), x=x, bias_correction=False)
        program = lower(quantized.onnx, "net", "float", "dsp").program
        given = np.random.default_rng(2).integers(-128, 128, (16, *program.tensors[program.input].shape))
        codes.append(execute(program, given))
    np.testing.assert_array_equal(*codes)
    assert np.ptp(codes[0]) > 20


def test_parts_share_scale_and_bits_with_what_joins_them() -> None:
    model = divided(residual().onnx, {"a1": (3, 5), "b2": (4, 8, 4)})
    points = {point.tensor: point for point in quantization_points(Graph(model))}
    whole = joins(model.graph.node)
    assert sorted(map(len, whole.values())) == [2, 3]
    for joined, parts in whole.items():
        assert points[parts[0]].joined == joined
        assert {points[name].like for name in (*parts[1:], joined)} == {parts[0]}
    assert layers_in_parts(model.graph.node) == {
        "a1": (part_name("a1", 0), part_name("a1", 1)),
        "b2": (part_name("b2", 0), part_name("b2", 1), part_name("b2", 2)),
    }
    groups = analyse(model, "net").groups
    (own,) = [group for group in groups if part_name("a1.relu_out", 0) in group.tensors]
    assert {"a1.relu_out", part_name("a1.relu_out", 1)} < set(own.tensors)


def test_shared_weights_and_channels_with_constants_of_their_own_keep_their_order() -> None:
    b = Builder((1, 3, 8, 8))
    y = b.conv("x", "one", 3, 8)
    twice = b.node("Conv", [y, b.constant("w", b.rng.normal(size=(8, 8, 1, 1)).astype(np.float32))], "two")
    y = b.node("Conv", [b.node("Relu", [twice], "relu"), "w"], "three")
    slopes = b.constant("slopes", b.rng.uniform(0, 1, (8, 1, 1)).astype(np.float32))
    y = b.node("PRelu", [b.conv(y, "four", 8, 8), slopes], "prelu")
    y = b.conv(b.node("Relu", [b.conv(y, "five", 8, 8)], "relu5"), "six", 8, 4)
    assert list(divisible(Graph(b.build(y).onnx))) == ["five"]
