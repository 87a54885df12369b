"""Which ONNX files with a NonMaxSuppression are detectors, what they say, and why others are refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from frontend.detectors_in_onnx import COUNT, HEIGHT, WIDTH, Builder, X, save, tf_like, torch_like, yolo_like
from tapc.base.boxes import BoxDetector
from tapc.base.detector import detector
from tapc.base.errors import DataError, TapcError, UnsupportedError
from tapc.frontend import load


def read(model: onnx.ModelProto, folder: Path, **options: Any) -> BoxDetector:
    found = detector(load(save(model, folder), **options).onnx)
    assert isinstance(found, BoxDetector)
    return found


def plain(numbers: tuple[Any, Any, Any] = (4, 0.5, 0.5), inputs: dict[str, Any] | None = None) -> onnx.ModelProto:
    """Return a network of two classes that ends in its suppression."""
    b = Builder()
    scores = b.op("Transpose", [b.op("Sigmoid", [b.scores("x")])], perm=[0, 2, 1])
    return b.model([b.suppressed(b.sides("x"), scores, numbers)], X | (inputs or {}))


def test_what_exporters_write(tmp_path: Path) -> None:
    found = read(torch_like(cut=True), tmp_path)
    assert (found.form, found.most, found.per_class, found.background) == ("yxyx", 8, 4, 0)
    assert (found.strict, found.together, found.overlap, found.threshold) == (True, False, 0.5, 0.5)
    assert found.maps == ("scores", "boxes")
    found = read(tf_like(), tmp_path)
    assert (found.form, found.most, found.per_class) == ("anchors", 6, 6)
    assert read(tf_like(first=2), tmp_path).most == 2  # of one class the first are the surest
    found = read(yolo_like(cells=True), tmp_path)
    assert (found.form, found.most, found.per_class) == ("xywh", 6, 3)
    assert read(yolo_like(surest=5), tmp_path).most == 5
    assert "are middle x, y, width, height" in load(save(yolo_like(), tmp_path)).provenance


@pytest.mark.parametrize(("each", "most"), [(1, 2), (100, 2 * COUNT), (2**63 - 1, 2 * COUNT)])
def test_there_are_as_many_rows_as_boxes_may_be_found(each: int, most: int, tmp_path: Path) -> None:
    found = read(plain((each, 0.5, 0.5)), tmp_path)
    assert (found.most, found.per_class) == (most, min(each, COUNT))


def test_metadata_say_what_the_file_does_not(tmp_path: Path) -> None:
    own = {"form": "xyxy", "size": [300, 200], "most": 7, "background": 1}
    model = torch_like(cut=True, **{"tapc.detector": json.dumps(own)})
    found = read(model, tmp_path)
    assert (found.form, found.size, found.most, found.background, found.overlap) == ("xyxy", (300, 200), 7, 1, 0.5)
    assert "NonMaxSuppression" not in load(save(model, tmp_path)).provenance
    assert "boxes of its NonMaxSuppression are corners y, x, y, x" in load(save(torch_like(), tmp_path)).provenance


def test_numbers_that_are_inputs_are_given(tmp_path: Path) -> None:
    inputs = {"sure": (TensorProto.FLOAT, (1,)), "many": (TensorProto.INT64, (1,))}
    model = plain(("many", 0.5, "sure"), inputs)
    with pytest.raises(UnsupportedError, match=r"max_output_boxes_per_class \('many'\) is .*--constant many=VALUE"):
        load(save(model, tmp_path))
    found = read(model, tmp_path, constant={"sure": 0.25, "many": 3})
    assert (found.threshold, found.per_class, found.most) == (0.25, 3, 6)


def test_without_a_score_threshold_every_box_counts(tmp_path: Path) -> None:
    model = plain()
    node = model.graph.node[-1]
    del node.input[2:]
    with pytest.raises(DataError, match="finds nothing with max_output_boxes_per_class 0"):
        load(save(model, tmp_path))
    model = plain()
    del model.graph.node[-1].input[4:]
    assert read(model, tmp_path).threshold < -1e38


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 0.5, 0.5), "finds nothing with max_output_boxes_per_class 0; give one of 1 or more"),
        ((-1, 0.5, 0.5), "max_output_boxes_per_class -1"),
        ((4, 1.5, 0.5), r"iou_threshold is 1.5; give a share of the union, from 0 to 1"),
        ((4, -0.1, 0.5), r"iou_threshold is -0.1"),
        ((4, np.nan, 0.5), r"iou_threshold is nan"),
        ((4, 0.5, np.nan), r"no score is above score_threshold, nan"),
        ((4, 0.5, np.inf), r"no score is above score_threshold, inf"),
        ((4, 0.5, 1.0), r"no score is above score_threshold, 1; give a smaller one"),
    ],
)
def test_impossible_numbers(numbers: tuple[Any, Any, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load(save(plain(numbers), tmp_path))
    assert caught.value.exit_code == 4


def behind(change: Callable[[Builder, str, str], list[str]]) -> onnx.ModelProto:
    """Return a network behind whose suppression something else stands."""
    b = Builder()
    scores = b.op("Transpose", [b.op("Sigmoid", [b.scores("x")])], perm=[0, 2, 1])
    boxes = b.sides("x")
    return b.model(change(b, b.suppressed(boxes, scores, (4, 0.5, 0.5)), boxes))


def ints(b: Builder, *values: int) -> str:
    return b.constant(values, np.int64)


def computed(b: Builder, found: str, boxes: str) -> list[str]:
    return [b.op("Mul", [b.op("Gather", [boxes, b.part(found, 2, 3, 1)], axis=1), b.constant(2.0)])]


def elsewhere(b: Builder, found: str, boxes: str) -> list[str]:
    return [b.op("Gather", [b.scores("x", 1), b.part(found, 2, 3, 1)], axis=1)]


def besides(b: Builder, found: str, boxes: str) -> list[str]:
    return [found, b.scores("x", 1)]


def two(b: Builder, found: str, boxes: str) -> list[str]:
    scores = b.op("Transpose", [b.scores("x")], perm=[0, 2, 1])
    return [found, b.suppressed(boxes, scores, (4, 0.5, 0.5))]


def sorted_(b: Builder, found: str, scores: str, largest: int) -> list[str]:
    """Return the places of the most or least of the scores that are found, or of the boxes' numbers."""
    values = b.op("GatherND", [scores, found]) if scores else b.op("Gather", [found, ints(b, 2)], axis=1)
    b.nodes.append(helper.make_node("TopK", [values, ints(b, 1)], ["values", "y"], largest=largest, axis=0))
    return ["y"]


REFUSED: dict[str, tuple[Callable[[Builder, str, str], list[str]], str]] = {
    "computes": (computed, r"\(Mul\) does not only look up what it finds; end the network at the suppression"),
    "looks up elsewhere": (elsewhere, r"looks up what it finds in 't\d+', which is neither its boxes nor its scores"),
    "gives more": (besides, r"the output 't\d+' stands beside what it finds; .* export it without"),
    "two": (two, "a network has one, of all of its classes; export the network up to its boxes and scores"),
    "first of classes": (lambda b, found, boxes: [b.part(found, 0, 3, 0)],
                         "2 classes, of which the first 3 boxes are taken behind it, class by class"),
    "last": (lambda b, found, boxes: [b.part(found, -3, 1 << 31, 0)], "leaves out some of what it finds"),
    "one row": (lambda b, found, boxes: [b.op("Gather", [found, ints(b, 1)], axis=0)], "leaves out some"),
    "least sure": (lambda b, found, boxes: sorted_(b, found, b.nodes[-1].input[1], 0), r"\(TopK\) leaves out some"),
    "sorted by box": (lambda b, found, boxes: sorted_(b, found, "", 1), r"\(TopK\) leaves out some"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_stands_behind(case: str, tmp_path: Path) -> None:
    change, words = REFUSED[case]
    with pytest.raises(UnsupportedError, match=words) as caught:
        load(save(behind(change), tmp_path))
    assert caught.value.exit_code == 3


def test_all_of_what_is_found_is_no_choice(tmp_path: Path) -> None:
    kept = read(behind(lambda b, found, boxes: [b.part(found, 0, 8, 0)]), tmp_path)  # as many as there may be
    assert kept.most == 8
    turned = behind(lambda b, found, boxes: [b.op("Gather", [b.op("Transpose", [found]), ints(b, 2)], axis=0)])
    assert read(turned, tmp_path).most == 8


def test_in_branches_and_functions(tmp_path: Path) -> None:
    model = plain()
    node, inner = model.graph.node[-1], onnx.GraphProto()
    inner.CopyFrom(
        helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("t", TensorProto.INT64, None)])
    )
    inner.node[0].output[0] = "t"
    flag = helper.make_tensor("flag", TensorProto.BOOL, (), [True])
    branch = helper.make_node("If", ["flag"], [node.output[0]], then_branch=inner, else_branch=inner)
    model.graph.initializer.append(flag)
    model.graph.node.remove(node)
    model.graph.node.append(branch)
    with pytest.raises(UnsupportedError, match="stands in a branch or loop"):
        load(save(model, tmp_path))
    model = plain()
    node = model.graph.node[-1]
    names = ["a", "b", "c", "d", "e"]
    inside = helper.make_node("NonMaxSuppression", names, ["y"])
    local = helper.make_function("own", "F", names, ["y"], [inside], [helper.make_opsetid("", 17)])
    model.functions.append(local)
    model.opset_import.append(helper.make_opsetid("own", 1))
    node.domain, node.op_type = "own", "F"
    assert read(model, tmp_path).most == 8


def test_shapes_that_are_no_detector_s(tmp_path: Path) -> None:
    b = Builder()
    boxes = b.op("Reshape", [b.sides("x"), ints(b, 2, COUNT // 2, 4)])
    scores = b.op("Reshape", [b.scores("x"), ints(b, 2, 2, COUNT // 2)])
    with pytest.raises(UnsupportedError, match=r"boxes \[2, 20, 4\] and scores \[2, 2, 20\]: .* with batch 1"):
        load(save(b.model([b.suppressed(boxes, scores, (4, 0.5, 0.5))]), tmp_path))
    b = Builder()
    scores = b.op("Reshape", [b.scores("x"), ints(b, 1, 4, COUNT // 2)])
    with pytest.raises(UnsupportedError, match=r"boxes \[1, 40, 4\] and scores \[1, 4, 20\]"):
        load(save(b.model([b.suppressed(b.sides("x"), scores, (4, 0.5, 0.5))]), tmp_path))


def test_damaged_metadata(tmp_path: Path) -> None:
    for fields in ({"most": "many"}, {"nonsense": 1}, {"per_class": None}, {"most": 999}, {"form": "zyx"}):
        with pytest.raises(TapcError, match=r"metadata tapc\.detector|damaged|a detector"):
            load(save(torch_like(**{"tapc.detector": json.dumps(fields)}), tmp_path))


def test_quantized_files(tmp_path: Path) -> None:
    """What quantizes stands before the suppression, and behind it around what is looked up."""
    x = np.random.default_rng(0).random((8, 1, 3, HEIGHT, WIDTH), np.float32)

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(x)

        def get_next(self) -> dict[str, Any] | None:
            return None if (row := next(self.rows, None)) is None else {"x": row}

    source, target = save(torch_like(cut=True), tmp_path), tmp_path / "quantized.onnx"
    quantize_static(source, target, Samples(), activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)
    model = load(target)
    assert model.given is not None
    found = detector(model.onnx)
    assert isinstance(found, BoxDetector)
    assert (found.form, found.most, found.per_class, found.overlap) == ("yxyx", 8, 4, 0.5)


def test_a_detector_of_fields_is_one_of_a_file(tmp_path: Path) -> None:
    """What is read of a file is what a detector's own metadata would say."""
    found = read(plain(), tmp_path)
    wanted = BoxDetector("scores", "boxes", "yxyx", threshold=0.5, strict=True, most=8, together=False, per_class=4,
                         background=0)  # fmt: skip
    assert replace(found, turned=(False, False)) == wanted
