import numpy as np
import pytest
from onnx import helper

from frontend.canonical_form import build
from tapc.frontend.canonical import canonicalize
from tapc.frontend.tflite_names import layer_name

W = np.ones((3, 3, 1, 1), np.float32)


@pytest.mark.parametrize(
    ("names", "weights", "expected"),
    [
        (["/layer1/conv1/Conv", "/layer1/relu/Relu"], "w", ["layer1.conv1", "layer1.relu"]),
        (["/down/down.0/Conv", "/down/Relu"], "w", ["down.0", "down"]),
        (["/block/conv/Conv", "/block/Relu"], "w", ["block.conv", "block.relu"]),
        (["Conv_0", "Relu_1"], "w", ["conv_0", "relu_0"]),
        (["node_Conv_17", "node_relu"], "stem.conv.weight", ["stem.conv", "relu_0"]),
        (["", ""], "onnx::Conv_12", ["conv_0", "relu_0"]),
        (["same", "same"], "w", ["same", "same_1"]),
    ],
)
def test_node_names(names: list[str], weights: str, expected: list[str]) -> None:
    nodes = [
        helper.make_node("Conv", ["x", weights], ["c"], name=names[0]),
        helper.make_node("Relu", ["c"], ["y"], name=names[1]),
    ]
    canonical = canonicalize(build(nodes, (1, 3, 4, 4), "y", {weights: W}))
    assert [node.name for node in canonical.graph.node] == expected
    assert [t.name for t in canonical.graph.initializer] == [f"{expected[0]}.weight", f"{expected[0]}.bias"]
    assert (canonical.graph.input[0].name, canonical.graph.output[0].name) == ("x", "y")


def test_names_do_not_collide_with_the_interface() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="y"), helper.make_node("Relu", ["c"], ["y.out"])]
    canonical = canonicalize(build(nodes, (1, 3, 4, 4), "y.out", {"w": W}))
    outputs = [node.output[0] for node in canonical.graph.node]
    assert len(set(outputs)) == 2
    assert outputs[-1] == "y.out"


@pytest.mark.parametrize(
    ("kind", "tensors", "expected"),
    [
        ("CONV_2D", ["model/conv2d_1/Conv2D"], "conv2d_1"),
        ("CONV_2D", ["x;functional_1/block/conv/Conv2D;y"], "block.conv"),
        ("DEPTHWISE_CONV_2D", ["a/bn/FusedBatchNormV3;model/dw/depthwise;z"], "dw"),
        ("SOFTMAX", ["Identity"], ""),
        ("RELU", ["model/conv/Conv2D"], ""),
    ],
)
def test_tflite_layer_names(kind: str, tensors: list[str], expected: str) -> None:
    assert layer_name(kind, tensors) == expected
