"""Boxes that ONNX files make of anchors: whatever the nodes are, the same anchors; anything else is no encoding."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.detectors_in_onnx import COUNT, HEIGHT, WIDTH, Builder, save, tf_like, torch_like, yolo_like
from tapc.base.boxes import BoxDetector, packed
from tapc.base.detector import detector
from tapc.frontend import load
from tapc.frontend.onnx_anchors import encoded
from tapc.frontend.onnx_tail import Numbers


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), form=st.sampled_from(["yxyx", "xyxy", "xywh"]), turned=st.booleans(),
    unit=st.sampled_from([1.0, 320.0]), how=st.sampled_from(["slice", "split", "transposed", "rows"]),
    cut=st.sampled_from(["", "clamp", "sigmoid", "box by box"]),
)  # fmt: skip
def test_anchors_are_found_in_any_spelling(seed: int, form: Any, turned: bool, unit: float, how: str, cut: str) -> None:
    """Columns in either order, variances, clamps of the logarithm beyond all that is compared; or something else."""
    rng, b = np.random.default_rng(seed), Builder()
    anchors = rng.uniform(0.05, 1, (COUNT, 4)) * unit  # y, x, height, width
    scales = rng.uniform(0.5, 12, 4) if how == "rows" else np.repeat(rng.uniform(0.5, 12, 2), 2)
    x_first = [1, 0, 3, 2]
    place = x_first if turned else [0, 1, 2, 3]  # of the columns
    x = b.sides("x")
    own = anchors[:, place]
    if how == "rows":
        x = b.op("Div", [x, b.constant(scales[place])])
        scales = scales[place][place]
        factors = (1.0, 1.0)
    else:
        factors = (1 / scales[0], 1 / scales[2])
    if how == "split":
        b.nodes.append(helper_split(x))
        shift, grown = "shift", "grown"
    elif how == "transposed":
        y = b.op("Transpose", [x], perm=[0, 2, 1])
        shift, grown = (b.op("Transpose", [b.part(y, i, i + 2, 1)], perm=[0, 2, 1]) for i in (0, 2))
    else:
        shift, grown = b.part(x, 0, 2), b.part(x, 2, 4)
    if cut == "sigmoid":
        shift = b.op("Sigmoid", [shift])
    if cut == "box by box":
        shift = b.op("Mul", [shift, b.constant(rng.uniform(1, 2, (1, COUNT, 1)))])
    shift = b.op("Mul", [b.op("Mul", [shift, b.constant(factors[0])]), b.constant(own[:, 2:])])
    middle = b.op("Add", [b.constant(own[None, :, :2]), shift])
    grown = b.op("Mul", [grown, b.constant(factors[1])])
    if cut == "clamp":
        grown = b.op("Min", [grown, b.constant(4.135)])
    sides = b.op("Mul", [b.op("Exp", [grown]), b.constant(own[:, 2:])])
    wanted_first = form != "yxyx"  # what the boxes have first
    if wanted_first != turned:
        order = b.constant([1, 0], np.int64)
        middle, sides = (b.op("Gather", [part, order], axis=2) for part in (middle, sides))
    half = b.op("Div", [sides, b.constant(2)])
    parts = [middle, sides] if form == "xywh" else [b.op("Sub", [middle, half]), b.op("Add", [middle, half])]
    boxes = b.op("Concat", parts, axis=2)
    model = b.model([boxes])
    found = encoded(model, boxes, Numbers.of(model, {}), form)
    if cut in ("sigmoid", "box by box"):
        assert found is None
        return
    assert found is not None
    assert found.columns == place
    rows = BoxDetector("", "", anchors=found.anchors).anchor_rows()
    np.testing.assert_allclose(rows, anchors, rtol=1e-4, atol=1e-4 * unit)
    np.testing.assert_allclose(found.scales, scales, rtol=1e-3)


def helper_split(x: str) -> Any:
    from onnx import helper

    return helper.make_node("Split", [x], ["shift", "grown"], axis=2)


@pytest.mark.parametrize("name", ["torch", "tf", "yolo"])
def test_anchors_are_in_pictures(name: str, tmp_path: Path) -> None:
    """The files' boxes are in pixels, their columns x first but for TensorFlow's."""
    xyxy = {"tapc.detector": json.dumps({"form": "xyxy"})}
    model = {"torch": torch_like(**xyxy), "tf": tf_like(), "yolo": yolo_like()}[name]
    loaded = load(save(model, tmp_path))
    found = detector(loaded.onnx)
    assert isinstance(found, BoxDetector)
    assert (found.form, found.size) == ("anchors", (WIDTH, HEIGHT))
    middles = Builder().middles()[:, ::-1] / (HEIGHT, WIDTH)
    wanted = np.concatenate([middles, np.tile([1 / HEIGHT, 1 / WIDTH], (COUNT, 1))], axis=1)
    np.testing.assert_allclose(found.anchor_rows(), wanted, rtol=1e-5)
    np.testing.assert_allclose(found.scales, (10, 10, 1, 1), rtol=1e-5)
    assert not {"Exp", "Concat"} & {node.op_type for node in loaded.onnx.graph.node}  # what made the boxes is gone


def test_the_unit_is_told_or_seen(tmp_path: Path) -> None:
    """Metadata say that a distance of 1 is 2 x 4 pixels; the file has pixels, so that all is larger by that."""
    told = {"tapc.detector": json.dumps({"form": "xyxy", "size": [2, 4]})}
    plain, scaled = (detector(load(save(model, tmp_path)).onnx) for model in
                     (torch_like(**{"tapc.detector": '{"form": "xyxy"}'}), torch_like(**told)))  # fmt: skip
    assert isinstance(plain, BoxDetector)
    assert isinstance(scaled, BoxDetector)
    assert scaled.anchors == packed(plain.anchor_rows() * (4, 2, 4, 2))
    assert scaled.size == plain.size
