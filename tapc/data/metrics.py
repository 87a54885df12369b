"""What outputs are measured by: top-1, binary, regression, AUC, mIoU, mAP, or nothing and why; signal to noise.

One choice (`tapc.data.choice.choose`) and one measurement (`measure`) serve every command that reports accuracy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapc.base.boxes import FIELDS
from tapc.base.detector import AnyDetector
from tapc.base.errors import DataError
from tapc.data.detection import precision
from tapc.data.figures import auc, intersections, same_class
from tapc.data.samples import Samples

MetricName = Literal["top1", "binary", "regression", "auc", "miou", "map", "none"]
TITLES = {
    "top1": "top-1", "binary": "binary", "regression": "R2", "auc": "AUC", "miou": "mIoU", "map": "mAP50",
    "none": "none",
}  # fmt: skip
LEAST_SQNR = 10.0
"""Decibels below which device and float outputs have little to do with each other."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Metric:
    """How outputs are compared with labels.

    Attributes
    ----------
    name : {"top1", "binary", "regression", "auc", "miou", "map", "none"}
    outputs : int
        Values per sample that the network gives, or classes that it numbers.
    threshold : float or None
        Of a single output, above which it names class 1.
    certain : bool
        The network ends with a Softmax.
    reason : str
        Why there is none.
    span : (int, int) or None
        Where the output that is measured lies in rows of several.
    index : bool
        The output is the number of the class.
    extents : tuple of int
        Of the map (C, H, W) that is measured, of "miou" and of detectors.
    detector : Detector, BoxDetector or None
        How two outputs become detections.
    turned : bool
        Of these the scores come last.
    """

    name: MetricName
    outputs: int
    threshold: float | None = None
    certain: bool = False
    reason: str = ""
    span: tuple[int, int] | None = None
    index: bool = False
    extents: tuple[int, ...] = ()
    detector: AnyDetector | None = None
    turned: bool = False

    def own(self, outputs: Floats) -> Floats:
        """Return what is measured of outputs (N, ...), rows of several among them: a value for each class."""
        own = outputs if self.span is None else outputs[:, slice(*self.span)]
        if not self.index:
            return own
        numbers = np.clip(np.rint(own.reshape(len(own), -1)[:, 0]), 0, self.outputs - 1).astype(np.int64)
        return np.eye(self.outputs, dtype=np.float32)[numbers]

    def detections(self, outputs: Floats) -> Floats:
        """Return the detections (N, most, 6) in outputs (N, values) of a detector."""
        assert self.detector is not None
        flat, scores = outputs.reshape(len(outputs), -1), math.prod(self.extents)
        parts = np.split(flat, [flat.shape[1] - scores if self.turned else scores], axis=1)
        maps = zip(*(parts[::-1] if self.turned else parts), strict=True)
        found = [self.detector.rows(own.reshape(self.extents), others) for own, others in maps]
        return np.array(found).reshape(-1, self.detector.most, FIELDS)

    @property
    def classes(self) -> bool:
        """Whether the largest of several outputs names a class."""
        return self.name in ("top1", "binary") and self.outputs > 1

    @property
    def title(self) -> str:
        """Of a column: "top-1", "binary", "R2", "AUC"."""
        return TITLES[self.name]


@dataclass(frozen=True)
class Score:
    """What a metric gave.

    Attributes
    ----------
    values : dict of str to float
        `top1`; `accuracy` and `auc`; `mae`, `mse` and `r2`; `auc`; `miou` and `pixels`; or `map50`, `map`, `voc` and
        `voc07`, see `tapc.data.detection`. Shares and precisions in percent, AUC and R2 at most 1, MAE in units of the
        network's output. An AUC is missing where all samples are of one class.
    share : float or None
        Percent of right answers, where they are right or wrong.
    headline : float or None
        The figure by which networks are compared, larger is better: the share, R2 or AUC times 100, mIoU, or mAP at an
        overlap of 0.5.
    """

    values: dict[str, float] = field(default_factory=dict)
    share: float | None = None
    headline: float | None = None

    def standard_error(self, samples: int) -> float | None:
        """Return the binomial standard error of the share, in percentage points."""
        if self.share is None:
            return None
        return 100 * math.sqrt(self.share / 100 * (1 - self.share / 100) / samples)


def measure(metric: Metric, outputs: Floats, samples: Samples, detections: Floats | None = None) -> Score:
    """Compare outputs with labels.

    Parameters
    ----------
    metric : Metric
    outputs : float (N, ...)
        In the network's output units.
    samples : Samples
        The N samples.
    detections : float (N, most, 6), optional
        What a device made of its outputs itself; else they are decoded here.

    Raises
    ------
    DataError
        As many outputs as there are no samples.
    """
    if metric.name == "none" or samples.y is None:
        return Score()
    if len(outputs) != len(samples.y) or len(outputs) == 0:
        raise DataError(f"{len(outputs)} outputs against {len(samples.y)} labels; needs as many, and at least one")
    if metric.name == "map":
        return _precision(metric.detections(outputs) if detections is None else detections, samples)
    counted = slice(samples.labelled - 1, None, samples.labelled)
    flat, y = metric.own(outputs).reshape(len(outputs), -1).astype(np.float64)[counted], samples.y[counted]
    if metric.name == "top1":
        share = 100 * float(np.mean(flat.argmax(axis=1) == y))
        return Score({"top1": share}, share, share)
    if metric.name == "regression":
        return _regression(flat, y.reshape(len(y), -1).astype(np.float64))
    if metric.name == "miou":
        return _segmentation(flat.reshape(-1, *metric.extents), y, metric.threshold)
    if metric.outputs <= 2:
        score = flat[:, 0] if metric.outputs == 1 else flat[:, 1] - flat[:, 0]
    else:
        score = np.square(flat - samples.x.reshape(len(samples.x), -1)[counted]).mean(axis=1)
    area = auc(score, y)
    values = {} if area is None else {"auc": area}
    if metric.name == "auc":
        return Score(values, None, None if area is None else 100 * area)
    share = 100 * float(np.mean((score > (metric.threshold or 0.0)) == (y == 1)))
    return Score({"accuracy": share, **values}, share, share)


def outcome(name: str, scores: Mapping[str, Mapping[str, float]], samples: int, threshold: float | None) -> str:
    """Return a line with the scores of several executors: "top-1 over 100 samples: float 91.0 %, device 90.0 %".

    Parameters
    ----------
    name : str
        Of the metric.
    scores : mapping of str to mapping
        Executor -> `Score.values`.
    samples : int
    threshold : float or None
    """
    above = "" if threshold is None else f" (threshold {threshold:g})"
    title = "regression" if name == "regression" else TITLES[name]
    names = {"onnx": "ONNX"}
    return f"{title} over {samples} samples{above}: " + ", ".join(
        f"{names.get(executor, executor)} {shown(values)}" for executor, values in scores.items()
    )


def axis_title(name: str) -> str:
    """Return the title of a metric's column: "top-1, %", "R2 x 100"."""
    return f"{TITLES[name]}, %" if name in ("top1", "binary", "miou", "map") else f"{TITLES[name]} x 100"


def shown(values: Mapping[str, float]) -> str:
    """Return a score's values as text."""
    if "top1" in values:
        return f"{values['top1']:.1f} %"
    if "miou" in values:
        return f"{values['miou']:.1f} % ({values['pixels']:.1f} % of pixels)"
    if "map50" in values:
        return f"{values['map50']:.1f} % (0.5:0.95 {values['map']:.1f} %)"
    if "mae" in values:
        return f"MAE {values['mae']:.4g}" + (f" (R2 {values['r2']:.4g})" if "r2" in values else "")
    area = f"{values['auc']:.4f}" if "auc" in values else ""
    if "accuracy" in values:
        return f"{values['accuracy']:.1f} %" + (f" (AUC {area})" if area else "")
    return area or "-"


def _regression(outputs: NDArray[np.float64], y: NDArray[np.float64]) -> Score:
    error, square = float(np.abs(outputs - y).mean()), float(np.square(outputs - y).mean())
    spread = float(np.square(y - y.mean(axis=0)).sum())
    if spread == 0.0:
        return Score({"mae": error, "mse": square})
    r2 = 1 - float(np.square(outputs - y).sum()) / spread
    return Score({"mae": error, "mse": square, "r2": r2}, None, 100 * r2)


def _precision(found: Floats, samples: Samples) -> Score:
    """Return the average precision of detections (N, most, 6)."""
    assert samples.y is not None
    truth = samples.y.reshape(len(samples.y), -1, samples.fields)
    result = precision([boxes[boxes[:, 0] >= 0] for boxes in truth], [rows[rows[:, 0] >= 0] for rows in found])
    if result is None:
        return Score()
    values = {name: 100 * getattr(result, name) for name in ("map50", "map", "voc", "voc07")}
    return Score(values, None, values["map50"])


def _segmentation(outputs: Floats, y: NDArray[Any], threshold: float | None) -> Score:
    """Return mean intersection over union of maps (N, C, H, W); of one channel, class 1 is above the threshold."""
    classes = max(outputs.shape[1], 2)
    named = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > (threshold or 0.0)
    both, either, right = intersections(named.reshape(len(y), -1).astype(np.int64), y.reshape(len(y), -1), classes)
    there = either > 0
    if not there.any():
        return Score()
    share = 100 * float((both[there] / either[there]).mean())
    return Score({"miou": share, "pixels": 100 * right}, None, share)


def agreement(metric: Metric, exact: Floats, found: Floats) -> float | None:
    """Return the percentage of samples on which both outputs name the same class; None where they name none.

    Without labels only a Softmax tells classes from targets or a reconstruction.
    """
    exact, found = metric.own(exact), metric.own(found)
    if metric.classes or (metric.name == "none" and metric.certain):
        return same_class(exact, found)
    if metric.name != "binary" or metric.threshold is None:
        return None
    return 100 * float(np.mean(np.equal(*(array.reshape(-1) > metric.threshold for array in (exact, found)))))
