"""Average precision: a published example, figures of pycocotools, hard objects and crowds."""

import numpy as np
import pytest

from tapc.data.detection import Floats, average_precision, overlaps, precision

RIGHT = (95, 91, 70, 62, 54, 48, 18)
WRONG = (95, 88, 84, 80, 78, 74, 71, 67, 45, 45, 44, 44, 43, 38, 35, 23, 14)
# Padilla, Netto, da Silva, A Survey on Performance Metrics for Object-Detection Algorithms, IWSSIP 2020: 24 detections
# of 15 objects, of which 7 are right; 26.84 % by eleven points, 24.56 % by the area.


@pytest.mark.parametrize(("points", "wanted"), [(11, 0.2684), (None, 0.2457)])
def test_a_published_example(points: int | None, wanted: float) -> None:
    truth = [np.array([[0, 10, 10, 30, 30]], float) for _ in range(15)]
    found: list[Floats] = [np.empty((0, 6)) for _ in range(15)]
    for index, score in enumerate(RIGHT):
        found[index] = np.array([[0, score / 100, 10, 10, 30, 31]])
    wrong = [[0, score / 100 - 1e-6, 50, 50, 60, 60] for score in WRONG]
    found[14] = np.array(wrong)
    assert average_precision(truth, found, 0, 0.3, "voc", points) == pytest.approx(wanted, abs=1e-4)


def scene(seed: int, *, crowds: bool) -> tuple[list[Floats], list[Floats]]:
    """Return objects of three classes in 12 pictures, and detections near many of them."""
    rng, truth, found = np.random.default_rng(seed), list[Floats](), list[Floats]()
    for _ in range(12):
        count = int(rng.integers(0, 6))
        corner, size = rng.integers(0, 60, (count, 2)), rng.integers(5, 30, (count, 2))
        own = np.concatenate([rng.integers(0, 3, (count, 1)), corner, corner + size], 1).astype(float)
        if crowds:
            own = np.concatenate([own, 2 * (rng.random((count, 1)) < 0.3)], 1)
        near = own[rng.random(count) < 0.8]
        near = np.concatenate([near[:, :5], near[rng.random(len(near)) < 0.4][:, :5]])
        scores = np.round(rng.random((len(near), 1)), 1)
        rows = np.concatenate([near[:, :1], scores, near[:, 1:5] + rng.integers(-3, 4, (len(near), 4))], 1)
        rows[rng.random(len(rows)) < 0.1, 0] = rng.integers(0, 3)
        truth.append(own)
        found.append(rows)
    return truth, found


@pytest.mark.parametrize(
    ("seed", "crowds", "whole", "half"),
    # stats[0] and stats[1] of pycocotools 2.0.11 for these boxes
    [
        (0, False, 0.23754420313826255, 0.5618190024130618),
        (1, False, 0.17663987827354166, 0.4730173017301730),
        (2, False, 0.22063120597774058, 0.5426171188547427),
        (0, True, 0.18381777463460633, 0.6274084551312273),
        (5, True, 0.20526769343601023, 0.5161716171617161),
    ],
)
def test_figures_of_pycocotools(seed: int, crowds: bool, whole: float, half: float) -> None:
    result = precision(*scene(seed, crowds=crowds))
    assert result is not None
    assert (result.map, result.map50) == pytest.approx((whole, half), abs=1e-12)


def test_a_second_detection_of_an_object_is_wrong_unless_it_is_hard() -> None:
    rows = np.array([[0, 0.9, 0, 0, 10, 10], [0, 0.8, 0, 0, 10, 9], [0, 0.7, 20, 20, 30, 30]], float)
    plain = [np.array([[0, 0, 0, 10, 10, 0], [0, 20, 20, 30, 30, 0]], float)]
    assert average_precision(plain, [rows], 0, 0.5, "voc", None) == pytest.approx(0.5 + 0.5 * 2 / 3)
    hard = [np.array([[0, 0, 0, 10, 10, 1], [0, 20, 20, 30, 30, 0]], float)]
    assert average_precision(hard, [rows], 0, 0.5, "voc", None) == 1.0
    assert average_precision(hard, [rows], 1, 0.5, "voc", None) is None
    assert precision([np.empty((0, 5))], [rows]) is None


def test_overlaps() -> None:
    found = np.array([[0, 0.9, 0, 0, 10, 10]], float)
    truth = np.array([[0, 5, 0, 15, 10], [0, 10, 0, 20, 10], [0, 2, 2, 2, 2]], float)
    assert overlaps(found, truth)[0] == pytest.approx([1 / 3, 0, 0])
