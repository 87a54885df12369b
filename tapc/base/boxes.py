"""Detections of boxes that have scores: what post-processing inside a file says, and the same in real numbers.

Boxes are relative to anchors, as SSD has them, or edges. Of those that overlap, the surest stays. The integers are in
`tapc.operators.nms`.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError

FIELDS = 6
"""Of a detection: class, score, x0, y0, x1, y1; class -1 where there is none."""
MOST = 256
Form = Literal["anchors", "yxyx", "xyxy", "xywh"]
"""What four numbers are: y, x, height and width relative to an anchor; two corners; the middle, width and height."""
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class BoxDetector:
    """How boxes and their scores become detections.

    Attributes
    ----------
    scores : str
        Output with a score for each box and class.
    boxes : str
        Output with four numbers for each box.
    form : {"anchors", "yxyx", "xyxy", "xywh"}
        What these are.
    anchors : str
        float32 (boxes, 4) in base64: y and x of the middle, height and width.
    scales : (float, float, float, float)
        What y, x, height and width are divided by before they are taken relative to an anchor.
    threshold : float
        Least score.
    strict : bool
        A score must be larger.
    overlap : float
        Of two boxes with a larger intersection over union the less sure one is dropped.
    most : int
        Detections of a picture.
    together : bool
        A box is of its surest class alone, and boxes of all classes are compared; else those of each class.
    per_class : int
        Detections of a class, where classes are apart.
    background : int
        Scores before that of class 0, which are none of a class.
    classes_first : bool
        Scores are (classes, boxes) in the source's output, not (boxes, classes).
    size : (float, float)
        Pixels of a distance of 1, to the right and down; none known: 0.
    turned : (bool, bool)
        Whether the channels of the scores, and of the boxes, are boxes in the canonical output; `tapc.frontend` finds
        out.
    """

    scores: str
    boxes: str
    form: Form = "anchors"
    anchors: str = ""
    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    threshold: float = 0.1
    strict: bool = False
    overlap: float = 0.5
    most: int = 16
    together: bool = True
    per_class: int = 100
    background: int = 1
    classes_first: bool = False
    size: tuple[float, float] = (0.0, 0.0)
    turned: tuple[bool, bool] = (False, False)

    def __post_init__(self) -> None:
        for name, count in (("scales", 4), ("size", 2), ("turned", 2)):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) != count:
                raise DataError(f"a detector's {name} are {count} numbers")
        if self.form not in get_args(Form):
            raise DataError(f"a detector's boxes are {', '.join(get_args(Form))}, not {self.form!r}")
        ranges = 0 <= self.overlap <= 1 and 1 <= self.most <= MOST and self.per_class >= 1 and self.background >= 0
        if not ranges or not np.isfinite(self.threshold) or not all(0 < scale < np.inf for scale in self.scales):
            raise DataError(
                f"a detector of boxes has an overlap in 0..1, 1 to {MOST} detections, a finite threshold and scales "
                f"above 0; it has overlap {self.overlap:g}, {self.most} detections ({self.per_class} of a class), "
                f"threshold {self.threshold:g}, scales {self.scales}"
            )
        if not all(0 <= extent < np.inf for extent in self.size):
            raise DataError(f"a detector's size is {self.size}: give the pixels of a distance of 1, across and down")

    @property
    def maps(self) -> tuple[str, str]:
        """The two outputs, scores first."""
        return self.scores, self.boxes

    def anchor_rows(self) -> NDArray[np.float64]:
        """Return the anchors (boxes, 4).

        Raises
        ------
        DataError
            Damaged, or not finite.
        """
        try:
            rows = np.frombuffer(base64.b64decode(self.anchors, validate=True), "<f4").reshape(-1, 4)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"a detector's anchors are damaged: {error}") from error
        if not np.isfinite(rows).all():
            raise DataError("a detector's anchors hold NaN or infinite values")
        return rows.astype(np.float64)

    def check(self, shapes: dict[str, list[int]]) -> None:
        """Raise DataError where outputs of these canonical shapes hold no such boxes; KeyError where they are none."""
        scores, boxes = (int(np.prod(shapes[name][1:])) for name in self.maps)
        count = len(self.anchor_rows()) if self.form == "anchors" else boxes // 4
        if len(shapes) != 2 or boxes != 4 * count or not count or scores % count or scores <= count * self.background:
            raise DataError(
                f"a detector of boxes has two outputs, scores of {count} boxes in classes, {self.background} of them "
                f"background, and 4 numbers for each box; these are {shapes}"
            )

    def classes(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """Return how many classes there are, given the extents (C, H, W) of the outputs."""
        scores, boxes = (int(np.prod(shapes[name])) for name in self.maps)
        return 4 * scores // boxes - self.background

    def rows(self, scores: Floats, boxes: Floats) -> NDArray[np.float64]:
        """Return detections (most, 6), the surest first, edges in pixels, of the values of a sample's two outputs."""
        count = boxes.size // 4
        each = [own.reshape(count, -1) if turned else own.reshape(-1, count).T
                for own, turned in zip((scores, boxes), self.turned, strict=True)]  # fmt: skip
        values, edges = each[0][:, self.background :].astype(np.float64), self.edges(each[1].astype(np.float64))
        least = np.float32(self.threshold)
        least = np.nextafter(least, np.float32(np.inf)) if self.strict else least
        found = np.full((self.most, FIELDS), -1.0)
        size = np.array([extent or 1.0 for extent in self.size] * 2)
        for row, (place, kind) in zip(found, chosen(self, values, edges, float(least), covers), strict=False):
            row[:] = (kind, values[place, kind], *(edges[place] * size))
        return found

    def edges(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the left, upper, right and lower edges of boxes (count, 4)."""
        if self.form == "anchors":
            own, anchors = boxes / np.array(self.scales), self.anchor_rows()
            middle = own[:, :2] * anchors[:, 2:] + anchors[:, :2]
            half = np.exp(own[:, 2:]) * anchors[:, 2:] / 2
            return np.concatenate([middle - half, middle + half], axis=1)[:, [1, 0, 3, 2]]
        if self.form == "xywh":
            half = boxes[:, 2:] / 2
            return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
        ordered = boxes[:, [1, 0, 3, 2]] if self.form == "yxyx" else boxes
        ends = np.sort(ordered.reshape(-1, 2, 2), axis=1)  # any two corners
        return ends.reshape(-1, 4)


Covers = Callable[[NDArray[Any], NDArray[Any], float], NDArray[np.bool_]]
"""Which of some boxes a box overlaps by more than a share."""


def chosen(
    own: BoxDetector, scores: NDArray[Any], edges: NDArray[Any], least: float, covering: Covers
) -> list[tuple[int, int]]:
    """Return the box and the class of each detection, the surest first; of equal ones the first class, then box.

    Parameters
    ----------
    own : BoxDetector
    scores : ndarray (boxes, classes)
        Without a background.
    edges : ndarray (boxes, 4)
    least : float
        Smallest score that counts.
    covering : callable
    """
    found: list[tuple[float, int, int]] = []
    if own.together:
        kinds = scores.argmax(axis=1)
        passes = [(scores.max(axis=1), kinds)]
    else:
        passes = [(scores[:, kind], np.full(len(scores), kind)) for kind in range(scores.shape[1])]
    limit = own.most if own.together else min(own.most, own.per_class)
    for values, kinds in passes:
        places = np.flatnonzero(values >= least)
        kept = np.empty((limit, 4), edges.dtype)
        count = 0
        for place in places[np.argsort(-values[places], kind="stable")].tolist():
            if count == limit:
                break
            if not covering(edges[place], kept[:count], own.overlap).any():
                kept[count] = edges[place]
                count += 1
                found.append((float(values[place]), place, int(kinds[place])))
    found.sort(key=lambda one: -one[0])
    return [(place, kind) for _, place, kind in found[: own.most]]


def covers(box: NDArray[Any], others: NDArray[Any], share: float) -> NDArray[np.bool_]:
    """Return which of other boxes (count, 4) a box has in common with more than a share of both together."""
    inner = np.prod(np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - inner
    found: NDArray[np.bool_] = (inner > share * union) & (inner > 0)
    return found


def packed(anchors: Any) -> str:
    """Return anchors (boxes, 4) as text, as metadata hold them."""
    return base64.b64encode(np.ascontiguousarray(anchors, "<f4").tobytes()).decode()
