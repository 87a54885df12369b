"""Metrics: which one labels and outputs lead to, what they give, what cannot fit."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tapc.base.detector import Detector, decoded, set_detector
from tapc.base.errors import DataError, UsageError
from tapc.data import Samples
from tapc.data.choice import choose
from tapc.data.figures import auc, confidence, confusion, sqnr
from tapc.data.metrics import agreement, measure, outcome

RNG = np.random.default_rng(5)


def network(inputs: tuple[int, ...], outputs: tuple[int, ...], last: str = "Identity") -> onnx.ModelProto:
    """Return a graph of one node; only its shapes and its last operator count."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *inputs))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, *outputs))
    bounds = [helper.make_tensor("zero", 1, (), [0.0]), helper.make_tensor("one", 1, (), [1.0])]
    names = ["x", "zero", "one"] if last == "Clip" else ["x"]
    return helper.make_model(helper.make_graph([helper.make_node(last, names, ["y"])], "g", [x], [y], bounds))


def samples(y: Any, size: int = 4, labels: tuple[str, ...] | None = None) -> Samples:
    labels_ = None if y is None else np.asarray(y)
    x = RNG.normal(0, 1, (20 if labels_ is None else len(labels_), size)).astype(np.float32)
    return Samples(x, labels_, "d.npz: samples", labels, unlabelled="the archive has no 'y'" if y is None else "")


CHOICES: dict[str, tuple[Any, tuple[int, ...], str, str, float | None]] = {
    "classes": ([0, 4, 2], (5,), "Gemm", "top1", None),
    "classes of one pixel": ([0, 4, 2], (5, 1, 1), "Conv", "top1", None),
    "two outputs": ([0, 1, 1], (2,), "Softmax", "binary", None),
    "logit": ([0, 1, 1], (1,), "Gemm", "binary", 0.0),
    "probability": ([0, 1, 1], (1,), "Sigmoid", "binary", 0.5),
    "cut to 0..1": ([0, 1, 1], (1,), "Clip", "binary", 0.5),
    "numbers": ([0, 1, 7], (1,), "Gemm", "regression", None),
    "fractions": (np.array([0.5, 1, 7], np.float32), (1,), "Gemm", "regression", None),
    "targets": (np.ones((3, 2), np.float32), (2,), "Gemm", "regression", None),
    "reconstruction": ([0, 1, 1], (4,), "Gemm", "auc", None),
    "classes as many as inputs": ([0, 1, 1], (4,), "Softmax", "top1", None),
    "map": ([0, 1, 2], (3, 4, 4), "Conv", "none", None),
    "no labels": (None, (5,), "Gemm", "none", None),
}


@pytest.mark.parametrize("kind", CHOICES)
def test_the_metric_follows_from_labels_and_outputs(kind: str) -> None:
    y, outputs, last, name, threshold = CHOICES[kind]
    found = choose("auto", samples(y), network((4,), outputs, last))
    assert (found.name, found.threshold) == (name, threshold)
    assert bool(found.reason) == (name == "none")
    assert found.classes == (name in ("top1", "binary") and found.outputs > 1)


MISFITS: dict[str, tuple[str, Any, tuple[int, ...], tuple[str, ...] | None, str]] = {
    "beyond": ("auto", [0, 9, 3], (4,), None, "labels from 0 to 9, the network has 4 outputs"),
    "from one": ("auto", [1, 3, 3, 2], (3,), None, "counted from 1: subtract 1"),
    "negative": ("auto", [-1, 2, 0], (3,), None, "labels from -1 to 2"),
    "folders": ("auto", [0, 1, 2], (4,), ("a", "b", "c"), r"3 classes \(a, b, c\), the network has 4 outputs"),
    "folders, one output": ("auto", [0, 1, 2], (1,), ("a", "b", "c"), "3 classes"),
    "fractions": ("auto", np.array([0.5, 2, 1]), (3,), None, r"no whole numbers \(as 0.5\)"),
    "too few targets": ("auto", np.ones((3, 2), np.float32), (3,), None, r"2 target\(s\) per sample and 3 output"),
    "one output": ("top1", [0, 1], (1,), None, "the network has one output"),
    "many outputs": ("binary", [0, 1], (3,), None, "one or two are needed"),
    "not 0 and 1": ("binary", [0, 2], (2,), None, "needs labels 0 and 1; labels are from 0 to 2"),
    "no labels": ("top1", None, (3,), None, "needs labels; .* the archive has no 'y'"),
    "names": ("regression", [0, 1], (1,), ("a", "b"), "regression needs numbers"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_labels_that_cannot_fit(kind: str) -> None:
    wanted, y, outputs, labels, message = MISFITS[kind]
    with pytest.raises(DataError, match=message):
        choose(wanted, samples(y, 7, labels), network((7,), outputs))


def test_a_metric_may_be_unknown_or_not_wanted() -> None:
    with pytest.raises(UsageError, match="unknown metric 'f1'"):
        choose("f1", samples([0, 1]), network((4,), (2,)))
    assert choose("none", samples([0, 1]), network((4,), (2,))).reason


def test_top1_and_confusion() -> None:
    y = np.array([0, 1, 2, 2])
    outputs = np.eye(3)[[0, 2, 2, 1]]
    score = measure(choose("auto", samples(y), network((4,), (3,))), outputs, samples(y))
    assert (score.values, score.share, score.headline) == ({"top1": 50.0}, 50.0, 50.0)
    assert score.standard_error(4) == pytest.approx(25.0)
    assert confusion(outputs, y, 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]


def test_a_single_output_has_a_threshold_and_an_area() -> None:
    y = np.array([0, 0, 1, 1])
    outputs = np.array([[0.1], [0.6], [0.4], [0.9]])
    one = measure(choose("auto", samples(y), network((4,), (1,), "Sigmoid")), outputs, samples(y))
    assert one.values == {"accuracy": 50.0, "auc": 0.75}
    logit = measure(choose("auto", samples(y), network((4,), (1,))), outputs - 0.5, samples(y))
    assert logit.values == one.values
    two = measure(
        choose("auto", samples(y), network((4,), (2,))), np.hstack([0.5 - outputs, outputs - 0.5]), samples(y)
    )
    assert two.values == one.values


def test_the_area_is_the_share_of_ordered_pairs() -> None:
    score, y = RNG.integers(0, 8, 60).astype(float), RNG.integers(0, 2, 60)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[y == 1] for b in score[y == 0]]
    assert auc(score, y) == pytest.approx(np.mean(pairs))
    assert auc(score, np.ones(60)) is None


def test_regression() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.5], np.float32)
    graph = network((4,), (1,))
    perfect = measure(choose("auto", samples(y), graph), y[:, None], samples(y))
    assert perfect.values == {"mae": 0.0, "mse": 0.0, "r2": 1.0}
    off = measure(choose("auto", samples(y), graph), y[:, None] + 0.5, samples(y))
    assert (off.values["mae"], off.values["mse"]) == pytest.approx((0.5, 0.25))
    assert off.values["r2"] == pytest.approx(1 - 4 * 0.25 / np.square(y - y.mean()).sum())
    assert off.share is None


def test_what_is_not_given_back_is_an_anomaly() -> None:
    y = np.array([0, 1, 0, 1])
    given = samples(y)
    metric = choose("auto", given, network((4,), (4,)))
    outputs = given.x + y[:, None]
    assert measure(metric, outputs, given).values == {"auc": 1.0}
    assert measure(metric, given.x + 1 - y[:, None], given).values == {"auc": 0.0}


def test_signal_to_noise() -> None:
    exact = RNG.normal(0, 1, (50, 3))
    assert sqnr(exact, exact * 1.1) == pytest.approx(20.0)
    assert sqnr(exact, exact) is None


def test_confidence_is_that_of_the_softmax() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]]))
    assert confidence(logits, certain=False) == pytest.approx(60.0)
    assert confidence(np.exp(logits), certain=True) == pytest.approx(60.0)


@pytest.mark.parametrize(("y", "outputs", "last", "shares"), [
    ([0, 1, 2], (3,), "Gemm", 50.0), ([0, 1, 1], (1,), "Gemm", 75.0), ([0, 1, 7], (1,), "Gemm", None),
    (None, (3,), "Softmax", 50.0), (None, (3,), "Gemm", None), (None, (1,), "Gemm", None),
    (np.full((3, 3), 0.5), (3,), "Softmax", None),
])  # fmt: skip
def test_the_same_class(y: Any, outputs: tuple[int, ...], last: str, shares: float | None) -> None:
    metric = choose("auto", samples(y), network((4,), outputs, last))
    exact = np.array([1.0, 2.0, -1.0, -2.0])[:, None] if outputs == (1,) else np.eye(3)[[0, 1, 2, 0]]
    found = np.array([1.0, -2.0, -1.0, -2.0])[:, None] if outputs == (1,) else np.eye(3)[[0, 1, 1, 1]]
    assert agreement(metric, exact, found) == shares


def test_lines() -> None:
    assert outcome("top1", {"float": {"top1": 90.0}, "onnx": {"top1": 80.0}}, 5, None) == (
        "top-1 over 5 samples: float 90.0 %, ONNX 80.0 %"
    )
    assert outcome("binary", {"device": {"accuracy": 90.0, "auc": 0.5}}, 5, 0.5) == (
        "binary over 5 samples (threshold 0.5): device 90.0 % (AUC 0.5000)"
    )
    assert outcome("regression", {"device": {"mae": 0.25, "r2": 0.5}}, 5, None).endswith("device MAE 0.25 (R2 0.5)")
    assert outcome("auc", {"device": {"auc": 0.75}}, 5, None) == "AUC over 5 samples: device 0.7500"


MASKS = np.array([[[0, 1, 1, 0], [2, 2, 0, 255]]], np.int64)


def test_masks() -> None:
    y = MASKS.reshape(1, -1).astype(np.float32)
    metric = choose("auto", samples(y), network((4,), (3, 2, 4), "Conv"))
    assert metric.name == "miou"
    outputs = np.eye(3)[np.where(MASKS == 255, 0, MASKS)].transpose(0, 3, 1, 2)
    assert measure(metric, outputs, samples(y)).values == {"miou": 100.0, "pixels": 100.0}
    outputs[0, :, 0, 0] = 0, 3, 0  # taken for class 1
    found = measure(metric, outputs, samples(y))
    assert found.values["miou"] == pytest.approx(100 * (2 / 3 + 2 / 3 + 1) / 3)
    assert found.values["pixels"] == pytest.approx(100 * 6 / 7)
    assert found.headline == found.values["miou"]


def test_masks_of_one_channel_and_of_numbers() -> None:
    y = np.array([[0, 1, 1, 0, 0, 0, 0, 1]], np.float32)
    metric = choose("auto", samples(y), network((4,), (1, 2, 4), "Sigmoid"))
    assert (metric.name, metric.threshold) == ("miou", 0.5)
    assert measure(metric, 0.4 + 0.2 * y.reshape(1, 1, 2, 4), samples(y)).values["miou"] == 100.0
    assert choose("auto", samples(y + 0.5), network((4,), (1, 2, 4))).name == "regression"
    with pytest.raises(DataError, match=r"masks hold 0 to 7; classes are 0 to 2"):
        choose("auto", samples(7 * y), network((4,), (3, 2, 4)))
    with pytest.raises(DataError, match="a class for every pixel"):
        choose("miou", samples([1, 2]), network((4,), (3, 2, 4)))


def detecting(shapes: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Return a graph of a detector's maps."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *shape)) for name, shape in shapes.items()]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Split", ["x"], list(shapes))], "g", [values[0]], values)
    )
    set_detector(model, Detector("scores", "sides", 4, 2.0, 0.3))
    return model


@pytest.mark.parametrize("turned", [False, True])
def test_detections(turned: bool) -> None:
    scores, sides = np.zeros((1, 2, 3, 4)), np.zeros((1, 4, 3, 4))
    scores[0, 1, 1, 2] = 0.9
    sides[0, :, 1, 2] = 1, 2, 3, 1
    maps = {"scores": (2, 3, 4), "sides": (4, 3, 4)}
    graph = detecting(dict(reversed(maps.items())) if turned else maps)
    outputs = np.concatenate([a.reshape(1, -1) for a in ((sides, scores) if turned else (scores, sides))], axis=1)
    box = np.array([[1, 8, 2, 16, 8, -1, 0, 0, 0, 0]], np.float32)
    known = replace(samples(box), fields=5)
    metric = choose("auto", known, graph)
    assert metric.name == "map"
    assert metric.detections(outputs)[0, 0].tolist() == [1, 0.9, 8, 2, 16, 8]
    assert (metric.detections(outputs)[0, 1:] == -1).all()
    assert measure(metric, outputs, known).values == {"map50": 100.0, "map": 100.0, "voc": 100.0, "voc07": 100.0}
    missed = measure(metric, outputs, known, np.full((1, 16, 6), -1.0))
    assert missed.values["map50"] == 0.0
    with pytest.raises(DataError, match="its metric is map"):
        choose("top1", known, graph)
    with pytest.raises(DataError, match="boxes of classes from -1 to 2; the network has 2"):
        choose("auto", replace(known, y=np.where(box == 1, 2, box)), graph)
    with pytest.raises(DataError, match=r"are boxes, \(N, M, 5\)"):
        choose("map", samples([0]), graph)


def test_boxes_that_overlap_are_one_detection() -> None:
    own = Detector("scores", "sides", 4, 1.0, 0.3, 0.3, 3)
    scores, sides = np.zeros((2, 1, 8)), np.full((4, 1, 8), 8.0)
    scores[0, 0] = 0, 0.8, 0.8, 0, 0.9, 0, 0.7, 0.2  # of equal neighbours the first
    found = decoded(own, scores, sides)
    assert found[:, 1].tolist() == [0.9, 0.8, -1]  # 0.7 lies on 0.9, 8 of 22 columns
    assert found[0].tolist() == [0, 0.9, 10, 0, 26, 4]
    scores[1, 0, 6], scores[0, 0, 6] = 0.7, 0  # of another class
    assert decoded(own, scores, sides)[:, 0].tolist() == [0, 0, 1]
