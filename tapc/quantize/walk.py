"""One pass over the network, quantized beside float: rounds the weights and corrects the biases layer by layer."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.network import Bits, Layer
from tapc.network_analysis import WEIGHTED, Graph, attribute
from tapc.quantize.activations import ActivationParameters, fake_quantize
from tapc.quantize.problem import LayerProblem
from tapc.quantize.rounding import Rounding
from tapc.quantize.runtime import Array, Float, NodeRunner, batched
from tapc.quantize.weights import QuantizedWeights, per_channel

_INT32 = np.iinfo(np.int32)
_BIAS_LIMIT = 2.0**28
_DEAD_BIAS = 2.0**20


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer's integers.

    Attributes
    ----------
    weights : QuantizedWeights
    bias : int32 (outputs,)
        In units of `bias_scales`.
    bias_scales : float32 (outputs,)
        Input scale times weight scale, multiplied in float32.
    """

    weights: QuantizedWeights
    bias: NDArray[np.int32]
    bias_scales: Float


class Values:
    """Activations by tensor name; each is dropped after its last use, so that a walk holds few at a time."""

    def __init__(self, graph: Graph) -> None:
        self._values: dict[str, Float] = {}
        self._uses = Counter(name for node in graph.nodes for name in graph.activations(node))

    def __setitem__(self, name: str, value: Float) -> None:
        self._values[name] = value

    def __getitem__(self, name: str) -> Float:
        return self._values[name]

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def take(self, names: list[str]) -> list[Float]:
        """Return a node's operands and count this use of each."""
        result = [self._values[name] for name in names]
        for name in names:
            self._uses[name] -= 1
            if self._uses[name] == 0:
                del self._values[name]
        return result


def operands(graph: Graph, node: onnx.NodeProto, values: list[Float]) -> list[Array]:
    """Return all inputs of a node in order: activations from `values`, constants from the graph."""
    given = iter(values)
    return [graph.constants[name] if name in graph.constants else next(given) for name in node.input if name]


def float_bias(graph: Graph, node: onnx.NodeProto) -> Float:
    """Return a layer's bias (outputs,) as float32; zeros where it has none."""
    if len(node.input) > 2 and node.input[2]:
        return graph.constants[node.input[2]].astype(np.float32).reshape(-1)
    return np.zeros(len(graph.constants[node.input[1]]), np.float32)


def batch_reshape(graph: Graph) -> Graph:
    """Return the graph with Reshape targets that keep any batch extent."""
    return Graph(batched(graph.model))


def integer_bias(bias: Float, scales: Float) -> NDArray[np.int32]:
    """Return bias / scales rounded half to even and saturated to int32."""
    exact = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return np.clip(exact, _INT32.min, _INT32.max).astype(np.int32)


def _channel_mean(values: Float) -> NDArray[np.float64]:
    axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    result: NDArray[np.float64] = values.mean(axis=axes, dtype=np.float64)
    return result


def quantize_layers(
    graph: Graph,
    layers: dict[str, Layer],
    bits: Bits,
    parameters: dict[str, ActivationParameters],
    x: Float,
    *,
    rounding: Rounding,
    bias_correction: bool,
) -> dict[str, QuantizedLayer]:
    """Quantize every layer in execution order, each on the inputs that the quantized network gives it.

    Bias correction adds the mean difference per output channel, float network against quantized
    network before the activation, to the bias; so every layer also absorbs the mean error of those before it.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    layers : dict of str to Layer
        By node name.
    bits : Bits
    parameters : dict of str to ActivationParameters
        Per quantized tensor.
    x : float32 (N, ...)
        Network inputs to walk with.
    rounding : Rounding
    bias_correction : bool

    Returns
    -------
    dict of str to QuantizedLayer
        By node name.
    """
    free = batch_reshape(graph)
    opset = next(item.version for item in graph.model.opset_import if item.domain in ("", "ai.onnx"))
    run = NodeRunner(opset)
    exact, quantized = Values(graph), Values(graph)
    exact[graph.input] = x
    quantized[graph.input] = fake_quantize(x, parameters[graph.input])
    result: dict[str, QuantizedLayer] = {}
    for node in graph.nodes:
        output = node.output[0]
        names = graph.activations(node)
        inputs, reference = quantized.take(names), exact.take(names)
        exact[output] = run(node, operands(free, node, reference))
        if node.op_type not in WEIGHTED:
            value = run(node, operands(free, node, inputs))
        else:
            layer = layers[node.name]
            bias = float_bias(graph, node)
            scale = parameters[node.input[0]].scale
            room = 2 * np.maximum(np.abs(bias), np.abs(_channel_mean(exact[output]))) / scale
            excess = _excess(graph, node, exact, quantized) if rounding.compensates else None
            integers = rounding.round(
                LayerProblem(
                    layer, bits.weights[layer.name], graph.constants[node.input[1]].astype(np.float32),
                    room / _BIAS_LIMIT, room / _DEAD_BIAS, inputs[0], reference[0], excess, *_geometry(node),
                )
            )  # fmt: skip
            bias_scales = np.float32(scale) * integers.scales
            arguments: list[Array] = [inputs[0], integers.dequantized()]
            has_bias = len(node.input) > 2 and bool(node.input[2])
            value = run(node, [*arguments, bias] if has_bias else arguments)
            corrected = bias
            if bias_correction:
                goal = exact[output] if excess is None else exact[output] + excess
                corrected = bias + (_channel_mean(goal) - _channel_mean(value)).astype(np.float32)
            stored = integer_bias(corrected, bias_scales)
            used = stored.astype(np.float32) * bias_scales
            value = value + per_channel(used - bias, value.ndim - 1)
            result[node.name] = QuantizedLayer(integers, stored, bias_scales)
        quantized[output] = fake_quantize(value, parameters[output]) if output in parameters else value
    return result


def _geometry(node: onnx.NodeProto) -> tuple[tuple[int, int], tuple[int, int, int, int], int]:
    """Return stride, pads (top, left, bottom, right) and groups of a layer."""
    if node.op_type != "Conv":
        return (1, 1), (0, 0, 0, 0), 1
    strides, pads = attribute(node, "strides", (1, 1)), attribute(node, "pads", (0, 0, 0, 0))
    return (strides[0], strides[1]), (pads[0], pads[1], pads[2], pads[3]), int(attribute(node, "group", 1))


def _excess(graph: Graph, node: onnx.NodeProto, exact: Values, quantized: Values) -> Float | None:
    """Return the error on the other operand of the addition that alone reads this layer, where it is known already."""
    users = graph.consumers[node.output[0]]
    if len(users) != 1 or users[0].op_type != "Add":
        return None
    other = next((name for name in graph.activations(users[0]) if name != node.output[0]), None)
    if other is None or other not in quantized or other not in exact:
        return None
    return exact[other] - quantized[other]


def float_walk(graph: Graph, x: Float, run: NodeRunner) -> Iterator[tuple[onnx.NodeProto, list[Float], Float]]:
    """Yield every node with its float activations (N, ...) and its float output, in execution order."""
    free = batch_reshape(graph)
    values = Values(graph)
    values[graph.input] = x
    for node in graph.nodes:
        inputs = values.take(graph.activations(node))
        output = run(node, operands(free, node, inputs))
        values[node.output[0]] = output
        yield node, inputs, output
