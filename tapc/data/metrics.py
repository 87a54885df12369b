"""What labels and outputs can be measured by: top-1, binary, regression, AUC, or nothing and why; signal to noise.

One choice (`choose`) and one measurement (`measure`) serve every command that reports accuracy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tapc.base.errors import DataError, UsageError
from tapc.base.options import METRICS
from tapc.data import Samples
from tapc.data.figures import auc, same_class

MetricName = Literal["top1", "binary", "regression", "auc", "none"]
TITLES = {"top1": "top-1", "binary": "binary", "regression": "R2", "auc": "AUC", "none": "none"}
_PASSING = ("DequantizeLinear", "QuantizeLinear", "Flatten", "Reshape", "Identity", "Cast")
LEAST_SQNR = 10.0
"""Decibels below which device and float outputs have little to do with each other."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Metric:
    """How outputs are compared with labels.

    Attributes
    ----------
    name : {"top1", "binary", "regression", "auc", "none"}
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
    """

    name: MetricName
    outputs: int
    threshold: float | None = None
    certain: bool = False
    reason: str = ""
    span: tuple[int, int] | None = None
    index: bool = False

    def own(self, outputs: Floats) -> Floats:
        """Return what is measured of outputs (N, ...), rows of several among them: a value for each class."""
        own = outputs if self.span is None else outputs[:, slice(*self.span)]
        if not self.index:
            return own
        numbers = np.clip(np.rint(own.reshape(len(own), -1)[:, 0]), 0, self.outputs - 1).astype(np.int64)
        return np.eye(self.outputs, dtype=np.float32)[numbers]

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
        `top1`; `accuracy` and `auc`; `mae` and `r2`; or `auc`. Shares in percent, AUC and R2 at most 1, MAE in units of
        the network's output. An AUC is missing where all samples are of one class.
    share : float or None
        Percent of right answers, where they are right or wrong.
    headline : float or None
        The figure by which networks are compared, larger is better: the share, or R2 or AUC times 100.
    """

    values: dict[str, float] = field(default_factory=dict)
    share: float | None = None
    headline: float | None = None

    def standard_error(self, samples: int) -> float | None:
        """Return the binomial standard error of the share, in percentage points."""
        if self.share is None:
            return None
        return 100 * math.sqrt(self.share / 100 * (1 - self.share / 100) / samples)


def choose(wanted: str, samples: Samples, graph: onnx.ModelProto) -> Metric:
    """Return the metric that fits labels and outputs.

    Parameters
    ----------
    wanted : str
        One of `METRICS`; "auto" takes top-1 for class numbers and several outputs, binary for one or two outputs and
        labels 0 and 1, regression for targets, AUC of the reconstruction error where the network gives back its input
        and labels are 0 and 1.
    samples : Samples
    graph : onnx.ModelProto
        Float network.

    Raises
    ------
    UsageError
        No such metric.
    DataError
        Labels that do not fit the network's outputs, or not the metric that was asked for.
    """
    if wanted not in METRICS:
        raise UsageError(f"unknown metric {wanted!r}; known: {', '.join(METRICS)}")
    if len(graph.graph.output) > 1:
        return _among(wanted, samples, graph)
    inputs, shape = (_extents(value) for value in (graph.graph.input[0], graph.graph.output[0]))
    outputs, last = math.prod(shape), _ending(graph)
    index = last == "ArgMax" and outputs == 1
    outputs = _numbered(graph) if index else outputs
    plain = Metric("none", outputs, None, last == "Softmax" or index, index=index)
    if wanted == "none":
        return replace(plain, reason="not wanted (--metric none)")
    if samples.y is None:
        reason = samples.unlabelled or "the samples have no labels"
        if wanted != "auto":
            raise DataError(f"--metric {wanted} needs labels; {samples.source}: {reason}")
        return replace(plain, reason=reason)
    whole = np.issubdtype(samples.y.dtype, np.integer)
    truth = whole and set(np.unique(samples.y).tolist()) <= {0, 1}
    rebuilt = outputs > 2 and outputs == math.prod(inputs) and not plain.certain and len(graph.graph.input) == 1
    threshold = 0.5 if last in ("Sigmoid", "HardSigmoid", "unit") else 0.0
    name = wanted
    if wanted == "auto":
        name = _fitting(samples, outputs, shape, whole, truth, rebuilt)
        if name == "none":
            extents = "x".join(map(str, shape))
            return replace(plain, reason=f"the output is a map of {extents}, and labels are one per sample")
    if name == "regression":
        _check_targets(samples, outputs)
        return replace(plain, name="regression")
    if name == "top1":
        if outputs == 1:
            raise DataError(
                f"--metric top1: the network has one output; {samples.source} could be binary or regression"
            )
        check_classes(samples, outputs)
        return replace(plain, name="top1")
    if not truth:
        raise DataError(f"{samples.source}: --metric {name} needs labels 0 and 1; {_seen(samples)}")
    if name == "auc" and rebuilt:
        return replace(plain, name="auc")
    if outputs > 2:
        raise DataError(f"--metric {name}: the network has {outputs} outputs; one or two are needed")
    check_classes(samples, 2)
    return replace(plain, name="binary" if name == "binary" else "auc", threshold=threshold if outputs == 1 else None)


def _among(wanted: str, samples: Samples, graph: onnx.ModelProto) -> Metric:
    """Return the metric of the one of several outputs that names classes, or none."""
    sizes = [math.prod(_extents(value)) for value in graph.graph.output]
    found = []
    for index, (end, size) in enumerate(zip(np.cumsum(sizes).tolist(), sizes, strict=True)):
        view = onnx.ModelProto()
        view.CopyFrom(graph)
        view.graph.ClearField("output")
        view.graph.output.append(graph.graph.output[index])
        metric = choose("none", samples, view)
        if metric.certain or (size > 1 and max(_extents(graph.graph.output[index])) == size):
            found.append((metric.certain, view, (end - size, end)))
    certain = [entry for entry in found if entry[0]] or found
    if len(certain) > 1:  # scores say more than the number of the class
        certain = [entry for entry in certain if entry[2][1] - entry[2][0] > 1] or certain
    if wanted != "none" and samples.y is not None and len(certain) == 1:
        metric = choose(wanted, samples, certain[0][1])
        if metric.classes:
            return replace(metric, span=certain[0][2])
    names = ", ".join(value.name for value in graph.graph.output)
    if wanted not in ("auto", "none"):
        raise DataError(f"--metric {wanted}: of several outputs ({names}) none alone names classes")
    none = choose(wanted, samples, view).reason if samples.y is None or wanted == "none" else ""
    return Metric("none", sum(sizes), reason=none or f"several outputs ({names})")


def _fitting(
    samples: Samples, outputs: int, shape: tuple[int, ...], whole: bool, truth: bool, rebuilt: bool
) -> MetricName:
    assert samples.y is not None
    if not whole:
        if outputs > 1 and samples.y.size == len(samples.y):
            raise DataError(
                f"{samples.source}: labels are no whole numbers (as {_first_fraction(samples.y):g}), the network has "
                f"{outputs} outputs: give class numbers 0 to {outputs - 1}, or {outputs} targets per sample"
            )
        return "regression"
    if outputs <= 2 and truth:
        return "binary"
    if outputs == 1:
        if samples.labels is not None:
            check_classes(samples, 2)
        return "regression"
    if rebuilt and truth:
        return "auc"
    if len([extent for extent in shape if extent != 1]) > 1:
        return "none"
    return "top1"


def _check_targets(samples: Samples, outputs: int) -> None:
    assert samples.y is not None
    if samples.labels is not None:
        raise DataError(f"{samples.source}: labels are names of classes; regression needs numbers")
    if samples.y.size != len(samples.y) * outputs:
        raise DataError(
            f"{samples.source}: {samples.y.size // len(samples.y)} target(s) per sample and {outputs} output(s): "
            "give one target per output"
        )


def check_classes(samples: Samples, outputs: int) -> None:
    """Check that labels are classes of a network.

    Raises
    ------
    DataError
        Fractions, negative labels, labels beyond the outputs, or as many names of classes as there are no outputs.
    """
    y, names = samples.y, samples.labels
    if y is None:
        return
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
        raise DataError(f"{samples.source}: {_seen(samples)}; give one class number per sample, 0 to {outputs - 1}")
    if names is not None and len(names) != outputs:
        some = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
        raise DataError(
            f"{samples.source}: {len(names)} classes ({some}), the network has {outputs} outputs; add or remove "
            "classes, or number the labels yourself (npz with 'x' and 'y')"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0:
        raise DataError(f"{samples.source}: labels from {low} to {high}; classes are counted from 0 to {outputs - 1}")
    if high >= outputs:
        one = high == outputs and low >= 1
        what = "they seem to be counted from 1: subtract 1" if one else "another data set or network is needed"
        raise DataError(
            f"{samples.source}: labels from {low} to {high}, the network has {outputs} outputs (classes 0 to "
            f"{outputs - 1}): {what}"
        )


def _seen(samples: Samples) -> str:
    y = samples.y
    assert y is not None
    if y.ndim > 1:
        return f"labels have {y.shape[1]} values per sample"
    return f"labels are from {y.min():g} to {y.max():g}"


def _first_fraction(y: Floats) -> float:
    flat = y.reshape(-1)
    return float(flat[np.argmax(flat != np.rint(flat))])


def _extents(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)[1:]


def _ending(model: onnx.ModelProto) -> str:
    """Return the operator that gives the output; "unit" for one cut to 0..1."""
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    node = made.get(graph.output[0].name)
    while node is not None and node.op_type in _PASSING:
        node = made.get(node.input[0])
    if node is None:
        return ""
    if node.op_type == "Clip":
        values = {tensor.name: tensor for tensor in graph.initializer if tensor.name in node.input[1:]}
        bounds = [float(numpy_helper.to_array(values[name])) for name in node.input[1:] if name in values]
        return "unit" if bounds == [0.0, 1.0] else "Clip"
    return str(node.op_type)


def _numbered(model: onnx.ModelProto) -> int:
    """Return how many classes an ArgMax that ends the network tells apart."""
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    node = made[graph.output[0].name]
    while node.op_type in _PASSING:
        node = made[node.input[0]]
    return next((_extents(value)[0] for value in graph.value_info if value.name == node.input[0]), 256)


def measure(metric: Metric, outputs: Floats, samples: Samples) -> Score:
    """Compare outputs with labels.

    Parameters
    ----------
    metric : Metric
    outputs : float (N, ...)
        In the network's output units.
    samples : Samples
        The N samples.

    Raises
    ------
    DataError
        As many outputs as there are no samples.
    """
    if metric.name == "none" or samples.y is None:
        return Score()
    if len(outputs) != len(samples.y) or len(outputs) == 0:
        raise DataError(f"{len(outputs)} outputs against {len(samples.y)} labels; needs as many, and at least one")
    counted = slice(samples.labelled - 1, None, samples.labelled)
    flat, y = metric.own(outputs).reshape(len(outputs), -1).astype(np.float64)[counted], samples.y[counted]
    if metric.name == "top1":
        share = 100 * float(np.mean(flat.argmax(axis=1) == y))
        return Score({"top1": share}, share, share)
    if metric.name == "regression":
        return _regression(flat, y.reshape(len(y), -1).astype(np.float64))
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
    return f"{TITLES[name]}, %" if name in ("top1", "binary") else f"{TITLES[name]} x 100"


def shown(values: Mapping[str, float]) -> str:
    """Return a score's values as text."""
    if "top1" in values:
        return f"{values['top1']:.1f} %"
    if "mae" in values:
        return f"MAE {values['mae']:.4g}" + (f" (R2 {values['r2']:.4g})" if "r2" in values else "")
    area = f"{values['auc']:.4f}" if "auc" in values else ""
    if "accuracy" in values:
        return f"{values['accuracy']:.1f} %" + (f" (AUC {area})" if area else "")
    return area or "-"


def _regression(outputs: NDArray[np.float64], y: NDArray[np.float64]) -> Score:
    error = float(np.abs(outputs - y).mean())
    spread = float(np.square(y - y.mean(axis=0)).sum())
    if spread == 0.0:
        return Score({"mae": error})
    r2 = 1 - float(np.square(outputs - y).sum()) / spread
    return Score({"mae": error, "r2": r2}, None, 100 * r2)


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
