"""Quotients that are 0 where the divisor is, against onnxruntime on the file as it is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tapc.base.errors import UnsupportedError
from tapc.frontend import load
from tapc.frontend.verify import onnx_runner

NODE = helper.make_node


def saved(folder: Path, compared: float, instead: float, *, swapped: bool = False) -> Path:
    """Save a / b for the halves of an input, `instead` where b equals `compared`."""
    equal = ["z", "c"] if swapped else ["c", "z"]
    nodes = [
        NODE("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), NODE("Div", ["a", "b"], ["q"]),
        NODE("Identity", ["b"], ["c"]), NODE("Equal", equal, ["e"]), NODE("Where", ["e", "i", "q"], ["y"]),
    ]  # fmt: skip
    constants = {"z": np.array(compared, np.float32), "i": np.array(instead, np.float32)}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 3, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("swapped", [False, True])
def test_a_divisor_of_zero_gives_zero(tmp_path: Path, *, swapped: bool) -> None:
    path = saved(tmp_path, 0.0, 0.0, swapped=swapped)
    model = load(path)
    assert model.source_error is not None
    assert model.source_error < 1e-6
    x = np.random.default_rng(0).normal(0, 1, (1, 8, 3, 5)).astype(np.float32)
    x[0, 4:, 1:] *= np.float32([0, 1, -1, 0, 1e-3])
    found, expected = onnx_runner(model.onnx)(x), onnx_runner(onnx.load(path))(x)
    assert (expected == 0).sum() == 4 * 2 * 2
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-6)


@pytest.mark.parametrize(("compared", "instead"), [(1.0, 0.0), (0.0, 1.0)])
def test_other_choices_are_refused(compared: float, instead: float, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"operator (Equal|Where) is not supported"):
        load(saved(tmp_path, compared, instead))
