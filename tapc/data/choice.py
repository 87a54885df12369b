"""Which metric labels and outputs lead to, and which cannot fit."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tapc.base.detector import detector
from tapc.base.errors import DataError, UsageError
from tapc.base.options import METRICS
from tapc.data.metrics import Metric, MetricName
from tapc.data.samples import Samples

_PASSING = ("DequantizeLinear", "QuantizeLinear", "Flatten", "Reshape", "Identity", "Cast")
IGNORED = 255
"""In a mask: a pixel that belongs to no class."""

Floats = NDArray[np.floating[Any]]


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
    finds = detector(graph)
    if finds is not None or wanted == "map":
        return _detections(wanted, samples, graph)
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
    if wanted == "miou" or (wanted == "auto" and _masks(samples, shape)):
        _check_masks(samples, shape)
        return replace(plain, name="miou", extents=shape, threshold=threshold if shape[0] == 1 else None)
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


def _detections(wanted: str, samples: Samples, graph: onnx.ModelProto) -> Metric:
    """Return mean average precision, or none."""
    own = detector(graph)
    if own is None:
        raise DataError(f"--metric map: {', '.join(value.name for value in graph.graph.output)} are no detector's maps")
    shapes = {value.name: _extents(value) for value in graph.graph.output}
    extents = tuple(shapes[value.name] for value in graph.graph.output)
    plain = Metric("none", sum(map(math.prod, extents)), detector=own, extents=shapes[own.scores],
                   turned=graph.graph.output[0].name != own.scores)  # fmt: skip
    if wanted == "none":
        return replace(plain, reason="not wanted (--metric none)")
    if wanted not in ("auto", "map"):
        raise DataError(f"--metric {wanted}: the network is a detector; its metric is map")
    if samples.y is None:
        reason = samples.unlabelled or "the samples have no labels"
        if wanted == "map":
            raise DataError(f"--metric map needs boxes; {samples.source}: {reason}")
        return replace(plain, reason=reason)
    fields = samples.fields
    classes, y = own.classes(shapes), samples.y
    if fields not in (5, 6):
        raise DataError(
            f"{samples.source}: labels of a detector are boxes, (N, M, 5): class, x0, y0, x1, y1 in pixels; class -1 "
            "fills up"
        )
    kinds = y.reshape(-1, fields)[:, 0]
    if kinds.max() >= classes or kinds.min() < -1 or (kinds != np.rint(kinds)).any():
        raise DataError(
            f"{samples.source}: boxes of classes from {kinds.min():g} to {kinds.max():g}; the network has {classes}, "
            "counted from 0, and -1 fills up"
        )
    return replace(plain, name="map")


def _masks(samples: Samples, shape: tuple[int, ...]) -> bool:
    """Whether labels are a class for every pixel of an output (C, H, W); of one channel, 0 and 1."""
    y = samples.y
    if y is None or len(shape) != 3 or math.prod(shape[1:]) == 1 or y.size != len(y) * math.prod(shape[1:]):
        return False
    return shape[0] > 1 or bool(np.isin(y, (0, 1, IGNORED)).all())


def _check_masks(samples: Samples, shape: tuple[int, ...]) -> None:
    y = samples.y
    assert y is not None
    if not _masks(samples, shape):
        raise DataError(
            f"{samples.source}: --metric miou needs an output (classes, H, W) and a class for every pixel, (N, H, W); "
            f"the output is {'x'.join(map(str, shape))}, labels are {y.size // len(y)} values a sample"
        )
    counted = y[y != IGNORED]
    most = max(shape[0], 2) - 1
    if len(counted) and (counted.min() < 0 or counted.max() > most or (counted != np.rint(counted)).any()):
        raise DataError(
            f"{samples.source}: masks hold {counted.min():g} to {counted.max():g}; classes are 0 to {most}, and "
            f"{IGNORED} where none counts"
        )


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
