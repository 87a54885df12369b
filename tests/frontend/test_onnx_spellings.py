"""Older opsets and onnxruntime's own operators: the graph computes what onnxruntime computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from frontend.canonical_form import build, save
from tapc.base.errors import UnsupportedError
from tapc.frontend import load

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.normal(0, 1, shape).astype(np.float32)


def own(op: str, constants: dict[str, Any], shape: tuple[int, ...], opset: int = 14, **attributes: Any) -> Any:
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node(op, ["t", *constants], ["y"], domain="com.microsoft", **attributes),
    ]
    model = build(nodes, shape, "y", constants, opset)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


CASES: dict[str, onnx.ModelProto] = {
    "Gelu": own("Gelu", {}, (1, 3, 4, 5)),
    "FastGelu with a bias": own("FastGelu", {"b": normal(5)}, (1, 4, 5)),
    "BiasGelu": own("BiasGelu", {"b": normal(5)}, (1, 4, 5)),
    "QuickGelu": own("QuickGelu", {}, (1, 4, 5), alpha=1.5),
    "FusedConv": own("FusedConv", {"w": normal(2, 3, 3, 3)}, (1, 3, 5, 5), kernel_shape=[3, 3], activation="Relu"),
    "FusedConv that clips": own(
        "FusedConv", {"w": normal(2, 3, 1, 1)}, (1, 3, 5, 5), activation="Clip", activation_params=[-0.5, 0.7]
    ),
    "FusedGemm": own("FusedGemm", {"w": normal(5, 4)}, (1, 5), activation="LeakyRelu", activation_alpha=0.2),
    "SkipLayerNormalization": own(
        "SkipLayerNormalization", {"s": normal(1, 4, 5), "g": normal(5), "b": normal(5)}, (1, 4, 5), epsilon=1e-5
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_of_onnxruntime(case: str, tmp_path: Path) -> None:
    loaded = load(save(CASES[case], tmp_path))
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-5


def test_a_layer_normalization_before_its_opset(tmp_path: Path) -> None:
    """onnxruntime's optimizer writes them into graphs of any opset."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "b"], ["n"]),
        helper.make_node("Squeeze", ["n"], ["s"], axes=[0]),
        helper.make_node("Unsqueeze", ["s"], ["y"], axes=[0]),
    ]
    info = helper.make_tensor_value_info
    constants = [onnx.numpy_helper.from_array(normal(5), name) for name in "gb"]
    values = [info(name, onnx.TensorProto.FLOAT, (1, 4, 5)) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    assert load(save(model, tmp_path)).source_error == pytest.approx(0, abs=1e-5)


def old(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], constants: dict[str, Any], out: tuple[int, ...]
) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    inputs = [info("x", onnx.TensorProto.FLOAT, shape)]
    inputs += [info(name, onnx.TensorProto.FLOAT, array.shape) for name, array in constants.items()]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, [info("y", onnx.TensorProto.FLOAT, out)], initializer=tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 1)], ir_version=3)
    return onnx.shape_inference.infer_shapes(model)


def test_broadcasting_along_an_axis(tmp_path: Path) -> None:
    constants = {"w": normal(4, 3, 1, 1), "b": normal(4), "m": normal(80, 2)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("Add", ["c", "b"], ["a"], axis=1, broadcast=1),
        helper.make_node("Reshape", ["a"], ["r"], shape=[1, 80]),
        helper.make_node("MatMul", ["r", "m"], ["y"]),
    ]
    loaded = load(save(old(nodes, (1, 3, 4, 5), constants, (1, 2)), tmp_path))
    x = normal(1, 3, 4, 5)
    maps = np.einsum("oi,nihw->nohw", constants["w"][:, :, 0, 0], x) + constants["b"].reshape(1, 4, 1, 1)
    assert loaded.run is not None
    np.testing.assert_allclose(loaded.run(x), maps.reshape(1, 80) @ constants["m"], rtol=1e-4, atol=1e-4)
    assert loaded.source_error == pytest.approx(0, abs=1e-5)


def test_an_operator_that_meant_something_else(tmp_path: Path) -> None:
    nodes = [helper.make_node("Pad", ["x"], ["y"], paddings=[0, 0, 1, 1, 0, 0, 1, 1])]
    with pytest.raises(UnsupportedError, match="opset 1, in which Pad means something else"):
        load(save(old(nodes, (1, 3, 4, 5), {}, (1, 3, 6, 7)), tmp_path))
