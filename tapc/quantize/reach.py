"""What every channel of a tensor can take, whatever the network's input: interval arithmetic over the weights."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.graph.analysis import Graph, attribute

Doubles = NDArray[np.float64]
_OPEN = (-np.inf, np.inf)


@dataclass(frozen=True, eq=False)
class Reach:
    """Bounds of a tensor's channels, float64 (channels,) each; infinite where nothing bounds them."""

    low: Doubles
    high: Doubles

    def with_zero(self) -> "Reach":
        """Return the bounds where zeros may be added, as padding does."""
        return Reach(np.minimum(self.low, 0.0), np.maximum(self.high, 0.0))


def reaches(graph: Graph) -> dict[str, Reach]:
    """Bound every activation of a canonical float graph, whose input may be anything.

    Rounding is not part of the bounds: leave a margin.
    """
    found = {graph.input: _anything(graph, graph.input)}
    for node in graph.nodes:
        rule = _RULES.get(node.op_type)
        operands = [found[name] if name in found else _constant(graph, name) for name in node.input[:1]]
        output = str(node.output[0])
        found[output] = _anything(graph, output) if rule is None else rule(graph, node, operands[0], found)
    return found


Rule = Callable[[Graph, onnx.NodeProto, Reach, dict[str, Reach]], Reach]


def _anything(graph: Graph, tensor: str) -> Reach:
    channels = graph.shape(tensor)[1]
    return Reach(np.full(channels, -np.inf), np.full(channels, np.inf))


def _constant(graph: Graph, name: str) -> Reach:
    value = graph.constants[name].astype(np.float64)
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    return Reach(value.min(axis=axes), value.max(axis=axes))


def _weighted(graph: Graph, node: onnx.NodeProto, x: Reach, _: dict[str, Reach]) -> Reach:
    weights = graph.constants[node.input[1]].astype(np.float64)
    groups = 1
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        x = x.with_zero() if any(attribute(node, "pads", ())) else x
    rows = weights.reshape(groups, len(weights) // groups, weights.shape[1], -1)
    least, most = (bound.reshape(groups, 1, -1) for bound in (x.low, x.high))
    rising, falling = np.maximum(rows, 0).sum(axis=3), np.minimum(rows, 0).sum(axis=3)
    bias = graph.constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else 0.0
    ends = [
        (_product(rising, a) + _product(falling, b)).sum(axis=2).reshape(-1) + bias
        for a, b in ((least, most), (most, least))
    ]
    return Reach(*ends)


def _product(weights: Doubles, bounds: Doubles) -> Doubles:
    """Multiply; a weight of zero takes nothing from what has no bound."""
    with np.errstate(invalid="ignore"):
        product: Doubles = np.where(weights == 0, 0.0, weights * bounds)
    return product


def _clamped(graph: Graph, node: onnx.NodeProto, x: Reach, _: dict[str, Reach]) -> Reach:
    low, high = (default if bound is None else bound for bound, default in zip(graph.bounds(node), _OPEN, strict=True))
    return Reach(*(np.clip(bound, low, high) for bound in (x.low, x.high)))


def _sum(graph: Graph, node: onnx.NodeProto, _: Reach, found: dict[str, Reach]) -> Reach:
    a, b = (found[name] if name in found else _constant(graph, name) for name in node.input)
    return Reach(a.low + b.low, a.high + b.high)


def _window(graph: Graph, node: onnx.NodeProto, x: Reach, _: dict[str, Reach]) -> Reach:
    return x.with_zero() if node.op_type == "Pad" or any(attribute(node, "pads", ())) else x


def _joined(graph: Graph, node: onnx.NodeProto, _: Reach, found: dict[str, Reach]) -> Reach:
    parts = [found[name] for name in node.input]
    return Reach(*(np.concatenate(ends) for ends in ([p.low for p in parts], [p.high for p in parts])))


def _reshaped(graph: Graph, node: onnx.NodeProto, x: Reach, _: dict[str, Reach]) -> Reach:
    features = graph.shape(node.output[0])
    if len(features) == 2 and features[1] % len(x.low) == 0:  # channel by channel
        return Reach(*(np.repeat(bound, features[1] // len(x.low)) for bound in (x.low, x.high)))
    return Reach(np.full(features[1], x.low.min()), np.full(features[1], x.high.max()))


def _probabilities(graph: Graph, node: onnx.NodeProto, _: Reach, __: dict[str, Reach]) -> Reach:
    channels = graph.shape(node.output[0])[1]
    return Reach(np.zeros(channels), np.ones(channels))


_RULES: dict[str, Rule] = {
    "Conv": _weighted,
    "Gemm": _weighted,
    "Relu": _clamped,
    "Clip": _clamped,
    "Add": _sum,
    "MaxPool": _window,
    "AveragePool": _window,
    "GlobalAveragePool": _window,
    "Pad": _window,
    "Concat": _joined,
    "Flatten": _reshaped,
    "Reshape": _reshaped,
    "Softmax": _probabilities,
}
