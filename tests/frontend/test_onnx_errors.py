"""Every ONNX model that is refused says which node, why, and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from frontend.canonical_form import build, save
from tapc.base.errors import DataError, TapcError, UnsupportedError
from tapc.frontend import load

IMAGE = (1, 3, 9, 8)
W = {"w": np.ones((4, 3, 3, 3), np.float32)}


def model(op: str, inputs: list[str], constants: dict[str, Any] | None = None, shape: Any = IMAGE, **attrs: Any) -> Any:
    opset = attrs.pop("opset", 17)
    relu = helper.make_node("Relu", ["x"], ["r"])
    nodes = [relu, helper.make_node(op, inputs, ["y"], name="culprit", **attrs)]
    return build(nodes, shape, "y", constants, opset)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


UNSUPPORTED: dict[str, tuple[onnx.ModelProto, str]] = {
    "operator": (model("Hardmax", ["r"]), r"'culprit': operator Hardmax is not supported; supported: Abs, Add"),
    "computed weights": (model("Conv", ["r", "r"], shape=(1, 1, 3, 3)), "must be constant"),
    "training": (
        model(
            "BatchNormalization", ["r", *"gbmv"], {k: np.ones(3, np.float32) for k in "gbmv"}, training_mode=1, opset=15
        ),
        "inference mode",
    ),
    "cast": (model("Cast", ["r"], to=TensorProto.DOUBLE), "is DOUBLE|casts"),
    "3-D conv": (
        model("Conv", ["r", "w"], {"w": np.ones((4, 3, 3, 3, 3), np.float32)}, (1, 3, 5, 5, 5)),
        "windows of 1 or 2 dimensions",
    ),
    "cubic": (model("Resize", ["r", "", "s"], {"s": np.array([1, 1, 2, 2], np.float32)}, mode="cubic"), "mode 'cubic'"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported(case: str, tmp_path: Path) -> None:
    source, message = UNSUPPORTED[case]
    if case == "training":
        source.graph.node[1].output.extend(["m1", "v1"])
    if case == "cast":
        source.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(UnsupportedError, match=message):
        load(save(source, tmp_path))


def test_dynamic_dimension_names_input_and_axis(tmp_path: Path) -> None:
    path = save(model("Relu", ["r"], shape=("n", 3, "height", 8)), tmp_path)
    with pytest.raises(UnsupportedError, match=r"input 'x': dimension 2 \(height\) is dynamic; export"):
        load(path)
    assert load(path, input_shape=(1, 3, 5, 8)).input_shape == (1, 3, 5, 8)
    with pytest.raises(UnsupportedError, match="dimension 1 is 3"):
        load(path, input_shape=(1, 4, 5, 8))


def test_dynamic_batch_becomes_one(tmp_path: Path) -> None:
    assert load(save(model("Relu", ["r"], shape=("n", 3, 4, 8)), tmp_path)).output_shape == (1, 3, 4, 8)


def test_fixed_batch_that_a_constant_repeats(tmp_path: Path) -> None:
    source = model("Reshape", ["r", "s"], {"s": ints(8, 96)}, shape=(8, 3, 4, 8))
    with pytest.raises(UnsupportedError, match=r"batch is fixed to 8, also in the shape of node .* \(Reshape\)"):
        load(save(source, tmp_path))


def test_custom_domain(tmp_path: Path) -> None:
    source = build(
        [helper.make_node("LongformerAttention", ["x"], ["y"], name="g", domain="com.microsoft")], IMAGE, "y"
    )
    source.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedError, match=r"'g': operator com.microsoft.LongformerAttention"):
        load(save(source, tmp_path))


def test_one_shape_for_several_inputs(tmp_path: Path) -> None:
    source = model("Add", ["r", "z"])
    source.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, IMAGE))
    with pytest.raises(UnsupportedError, match=r"inputs \['x', 'z'\], and an input shape is for one"):
        load(save(source, tmp_path), input_shape=IMAGE)


def test_batches_that_differ(tmp_path: Path) -> None:
    source = model("Add", ["r", "z"])
    source.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (4, *IMAGE[1:])))
    with pytest.raises(UnsupportedError, match=r"first dimensions of the inputs are \[1, 4\]"):
        load(save(source, tmp_path))


def test_integer_input(tmp_path: Path) -> None:
    source = model("Neg", ["x"])
    source.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    del source.graph.node[0]
    with pytest.raises(UnsupportedError, match="'culprit': Neg reads the integers of input 'x' without a scale"):
        load(save(source, tmp_path))


def test_output_without_computation(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="nothing to compile"):
        load(save(build([helper.make_node("Identity", ["x"], ["y"])], IMAGE, "y"), tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(bad: float, tmp_path: Path) -> None:
    weights = np.ones((4, 3, 3, 3), np.float32)
    weights[2, 1, 0, 0] = bad
    with pytest.raises(DataError, match=r"initializer 'w' holds (nan|inf) at index \[2, 1, 0, 0\]; retrain"):
        load(save(model("Conv", ["r", "w"], {"w": weights}), tmp_path))


def test_weights_that_become_nan_by_folding(tmp_path: Path) -> None:
    """A negative variance has no square root; onnxruntime's own output is not finite either."""
    constants = {**W, "g": np.ones(4, np.float32), "v": np.full(4, -1, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("BatchNormalization", ["c", "g", "g", "g", "v"], ["y"]),
    ]
    with pytest.raises(DataError, match=r"first.weight.*nan"):
        load(save(build(nodes, IMAGE, "y", constants), tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07\x12\x05abcde"])
def test_corrupt_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad.onnx: not a valid ONNX model"):
        load(str(path))


def test_truncations_never_escape_as_other_errors(tmp_path: Path) -> None:
    blob = model("Conv", ["r", "w"], W).SerializeToString()
    path = tmp_path / "cut.onnx"
    for size in range(0, len(blob), 23):
        path.write_bytes(blob[:size])
        with pytest.raises(TapcError):
            load(str(path))


def test_contradicting_shapes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'culprit'.*do not fit an input of 3 channels"):
        load(save(model("Conv", ["r", "w"], {"w": np.ones((4, 5, 3, 3), np.float32)}), tmp_path))
