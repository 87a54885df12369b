"""Branches (If) that a constant input or a static shape chooses, against onnxruntime on the file as it is."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from frontend.canonical_form import operators, run
from tapc.base.errors import UnsupportedError, UsageError
from tapc.frontend import load
from tapc.frontend.onnx_constants import parsed_constants

RNG = np.random.default_rng(5)
WEIGHTS = {name: RNG.normal(0, 1, (6, 4)).astype(np.float32) for name in ("slow", "fast")}


def branch(name: str) -> onnx.GraphProto:
    """Return a branch: a dense layer of its own on what the network has outside; with a branch within."""
    inner = helper.make_graph(
        [helper.make_node("Squeeze", [f"h_{name}", f"zero_{name}"], [f"flat_{name}"]),
         helper.make_node("Identity", [f"flat_{name}"], [f"made_{name}"])],
        "squeeze", [], [helper.make_tensor_value_info(f"made_{name}", TensorProto.FLOAT, ["c"])],
        [numpy_helper.from_array(np.array([0], np.int64), f"zero_{name}")],
    )  # fmt: skip
    keep = helper.make_graph(
        [helper.make_node("Identity", [f"h_{name}"], [f"made_{name}"])], "keep", [],
        [helper.make_tensor_value_info(f"made_{name}", TensorProto.FLOAT, ["a", "b"])],
    )  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["r", f"w_{name}"], [f"h_{name}"], "dense"),
        helper.make_node("Shape", [f"h_{name}"], [f"extents_{name}"]),
        helper.make_node("Gather", [f"extents_{name}", f"first_{name}"], [f"count_{name}"], axis=0),
        helper.make_node("Equal", [f"count_{name}", f"one_{name}"], [f"is_one_{name}"]),
        helper.make_node(
            "If", [f"is_one_{name}"], [f"y_inner_{name}"], "squeezed", then_branch=inner, else_branch=keep
        ),
    ]
    constants = {
        f"w_{name}": WEIGHTS[name],
        f"first_{name}": np.array(0, np.int64),
        f"one_{name}": np.array(1, np.int64),
    }
    return helper.make_graph(
        nodes, name, [], [helper.make_tensor_value_info(f"y_inner_{name}", TensorProto.FLOAT, ["a", "b"])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )  # fmt: skip


def network(path: Path, *, condition: str = "rate") -> Path:
    """Write a network of which an input, a sampling rate, chooses one of two layers; or what is computed does."""
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu")]
    if condition == "rate":
        nodes.append(helper.make_node("Equal", ["rate", "wanted"], ["is_fast"]))
    else:
        nodes.append(helper.make_node("ReduceMax", ["r"], ["most"], keepdims=0))
        nodes.append(helper.make_node("Cast", ["most"], ["is_fast"], to=TensorProto.BOOL))
    nodes.append(helper.make_node("If", ["is_fast"], ["y"], "choice", then_branch=branch("fast"),
                                  else_branch=branch("slow")))  # fmt: skip
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])]
    if condition == "rate":
        inputs.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    graph = helper.make_graph(
        nodes, "net", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])],
        [numpy_helper.from_array(np.array(16000, np.int64), "wanted")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("rate", [16000, 8000])
def test_the_branch_that_a_constant_chooses(rate: int, tmp_path: Path) -> None:
    path = network(tmp_path / "n.onnx")
    loaded = load(path, constant={"rate": rate})
    assert [port.name for port in loaded.inputs] == ["x"]
    assert operators(loaded.onnx) == ["Relu", "Gemm"]
    x = RNG.normal(0, 1, (1, 6)).astype(np.float32)
    (wanted,) = ort.InferenceSession(path).run(None, {"x": x, "rate": np.array(rate, np.int64)})
    np.testing.assert_allclose(run(loaded.onnx, x).reshape(-1), wanted.reshape(-1), rtol=1e-5)
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-6


def test_a_condition_that_is_computed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedError, match=r"'choice': control flow \(If\) whose condition is computed .*--constant"
    ):
        load(network(tmp_path / "n.onnx", condition="computed"))
    with pytest.raises(UnsupportedError, match=r"input 'rate' is INT64|'choice'"):
        load(network(tmp_path / "n.onnx"))


def test_what_is_no_constant_is_told(tmp_path: Path) -> None:
    path = network(tmp_path / "n.onnx")
    with pytest.raises(UsageError, match=r"the network has no input 'speed'; it has 'x', 'rate'"):
        load(path, constant=["speed=3"])
    with pytest.raises(UsageError, match=r"rate=0\.5: the input holds int64"):
        load(path, constant=["rate=0.5"])
    with pytest.raises(UsageError, match="INPUT=VALUE"):
        parsed_constants(["rate"])
    with pytest.raises(UsageError, match="named twice"):
        parsed_constants(["rate=1", "rate=2"])
    with pytest.raises(UsageError, match="ONNX files"):
        load("resnet8", constant=["rate=1"])
