"""Detections of the codes that ONNX's NonMaxSuppression reads: onnxruntime chooses the same boxes."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kernels.test_nms import codes_of, detector, program
from tapc.base.boxes import BoxDetector
from tapc.ir.program import Program
from tapc.lower.codes import detections
from tapc.lower.reference import execute


def onnxruntime_s(own: BoxDetector, boxes: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return classes and boxes that are chosen, of boxes (N, 4) and scores (N, classes)."""
    constants = {
        "most": np.array([own.per_class]), "iou": np.array([own.overlap], np.float32),
        "least": np.array([own.threshold], np.float32),
    }  # fmt: skip
    node = helper.make_node(
        "NonMaxSuppression", ["boxes", "scores", *constants], ["y"], center_point_box=int(own.form == "xywh")
    )
    shapes = {"boxes": (1, *boxes.shape), "scores": (1, scores.shape[1], len(scores))}
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.INT64, (None, 3))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"boxes": boxes[None].astype("f4"), "scores": scores.T[None].astype("f4")})[0]
    return np.asarray(found)[:, 1:]


def real(whole: Program, codes: NDArray[Any], own: BoxDetector) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what boxes and scores a row of codes means, (N, 4) and (N, classes)."""
    scores, boxes = whole.tensors["s"], whole.tensors["d"]
    split = int(np.prod(scores.shape))
    parts = [(part - t.zero) * np.float32(t.scale) for part, t in zip(np.split(codes, [split]), (scores, boxes),
                                                                      strict=True)]  # fmt: skip
    count = len(parts[1]) // 4
    s, b = (part.reshape(-1, count).T if turned else part.reshape(count, -1)
            for part, turned in zip(parts, own.turned, strict=True))  # fmt: skip
    return b.astype(np.float32), s.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), count=st.integers(1, 60), classes=st.integers(1, 4),
    form=st.sampled_from(["xywh", "yxyx"]), most=st.integers(1, 36), each=st.integers(1, 9),
    overlap=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]), least=st.integers(-2, 256),
    bits=st.sampled_from([4, 8, 16]), spread=st.sampled_from([3, 15, 255]),
    grid=st.sampled_from([1, 32, 64]),
)  # fmt: skip
def test_onnxruntime_chooses_the_same(
    seed: int,
    count: int,
    classes: int,
    form: Any,
    most: int,
    each: int,
    overlap: float,
    least: int,
    bits: int,
    spread: int,
    grid: int,
) -> None:
    """Codes whose scale is a power of two: edges and areas are exact, and so is the choice, of equal scores, too."""
    rng = np.random.default_rng(seed)
    score = {4: (4, 1 / 16, 0), 8: (8, 1 / 256, -128), 16: (16, 2.0**-15, 0)}[bits]
    own = detector(
        count, form=form, together=False, strict=True, background=0, overlap=overlap, threshold=least / 256,
        per_class=each, most=most, turned=(bool(rng.integers(2)), bool(rng.integers(2))),
    )  # fmt: skip
    whole = program(own, count, classes, score=score, box=(8, 1 / 64, int(rng.integers(-128, 128))))
    codes = codes_of(whole, 3, rng, min(spread, 2**bits - 1))
    codes[:, count * classes :] -= codes[:, count * classes :] % grid  # alike boxes, overlaps of exactly the threshold
    found = detections(whole, execute(whole, codes))
    assert found is not None
    for rows, given_codes in zip(found, codes, strict=True):
        np.testing.assert_array_equal(rows[rows[:, 0] >= 0], expected(own, *real(whole, given_codes, own)))


def expected(own: BoxDetector, boxes: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return onnxruntime's detections as rows, the surest first, and of equal ones the first class."""
    wanted = onnxruntime_s(own, boxes, scores).tolist()
    edges = own.edges(boxes.astype(np.float64))
    rows = [
        (kind, scores[box, kind], *edges[box]) for kind, box in sorted(wanted, key=lambda one: -scores[one[1], one[0]])
    ]
    return np.array(rows[: own.most], np.float64).reshape(-1, 6)


def within_rounding(edges: NDArray[np.float64], share: float) -> bool:
    """Tell whether the overlap of two boxes, in parts, may be on the other side of a share once edges are whole."""
    first, second = (edges[index] for index in np.triu_indices(len(edges), 1))
    sides = [box[:, 2:] - box[:, :2] for box in (first, second)]
    inner = np.maximum(np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2]), 0)
    union = sides[0].prod(axis=1) + sides[1].prod(axis=1) - inner.prod(axis=1)
    off = inner.sum(axis=1) + 1  # each edge moves by half a part
    slack = off + share * (off + sides[0].sum(axis=1) + sides[1].sum(axis=1) + 2) + union * 2.0**-16
    return bool((np.abs(inner.prod(axis=1) - share * union) <= slack).any())


@pytest.mark.parametrize(("bits", "form"), [(8, "yxyx"), (8, "xywh"), (16, "xyxy"), (16, "xywh")])
def test_of_any_scale_but_for_overlaps_within_rounding(bits: int, form: Any) -> None:
    """Where no overlap is within rounding of the threshold, the same boxes; edges half a part off."""
    rng, count, told = np.random.default_rng(bits), 14, 0
    for _ in range(40):
        own = detector(
            count, form=form, together=False, strict=True, background=0, overlap=float(rng.uniform(0.1, 0.9)), most=8,
            threshold=float(rng.uniform(0, 0.6)), per_class=4,
        )  # fmt: skip
        scale = float(rng.uniform(0.5, 2)) * (1 / 128 if bits == 8 else 1 / 32768)
        whole = program(own, count, 2, box=(bits, scale, int(rng.integers(-50, 50))))
        codes = codes_of(whole, 3, rng, 255)[2:]
        boxes, scores = real(whole, codes[0], own)
        found, part = detections(whole, execute(whole, codes)), whole.tensors["detections"].scale
        assert found is not None
        if within_rounding(own.edges(boxes.astype(np.float64)) / part, own.overlap):
            continue
        rows, wanted = found[0], expected(own, boxes, scores)
        assert (rows[:, 0] >= 0).sum() == len(wanted)
        np.testing.assert_array_equal(rows[: len(wanted), :2], wanted[:, :2])
        np.testing.assert_allclose(rows[: len(wanted), 2:], wanted[:, 2:], atol=0.5001 * part, rtol=0)
        told += 1
    assert told >= 20
