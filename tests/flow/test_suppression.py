"""NonMaxSuppression at the end of ONNX files, from the file to the board: detections are those of onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from flow.test_boxes import pictures
from frontend.detectors_in_onnx import save, tf_like, torch_like, yolo_like
from tapc import compile as compile_network
from tapc.flow.rerun import open_build
from tapc.lower.codes import detections, input_codes
from tapc.lower.reference import execute
from tapc.operators.nms import Nms

XYXY = {"tapc.detector": '{"form": "xyxy"}'}
FORMS = {
    "torch": (torch_like(**XYXY), "stm32h7", (0, 1, 2, 3), "anchors"),
    "tf": (tf_like(), "microbit", (1, 0, 3, 2), "anchors"),
    "yolo": (yolo_like(), "stm32h7", (0, 1, 2, 3), "anchors"),
    "corners": (torch_like(cut=True, **XYXY), "stm32h7", (0, 1, 2, 3), "xyxy"),
    "cells": (yolo_like(cells=True), "pico", (0, 1, 2, 3), "xywh"),
}


def onnxruntime_s(model: onnx.ModelProto, x: NDArray[Any], order: tuple[int, ...]) -> list[NDArray[np.float64]]:
    """Return the detections of a file in onnxruntime, in float: rows, the surest first, of every sample."""
    node = next(node for node in model.graph.node if node.op_type == "NonMaxSuppression")
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    names = [node.input[0], node.input[1], node.output[0]]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    whole = onnx.shape_inference.infer_shapes(whole)
    session = ort.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    every = []
    for sample in x:
        boxes, scores, found = session.run(None, {"x": sample[None]})
        if any(item.name == "center_point_box" and item.i for item in node.attribute):
            boxes = np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=-1)
        rows = [(kind, scores[0, kind, box], *boxes[0, box][list(order)]) for _, kind, box in found]
        every.append(np.array(sorted(rows, key=lambda row: -row[1]), np.float64).reshape(-1, 6))
    return every


@pytest.mark.parametrize("form", FORMS)
def test_detections_are_those_of_onnxruntime(tmp_path: Path, form: str) -> None:
    model, board, order, kind = FORMS[form]
    x, y = pictures(24, 0)
    if form == "tf":
        y[y[:, :, 0] == 1] = -1  # the one class
    np.savez(tmp_path / "boxes.npz", x=x, y=y)
    result = compile_network(
        save(model, tmp_path), board=board, data=tmp_path / "boxes.npz", wbits=8, eval=12, output=tmp_path / "build"
    )
    report = result.report
    assert report.exact
    assert report.layers[-1].op == "nms"
    assert report.accuracy.metric == "map"
    assert [report.accuracy.scores[who]["map50"] for who in ("float", "onnx", "device")] == [100, 100, 100]
    assert report.accuracy.scores["device"]["map"] > (99 if kind == "anchors" else 80)
    program = open_build(tmp_path / "build").lowered().program
    assert program.output_names == ("scores", "boxes", "detections")
    found = detections(program, execute(program, input_codes(program, x)))
    assert found is not None
    assert isinstance(program.ops[-1], Nms)
    assert program.ops[-1].detector.form == kind
    scores, boxes = (program.tensors[name] for name in program.outputs[:2])
    given = x.transpose(0, 2, 3, 1) if form == "tf" else x
    for rows, wanted in zip(found, onnxruntime_s(model, given, order), strict=True):
        rows = rows[rows[:, 0] >= 0]
        assert sorted(rows[:, 0]) == sorted(wanted[:, 0])
        a, b = (own[np.lexsort((own[:, 2], own[:, 0]))] for own in (rows, wanted))
        np.testing.assert_allclose(a[:, 1], b[:, 1], atol=8 * scores.scale, rtol=0)
        np.testing.assert_allclose(a[:, 2:], b[:, 2:], atol=0.02 if kind == "anchors" else 3 * boxes.scale, rtol=0)
