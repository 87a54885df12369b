"""Tokens that are compared with numbers, or made one-hot: rows of a table, as onnxruntime computes them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tapc.base.errors import UnsupportedError
from tapc.frontend import load

NODE = helper.make_node
WEIGHTS = np.random.default_rng(0).normal(0, 1, (9, 4)).astype(np.float32)
NUMBERS = np.arange(9).reshape(1, 1, 9)
CASES: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "compared, multiplied": (
        [
            NODE("Unsqueeze", ["t", "a"], ["u"]), NODE("Equal", ["u", "n"], ["e"]),
            NODE("Cast", ["e"], ["c"], to=TensorProto.FLOAT), NODE("MatMul", ["c", "w"], ["y"]),
        ],
        {"a": np.array([2]), "n": NUMBERS, "w": WEIGHTS}, 4,
    ),
    "repeated, compared": (
        [
            NODE("Unsqueeze", ["t", "a"], ["u"]), NODE("Expand", ["u", "s"], ["x"]), NODE("Equal", ["n", "x"], ["e"]),
            NODE("Cast", ["e"], ["c"], to=TensorProto.FLOAT), NODE("Neg", ["c"], ["y"]),
        ],
        {"a": np.array([2]), "n": NUMBERS, "s": np.array([1, 6, 9])}, 9,
    ),
    "one-hot": (
        [NODE("OneHot", ["t", "d", "v"], ["c"]), NODE("Neg", ["c"], ["y"])],
        {"d": np.array(9), "v": np.array([0.25, 3], np.float32)}, 9,
    ),
}  # fmt: skip


def saved(nodes: list[Any], constants: dict[str, Any], features: int, folder: Path) -> Path:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("t", TensorProto.INT64, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, features])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("name", CASES)
def test_tokens_choose_rows(name: str, tmp_path: Path) -> None:
    model = load(saved(*CASES[name], tmp_path))
    assert model.inputs[0].tokens == 9
    assert model.source_error is not None
    assert model.source_error < 1e-6
    assert model.onnx.graph.node[0].op_type == "GatherND"


def test_other_comparisons_are_refused(tmp_path: Path) -> None:
    nodes, constants, features = CASES["compared, multiplied"]
    with pytest.raises(UnsupportedError, match="operator Equal is not supported"):
        load(saved(nodes, {**constants, "n": NUMBERS + 1}, features, tmp_path))
