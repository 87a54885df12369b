"""Files that would take all memory or time are refused before they do; odd ones that are valid load."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tapc.base.errors import DataError, UsageError
from tapc.frontend import load
from tapc.frontend.boundary import printable

W = np.ones((4, 3, 3, 3), np.float32)
NODE = helper.make_node


def network(
    nodes: list[onnx.NodeProto], constants: dict[str, Any] | None = None, shape: tuple[int, ...] = (1, 3, 8, 8),
    opset: int = 17, ir: int = 8, functions: tuple[onnx.FunctionProto, ...] = (),
) -> onnx.ModelProto:  # fmt: skip
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if ir < 4:  # initializers had to be inputs as well
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in initializers]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("f", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, functions=functions)


def doubled(first: str, axis: int, times: int = 40) -> tuple[list[onnx.NodeProto], str]:
    names = [first, *(f"twice_{i}" for i in range(times))]
    return [NODE("Concat", [a, a], [b], axis=axis) for a, b in itertools.pairwise(names)], names[-1]


def nested(levels: int = 12, calls: int = 10) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    found = [helper.make_function("f", "f0", ["a"], ["b"], [NODE("Relu", ["a"], ["b"])], opsets)]
    for level in range(1, levels + 1):
        names = ["a", *(f"t{i}" for i in range(calls - 1)), "b"]
        body = [NODE(f"f{level - 1}", [a], [b], domain="f") for a, b in itertools.pairwise(names)]
        found.append(helper.make_function("f", f"f{level}", ["a"], ["b"], body, opsets))
    return network([NODE(f"f{levels}", ["x"], ["y"], domain="f")], functions=tuple(found))


def reshaped(nodes: list[onnx.NodeProto], last: str, constants: dict[str, Any] | None = None) -> onnx.ModelProto:
    return network([*nodes, NODE("Reshape", ["x", last], ["y"])], constants)


def declared(dtype: int, dims: list[int]) -> onnx.ModelProto:
    model = network([NODE("Conv", ["x", "w"], ["y"])], {"w": W})
    model.graph.initializer[0].data_type = dtype
    model.graph.initializer[0].dims[:] = dims
    return model


maps, last_map = doubled("x", 1)
shapes, last_shape = doubled("s", 0)
LARGE = np.array([1, 3, 60000, 60000], np.int64)
REFUSED = {
    "functions": (nested(), "2111111111111 nodes, functions written out"),
    "nodes": (network([NODE("Relu", ["x"], [f"r{i}"]) for i in range(6000)]), "6000 nodes"),
    "maps": (network([*maps, NODE("Relu", [last_map], ["y"])]), "more than 33554432 elements"),
    "shapes": (reshaped([NODE("Shape", ["x"], ["s"]), *shapes], last_shape), "index tensor 'twice_"),
    "filled": (
        network([NODE("ConstantOfShape", ["k"], ["e"]), NODE("Add", ["x", "e"], ["y"])], {"k": LARGE}),
        "tensor 'e' has shape",
    ),
    "input": (network([NODE("Relu", ["x"], ["y"])], shape=(1, 3, 1 << 40, 1 << 40)), "tensor 'x' has shape"),
    "declared": (declared(TensorProto.FLOAT, [1 << 30, 1 << 30, 3, 3]), "its constants declare"),
    "type": (declared(99, [4, 3, 3, 3]), "99"),
    "groups": (network([NODE("Conv", ["x", "w"], ["y"], group=0)], {"w": W}), "in 0 groups"),
    "no outputs": (
        network([NODE("Flatten", ["x"], ["f"]), NODE("Gemm", ["f", "w"], ["y"])], {"w": np.ones((192, 0), np.float32)}),
        r"\[192, 0\] are empty",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_with_the_name_of_the_file(case: str, tmp_path: Path) -> None:
    model, message = REFUSED[case]
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "bad.onnx")
    assert "bad.onnx" in str(caught.value)


LOADED = {
    "initializers that are inputs": network(
        [NODE("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER"), NODE("Reshape", ["a", "k"], ["f"]),
         NODE("Reshape", ["v", "kv"], ["wv"]), NODE("MatMul", ["f", "wv"], ["y"])],
        {"w": W, "k": np.array([1, 256], np.int64), "v": np.ones((4, 8, 8, 5), np.float32),
         "kv": np.array([256, 5], np.int64)},
        opset=8, ir=3,
    ),
    "stride beyond the map": network([NODE("Conv", ["x", "w"], ["y"], strides=[1 << 62] * 2)], {"w": W}),
    "softmax of a pooled map": network(
        [NODE("GlobalAveragePool", ["x"], ["g"]), NODE("Softmax", ["g"], ["y"], axis=1)]
    ),
    "channels last before a dense layer": network(
        [NODE("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]), NODE("Relu", ["t"], ["r"]), NODE("Flatten", ["r"], ["f"]),
         NODE("Gemm", ["f", "w"], ["y"])],
        {"w": np.random.default_rng(0).normal(size=(192, 4)).astype(np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOADED)
def test_computes_what_its_source_computes(case: str, tmp_path: Path) -> None:
    onnx.save(LOADED[case], tmp_path / "net.onnx")
    loaded = load(tmp_path / "net.onnx", samples=np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32))
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-3
    assert "Transpose" not in {node.op_type for node in loaded.onnx.graph.node}


@pytest.mark.parametrize("shape", ['(1, "a")', "(1, -3)", "3"])
def test_a_shape_that_is_none(shape: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(f"from torch import nn\ndef make():\n    return nn.Linear(3, 2), {shape}\n")
    with pytest.raises(UsageError, match="is no input shape"):
        load(f"{tmp_path / 'net.py'}:make")


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "SystemExit"])
def test_code_that_ends_the_program_is_the_users_error(raised: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(f"def make():\n    raise {raised}\n")
    with pytest.raises(UsageError, match=raised):
        load(f"{tmp_path / 'net.py'}:make")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("net", "net"), ('my "net"', 'my "net"'), ("a\nb\x1b", "a_b_"), ("..", "network"), ("n" * 300, "n" * 100)],
)
def test_names_are_printable(name: str, expected: str) -> None:
    assert printable(name) == expected
