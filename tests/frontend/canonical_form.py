"""What every canonical graph must fulfil, and small helpers to build and run ONNX graphs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.graph.rules import rules


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def assert_canonical(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 21)]
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    assert len(model.graph.input)
    assert len(model.graph.output)
    assert len(set(names)) == len(names)
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    # Around a recurrent layer steps come first.
    loops = [node for node in model.graph.node if node.op_type in ("LSTM", "GRU", "RNN")]
    steps = {name for node in loops for name in (node.input[0], node.output[0])}
    read = {name for node in model.graph.node for name in node.input}
    assert set(constants) <= read
    shaped = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    for value in (*shaped.value_info, *shaped.input, *shaped.output):
        dims = value.type.tensor_type.shape.dim
        moved = value.name not in {end.name for end in (*model.graph.input, *model.graph.output)}
        assert len(dims) in (2, 4) or moved
        assert all(dim.dim_value > 0 for dim in dims)
        assert dims[0].dim_value == 1 or value.name in steps
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    for node in model.graph.node:
        assert node.op_type in rules()
        given = attributes(node)
        assert "auto_pad" not in given
        assert "ceil_mode" not in given
        if node.op_type == "Conv":
            assert given["dilations"] == [1, 1]
            assert len(given["pads"]) == 4
            assert {"kernel_shape", "strides", "group"} <= set(given)
        if node.op_type == "Gemm":
            assert given == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
        if node.op_type in ("Conv", "Gemm"):
            weights, bias = constants[node.input[1]], constants[node.input[2]]
            assert weights.dtype == bias.dtype == np.float32
            assert bias.shape == weights.shape[:1]
        if node.op_type in ("Add", "Concat"):
            assert not set(node.input) & set(constants)
        if node.op_type == "Flatten":
            assert given == {"axis": 1}


def build(
    nodes: list[onnx.NodeProto],
    shape: tuple[Any, ...],
    output: str,
    constants: dict[str, NDArray[Any]] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a model with input `x`; the output's shape is left to inference."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if any(node.domain for node in nodes):
        inferred = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    else:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output[0]
    inferred.type.tensor_type.shape.SetInParent()  # a shape is mandatory, be it an empty one
    model.graph.output[0].CopyFrom(inferred)
    return model


def save(model: onnx.ModelProto, folder: Path) -> str:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return str(path)


def run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]
