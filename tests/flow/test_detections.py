"""A detector from its maps to the board: detections are the firmware's, and their precision is in the report."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tapc import compile as compile_network
from tapc.base.detector import Detector, set_detector
from tapc.base.errors import DataError
from tapc.flow.rerun import open_build

NAMES = ("scores", "sides")


def write(path: Path, sides: str = "sides") -> None:
    """Write a network that sees a box where its second channel is bright, as wide and high as the third says."""
    value = helper.make_tensor_value_info
    weights = {
        "a": np.array([[4, 0, 0], [0, 4, 0]], np.float32).reshape(2, 3, 1, 1),
        "b": np.full(2, -2, np.float32),
        "c": np.array([[0, 0, 1]] * 4, np.float32).reshape(4, 3, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a", "b"], ["t"]), helper.make_node("Sigmoid", ["t"], ["scores"]),
        helper.make_node("Conv", ["x", "c"], ["u"]), helper.make_node("Relu", ["u"], ["sides"]),
    ]  # fmt: skip
    outputs = [value("scores", 1, (1, 2, 4, 5)), value("sides", 1, (1, 4, 4, 5))]
    tensors = [numpy_helper.from_array(tensor, name) for name, tensor in weights.items()]
    graph = helper.make_graph(nodes, "maps", [value("x", 1, (1, 3, 4, 5))], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    set_detector(model, Detector("scores", sides, 8, 8.0, 0.5, 0.5, 4))
    onnx.save(model, path)


def test_detections_are_outputs_of_the_firmware(tmp_path: Path) -> None:
    write(tmp_path / "maps.onnx")
    rng = np.random.default_rng(0)
    x, y = np.zeros((24, 3, 4, 5), np.float32), np.full((24, 2, 5), -1, np.float32)
    for picture, boxes in zip(x, y, strict=True):
        for box, column in zip(boxes, (1, 3), strict=True):
            kind, row, far = int(rng.integers(2)), int(rng.integers(1, 3)), float(rng.uniform(0.3, 0.7))
            picture[kind, row, column], picture[2, row, column] = 1, far
            middle = np.array([column, row] * 2) * 8 + 4.0
            box[:] = (kind, *(middle + np.array([-1, -1, 1, 1]) * far * 8))
    np.savez(tmp_path / "boxes.npz", x=x, y=y)
    result = compile_network(
        tmp_path / "maps.onnx", board="microbit", data=tmp_path / "boxes.npz", wbits=8, eval=12,
        output=tmp_path / "build",
    )  # fmt: skip
    report = result.report
    assert report.exact
    assert report.layers[-1].op == "detect"
    assert report.accuracy.metric == "map"
    assert [report.accuracy.scores[who]["map50"] for who in ("float", "onnx", "device")] == [100, 100, 100]
    assert report.accuracy.scores["device"]["map"] > 90
    assert [output.name for output in report.accuracy.outputs] == ["scores", "sides"]
    header = next((tmp_path / "build" / "lib").glob("maps.h")).read_text()
    assert "#define MAPS_OUTPUT_DETECTIONS_PARTS 16" in header
    network = open_build(tmp_path / "build").lowered()  # from model.onnx
    assert network.program.output_names == ("scores", "sides", "detections")


def test_other_maps_are_told(tmp_path: Path) -> None:
    write(tmp_path / "maps.onnx", "nothing")
    with pytest.raises(DataError, match=r"the metadata tapc\.detector of the graph are damaged: 'nothing'"):
        compile_network(tmp_path / "maps.onnx", board="microbit", output=tmp_path / "build")
