"""Detections of boxes: C equals the reference, the reference LiteRT; what 16 bits do not hold."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frontend.tflite_builder import TfliteBuilder
from kernels.programs import run_together_on_host
from tapc.base.boxes import BoxDetector, packed
from tapc.base.errors import DataError, UnsupportedError
from tapc.ir.program import Program, Tensor
from tapc.lower.codes import detections
from tapc.lower.reference import execute
from tapc.operators.nms import with_boxes

KEYS = {"scores": "s", "boxes": "d"}


def anchors(count: int, rng: np.random.Generator, side: float = 0.4) -> NDArray[np.float32]:
    """Return anchors (count, 4) on the picture: y, x, height, width."""
    middles, sides = rng.uniform(0, 1, (count, 2)), rng.uniform(side / 10, side, (count, 2))
    return np.concatenate([middles, sides], axis=1).astype(np.float32)


def program(
    own: BoxDetector, count: int, classes: int, isa: str = "dsp", score: tuple[int, float, int] = (8, 1 / 256, -128),
    box: tuple[int, float, int] = (8, 0.05, 3),
) -> Program:  # fmt: skip
    """Return a program that gives its two outputs and their detections."""
    shapes = [(1, count, own.background + classes), (1, count, 4)]
    shapes = [(1, wide, high) if turned else (1, high, wide)
              for (_, high, wide), turned in zip(shapes, own.turned, strict=True)]  # fmt: skip
    tensors = {"s": Tensor("s", shapes[0], *score), "d": Tensor("d", shapes[1], *box)}
    names = ("s", "d")
    whole = Program("test", "float", tensors, (), names, names, isa, output_names=("scores", "boxes"))  # type: ignore[arg-type]
    return with_boxes(whole, own, KEYS)


def codes_of(own: Program, samples: int, rng: np.random.Generator, spread: int) -> NDArray[np.int64]:
    """Return rows of codes; few different scores, so that many are equal."""
    scores, boxes = own.tensors["s"], own.tensors["d"]
    step = (scores.high - scores.low) // spread
    a = scores.low + rng.integers(0, spread + 1, (samples, int(np.prod(scores.shape)))) * step
    b = rng.integers(boxes.low, boxes.high + 1, (samples, int(np.prod(boxes.shape))))
    b[0] = boxes.low
    b[1] = np.where(rng.random(b[1].shape) < 0.5, boxes.low, boxes.high)
    return np.concatenate([a, b], axis=1)


def detector(count: int, seed: int = 0, **fields: Any) -> BoxDetector:
    own = packed(anchors(count, np.random.default_rng(seed))) if fields.get("form", "anchors") == "anchors" else ""
    return BoxDetector("scores", "boxes", anchors=own, **fields)


SHORT, WIDE, NARROW = (16, 2.0**-15, 0), (16, 0.002, -700), (4, 1 / 15, 0)
CASES: list[tuple[BoxDetector, int, int, str, dict[str, Any], int]] = [
    (detector(60), 60, 3, "dsp", {}, 200),
    (detector(300, most=40, overlap=0.7, threshold=0.0), 300, 1, "scalar", {"score": SHORT, "box": WIDE}, 60),
    (detector(90, together=False, most=12, threshold=0.3, background=0), 90, 4, "mve", {}, 9),
    (detector(90, together=False, most=20, per_class=3, threshold=-9.0), 90, 3, "dsp", {"score": SHORT}, 30000),
    (detector(33, most=5, background=2), 33, 2, "dsp", {"score": NARROW, "box": (4, 1.5, 7)}, 15),
    (detector(1, most=1), 1, 1, "dsp", {}, 3),
    (detector(50, form="yxyx", together=False, strict=True, background=0, turned=(True, True), overlap=0.3), 50, 3,
     "dsp", {"box": (8, 0.5, -128)}, 20),
    (detector(50, form="xyxy", together=False, background=0, turned=(True, False)), 50, 2, "scalar",
     {"box": (16, 0.01, 0), "score": SHORT}, 40),
    (detector(50, form="xywh", background=0, turned=(False, True), overlap=0.0), 50, 5, "dsp",
     {"box": (8, 1.3, -100)}, 90),
]  # fmt: skip


def test_c_equals_the_reference(tmp_path: Any) -> None:
    rng, cases = np.random.default_rng(0), []
    for own, count, classes, isa, tensors, spread in CASES:
        whole = program(own, count, classes, isa, **tensors)
        cases.append((whole, codes_of(whole, 8, rng, spread), None))
    for (whole, codes, _), found in zip(cases, run_together_on_host(cases, tmp_path), strict=True):
        wanted = execute(whole, codes)
        np.testing.assert_array_equal(found, wanted)
        rows = detections(whole, wanted)
        assert rows is not None
        assert (rows[:, :, 0] >= 0).any()
        assert (rows[:, :-1, 1] >= rows[:, 1:, 1])[rows[:, 1:, 0] >= 0].all()


def litert(own: BoxDetector, count: int, classes: int) -> Any:
    """Return LiteRT's operator: boxes and scores -> boxes, classes, scores, and how many."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    b = TfliteBuilder(1, count, 4)
    scores = b.tensor((1, count, own.background + classes), name="scores")
    b.graph.inputs = [b.input, scores]
    y, x, h, w = own.scales
    results = b.post_process(
        b.input, scores, b.constant(own.anchor_rows().astype(np.float32)), own.most, max_classes_per_detection=1,
        nms_score_threshold=own.threshold, nms_iou_threshold=own.overlap, num_classes=classes, y_scale=y, x_scale=x,
        h_scale=h, w_scale=w, use_regular_nms=not own.together, detections_per_class=own.per_class,
    )  # fmt: skip
    runner = Interpreter(
        model_content=b.finish(*results),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    runner.allocate_tensors()

    def run(values: NDArray[np.float32], scores: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        for detail, given in zip(runner.get_input_details(), (values, scores), strict=True):
            runner.set_tensor(detail["index"], given.astype(np.float32)[None])
        runner.invoke()
        return [np.array(runner.get_tensor(detail["index"])).reshape(-1) for detail in runner.get_output_details()]

    return run


@pytest.mark.parametrize("box", [(8, 0.05, 3), (16, 0.0003, -700)])
@pytest.mark.parametrize("together", [True, False])
def test_detections_are_those_of_litert(together: bool, box: tuple[int, float, int]) -> None:
    """The same boxes in the same order; edges within 2/8192 of the picture."""
    rng, count, classes, samples = np.random.default_rng(5), 300, 3, 30
    own = detector(count, 1, together=together, most=20, per_class=9, threshold=0.3, overlap=0.45)
    whole = program(own, count, classes, box=box, score=(8, 1 / 256, -128) if together else SHORT)
    codes = codes_of(whole, samples, rng, 200)
    scores, boxes = whole.tensors["s"], whole.tensors["d"]
    split = count * (1 + classes)
    if not together:  # LiteRT does not say which of equal scores of several classes comes first
        codes[:, :split] = [rng.permutation(split) * (32767 // split) for _ in range(samples)]
    values = np.rint(rng.normal(0, 1.5, (samples, 4 * count)) / boxes.scale) + boxes.zero
    codes[:, split:] = np.clip(values, boxes.low, boxes.high)
    found, run = detections(whole, execute(whole, codes)), litert(own, count, classes)
    assert found is not None
    for rows, given in zip(found, codes, strict=True):
        parts = zip(np.split(given, [split]), (scores, boxes), strict=True)
        real = [(part - t.zero) * np.float32(t.scale) for part, t in parts]
        edges, kinds, sure, number = run(real[1].reshape(count, 4), real[0].reshape(count, -1))
        n = int(number[0])
        assert 0 < n == (rows[:, 0] >= 0).sum()
        np.testing.assert_array_equal(rows[:n, 0], kinds[:n])
        np.testing.assert_allclose(rows[:n, 1], sure[:n], rtol=1e-6)
        np.testing.assert_allclose(rows[:n, 2:], edges.reshape(-1, 4)[:n, [1, 0, 3, 2]], atol=2 / 8192, rtol=0)


def test_what_whole_numbers_do_not_hold() -> None:
    with pytest.raises(UnsupportedError, match="sides from 0 to 8 and middles from -4 to 4"):
        program(replace(detector(2), anchors=packed([[0, 0, 1, 9], [0, 0, 1, 1]])), 2, 1)
    with pytest.raises(UnsupportedError, match=r"reach as far as 40800; edges up to 32767"):
        program(detector(2, form="xyxy"), 2, 1, box=(8, 160.0, -128))
    with pytest.raises(UnsupportedError, match=r"at most 32,768 boxes; there are 32,769"):
        program(detector(32769, form="xyxy"), 32769, 1)
    with pytest.raises(DataError, match=r"has an overlap in 0\.\.1, 1 to 256 detections"):
        detector(2, most=300)
    with pytest.raises(DataError, match="anchors are damaged"):
        BoxDetector("scores", "boxes", anchors="%").anchor_rows()


def test_the_parts_of_an_edge_are_as_many_as_16_bits_hold() -> None:
    assert program(detector(2, form="xyxy"), 2, 1, box=(8, 1.0, -128)).tensors["detections"].scale == 1 / 128
    assert program(detector(2, form="xywh"), 2, 1, box=(8, 1.0, -128)).tensors["detections"].scale == 1 / 64
