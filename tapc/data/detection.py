"""How good detections are: average precision by the rules of Pascal VOC and of COCO, mean over classes.

Boxes are rows: of the truth class, x0, y0, x1, y1 and, where there are six, whether it is hard (VOC) or a crowd (COCO);
of what was found class, score, x0, y0, x1, y1. Edges are real numbers: a box is x1 - x0 wide. Class -1 fills up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rule = Literal["voc", "coco"]

COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
MOST = 100
"""Detections of a picture that COCO counts: those of the highest scores."""


@dataclass(frozen=True)
class Precision:
    """Mean average precision in 0..1.

    Attributes
    ----------
    map : float
        COCO: mean over the overlaps 0.5, 0.55 ... 0.95.
    map50 : float
        COCO at an overlap of 0.5.
    voc07 : float
        VOC 2007: overlap 0.5, mean of the precision at eleven recalls.
    voc : float
        VOC since 2010: overlap 0.5, area under the curve.
    """

    map: float
    map50: float
    voc07: float
    voc: float


def precision(truth: Sequence[Floats], found: Sequence[Floats]) -> Precision | None:
    """Return the four figures of detections (K, 6), given the truth (M, 5 or 6) of each picture.

    None where the truth has no object that counts.
    """
    sides = [overlaps(own, boxes) for own, boxes in zip(found, truth, strict=True)]
    by_iou = [_mean(truth, found, sides, iou, "coco", 101) for iou in COCO_IOUS]
    voc07, voc = (_mean(truth, found, sides, 0.5, "voc", points) for points in (11, None))
    if by_iou[0] is None or voc is None or voc07 is None:
        return None
    return Precision(float(np.mean([value for value in by_iou if value is not None])), by_iou[0], voc07, voc)


def average_precision(
    truth: Sequence[Floats], found: Sequence[Floats], kind: int, iou: float, rule: Rule, points: int | None
) -> float | None:
    """Return the average precision of a class in 0..1; None where the truth has no object of it that counts.

    Parameters
    ----------
    truth, found : sequences of ndarray
        Of each picture.
    kind : int
        The class.
    iou : float
        Least overlap of a detection that is right.
    rule : {"voc", "coco"}
        VOC: a detection belongs to the object that it overlaps most, and is wrong where that was found already, by a
        higher score. COCO: to the one of those not found yet that it overlaps most.
    points : int or None
        Recalls at which precision is taken; None for the area under the curve.
    """
    sides = [overlaps(own, boxes) for own, boxes in zip(found, truth, strict=True)]
    return _of_class(truth, found, sides, kind, iou, rule, points)


def overlaps(found: Floats, truth: Floats) -> NDArray[np.float64]:
    """Return the intersection over union (K, M) of boxes; with a crowd over the detection's own area."""
    a, b = found[:, None, 2:6].astype(np.float64), truth[None, :, 1:5].astype(np.float64)
    sides = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0)
    inner = sides.prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (a, b)]
    union = areas[0] + areas[1] - inner
    if truth.shape[1] > 5:
        union = np.where(truth[None, :, 5] == CROWD, areas[0] + 0 * union, union)
    shares: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return shares


HARD, CROWD = 1, 2
"""Of the sixth value: objects that neither count nor make a detection wrong."""


def _mean(
    truth: Sequence[Floats], found: Sequence[Floats], sides: Sequence[Floats], iou: float, rule: Rule,
    points: int | None,
) -> float | None:  # fmt: skip
    kinds = sorted({int(kind) for boxes in truth for kind in boxes[:, 0] if kind >= 0})
    each = [_of_class(truth, found, sides, kind, iou, rule, points) for kind in kinds]
    values = [value for value in each if value is not None]
    return float(np.mean(values)) if values else None


def _of_class(
    truth: Sequence[Floats], found: Sequence[Floats], sides: Sequence[Floats], kind: int, iou: float, rule: Rule,
    points: int | None,
) -> float | None:  # fmt: skip
    scores, right, total = [], [], 0
    for boxes, rows, pairs in zip(truth, found, sides, strict=True):
        own, there = np.flatnonzero(rows[:, 0] == kind), np.flatnonzero(boxes[:, 0] == kind)
        own = own[np.argsort(-rows[own, 1], kind="stable")][: MOST if rule == "coco" else None]
        light = boxes[there, 5] > 0 if boxes.shape[1] > 5 else np.zeros(len(there), bool)
        crowd = boxes[there, 5] == CROWD if boxes.shape[1] > 5 else light
        total += int((~light).sum())
        match = _coco if rule == "coco" else _voc
        scores.append(rows[own, 1])
        right.append(match(pairs[np.ix_(own, there)], light, crowd, iou))
    if not total:
        return None
    order = np.argsort(-np.concatenate(scores), kind="stable")
    marks = np.concatenate(right)[order]
    marks = marks[marks >= 0]  # what hits a hard one is neither right nor wrong
    hits = np.cumsum(marks)
    recall, share = hits / total, hits / np.arange(1, len(marks) + 1)
    envelope = np.maximum.accumulate(share[::-1])[::-1]
    if points is None:
        return float((np.diff(recall, prepend=0.0) * envelope).sum())
    places = np.searchsorted(recall, np.linspace(0, 1, points), side="left")
    return float(np.append(envelope, 0.0)[np.minimum(places, len(envelope))].mean())


def _voc(pairs: Floats, light: NDArray[np.bool_], crowd: NDArray[np.bool_], iou: float) -> NDArray[np.int64]:
    """Return for each detection, the best first, whether it is right: 1, 0, or -1 where it does not count."""
    marks, taken = np.zeros(len(pairs), np.int64), np.zeros(len(light), bool)
    for index, row in enumerate(pairs):
        if not len(row) or row.max() < iou:
            continue
        best = int(row.argmax())
        marks[index] = -1 if light[best] else int(not taken[best])
        taken[best] = True
    return marks


def _coco(pairs: Floats, light: NDArray[np.bool_], crowd: NDArray[np.bool_], iou: float) -> NDArray[np.int64]:
    marks, taken = np.zeros(len(pairs), np.int64), np.zeros(len(light), bool)
    for index, row in enumerate(pairs):
        for some in (~light, light):
            free = np.where(some & (~taken | crowd), row, -1.0)
            if len(free) and free.max() >= min(iou, 1 - 1e-10):
                best = int(len(free) - 1 - free[::-1].argmax())  # of equal ones the last, as pycocotools
                marks[index] = -1 if light[best] else 1
                taken[best] = True
                break
    return marks
