"""One pass over the network, quantized beside float: rounds the weights and corrects the biases layer by layer."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.progress import Advance
from tapc.graph.analysis import Graph, attribute
from tapc.graph.layers import layer_weights, rounded_operands
from tapc.graph.network import Bits, Layer
from tapc.graph.parts import is_join
from tapc.graph.rules import rule
from tapc.quantize.activations import ActivationParameters, fake_quantize
from tapc.quantize.problem import LayerProblem
from tapc.quantize.rounding import Rounding
from tapc.quantize.runtime import Array, Float, NodeRunner, batched
from tapc.quantize.units import Reconstruction, Unit
from tapc.quantize.weights import QuantizedLayer, integer_bias, per_channel, quantize_weights, without_bias

_BIAS_LIMIT = 2.0**28
_DEAD_BIAS = 2.0**20


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


def _channel_mean(values: Float) -> NDArray[np.float64]:
    axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    result: NDArray[np.float64] = values.mean(axis=axes, dtype=np.float64)
    return result


class Refiner(Protocol):
    """What learns the layers of a unit once they are rounded.

    Attributes
    ----------
    name : str
        Recorded for the layers that it improved.
    units : tuple of Unit
        Every node of the network once, in order.
    """

    name: str
    units: tuple[Unit, ...]

    def learn(self, task: Reconstruction) -> "tuple[dict[str, QuantizedLayer], dict[str, ActivationParameters]] | None":
        """Return better layers and the activation parameters that go with them, or None."""


@dataclass(frozen=True, eq=False)
class Walked:
    """A network's layers in integers.

    Attributes
    ----------
    layers : dict of str to QuantizedLayer
        By node name.
    parameters : dict of str to ActivationParameters
        Per quantized tensor; those given, but for scales that were learned.
    learned : tuple of str
        Layers that a refiner improved.
    """

    layers: dict[str, QuantizedLayer]
    parameters: dict[str, ActivationParameters]
    learned: tuple[str, ...]


def quantize_layers(
    graph: Graph,
    layers: dict[str, Layer],
    bits: Bits,
    parameters: dict[str, ActivationParameters],
    x: Float,
    *,
    rounding: Rounding,
    bias_correction: bool,
    couplings: Mapping[str, NDArray[np.float64]] | None = None,
    rates: Mapping[str, float] | None = None,
    refiner: Refiner | None = None,
    advance: Advance | None = None,
) -> Walked:
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
        Network inputs to walk with; rows (N, values) of several.
    rounding : Rounding
    bias_correction : bool
    couplings : mapping of str to float64 (outputs, outputs), optional
        How errors of a layer's outputs meet at the network's output, by their tensor.
    rates : mapping of str to float, optional
        Bits that a lossless coder is to need for a code of a layer, where the method follows that.
    refiner : Refiner, optional
        Learns each unit before the walk goes on.
    advance : callable, optional
        Told (layers done, layers).
    """
    walk = _Walk(graph, layers, bits, parameters, rounding, bias_correction, couplings or {}, rates or {}, advance)
    walk.start(x)
    if refiner is None:
        for node in graph.nodes:
            walk.step(node)
        return Walked(walk.result, walk.parameters, ())
    learned: list[str] = []
    for unit in refiner.units:
        inputs = {name: (walk.quantized[name], walk.exact[name]) for name in unit.inputs}
        for node in unit.nodes:
            walk.step(node)
        if not unit.layers:
            continue
        target = walk.exact[unit.output]
        if walk.excess is not None and rule(unit.nodes[-1]).weighted:
            target = target + walk.excess
        own = {name: walk.result[name] for name in unit.layers}
        coupling = walk.couplings.get(unit.output)
        better = refiner.learn(Reconstruction(unit, own, walk.parameters, inputs, target, coupling))
        if better is not None:
            learned += unit.layers
            walk.result |= better[0]
            walk.parameters = better[1]
            walk.replay(unit, {name: pair[0] for name, pair in inputs.items()})
    return Walked(walk.result, walk.parameters, tuple(learned))


class _Walk:
    """The float and the quantized network, node by node on the same samples."""

    def __init__(
        self,
        graph: Graph,
        layers: dict[str, Layer],
        bits: Bits,
        parameters: dict[str, ActivationParameters],
        rounding: Rounding,
        bias_correction: bool,
        couplings: Mapping[str, NDArray[np.float64]],
        rates: Mapping[str, float],
        advance: Advance | None,
    ) -> None:
        self.graph, self.layers, self.bits, self.parameters = graph, layers, bits, dict(parameters)
        self.rounding, self.bias_correction, self.couplings = rounding, bias_correction, couplings
        self.rates = rates
        self.advance = advance or (lambda done, total: None)
        self.free = batch_reshape(graph)
        opset = next(item.version for item in graph.model.opset_import if item.domain in ("", "ai.onnx"))
        self.run = NodeRunner(opset)
        self.exact, self.quantized = Values(graph), Values(graph)
        self.result: dict[str, QuantizedLayer] = {}
        self.excess: Float | None = None

    def start(self, x: Float) -> None:
        """Set the network's inputs."""
        for name, value in self.graph.feed(x).items():
            self.exact[name] = value
            self.quantized[name] = self._stored(name, value)

    def step(self, node: onnx.NodeProto) -> None:
        """Compute a node in both networks; round it where it has weights."""
        output = node.output[0]
        names = self.graph.activations(node)
        inputs, reference = self.quantized.take(names), self.exact.take(names)
        self.exact[output] = self.run(node, operands(self.free, node, reference))
        if rule(node).weighted:
            value = self._round(node, inputs[0], reference[0])
            self.advance(len(self.result), len(self.layers))
        elif rule(node).nearest:
            weights = quantize_weights(layer_weights(self.graph, node), self.bits.weights[node.name])
            self.result[node.name] = without_bias(weights)
            value = self.run(node, rounded_operands(self.graph, node, weights.dequantized(), inputs[0]))
            self.advance(len(self.result), len(self.layers))
        else:
            value = self.run(node, operands(self.free, node, inputs))
        self.quantized[output] = self._stored(output, value)

    def replay(self, unit: Unit, inputs: dict[str, Float]) -> None:
        """Compute a unit of the quantized network again, with the layers and parameters that it has now."""
        values = dict(inputs)
        for node in unit.nodes:
            given = [values[name] for name in self.graph.activations(node)]
            if rule(node).weighted:
                value = self._apply(node, given[0], self.result[node.name])
            elif rule(node).nearest:
                weights = self.result[node.name].weights.dequantized()
                value = self.run(node, rounded_operands(self.graph, node, weights, given[0]))
            else:
                value = self.run(node, operands(self.free, node, given))
            values[str(node.output[0])] = self._stored(str(node.output[0]), value)
        self.quantized[unit.output] = values[unit.output]

    def _stored(self, output: str, value: Float) -> Float:
        return fake_quantize(value, self.parameters[output]) if output in self.parameters else value

    def _round(self, node: onnx.NodeProto, inputs: Float, reference: Float) -> Float:
        layer, target = self.layers[node.name], self.exact[node.output[0]]
        bias = float_bias(self.graph, node)
        scale = self.parameters[node.input[0]].scale
        room = 2 * np.maximum(np.abs(bias), np.abs(_channel_mean(target))) / scale
        compensates = self.rounding.compensates
        self.excess = _excess(self.graph, node, self.exact, self.quantized) if compensates else None
        weights = self.graph.constants[node.input[1]].astype(np.float32)
        integers = self.rounding.round(
            LayerProblem(
                layer, self.bits.weights[layer.name], weights, room / _BIAS_LIMIT, room / _DEAD_BIAS, inputs, reference,
                self.excess, *geometry(node), self.couplings.get(str(node.output[0])), target,
                self.rates.get(layer.name),
            )
        )  # fmt: skip
        bias_scales = np.float32(scale) * integers.scales
        plain = QuantizedLayer(integers, integer_bias(bias, bias_scales), bias_scales)
        value = self._apply(node, inputs, plain, bias)
        corrected = bias
        if self.bias_correction:
            goal = target if self.excess is None else target + self.excess
            corrected = bias + (_channel_mean(goal) - _channel_mean(value)).astype(np.float32)
        stored = integer_bias(corrected, bias_scales)
        used = stored.astype(np.float32) * bias_scales
        self.result[node.name] = QuantizedLayer(integers, stored, bias_scales)
        result: Float = value + per_channel(used - bias, value.ndim - 1)
        return result

    def _apply(self, node: onnx.NodeProto, inputs: Float, layer: QuantizedLayer, bias: Float | None = None) -> Float:
        """Return a layer's output with integer weights, and its own bias or another."""
        arguments: list[Array] = [inputs, layer.weights.dequantized()]
        used = layer.bias.astype(np.float32) * layer.bias_scales if bias is None else bias
        if len(node.input) > 2 and node.input[2]:
            return self.run(node, [*arguments, used])
        value = self.run(node, arguments)
        result: Float = value + per_channel(used, value.ndim - 1)
        return result


def geometry(node: onnx.NodeProto) -> tuple[tuple[int, int], tuple[int, int, int, int], int, tuple[int, int]]:
    """Return stride, pads (top, left, bottom, right), groups and dilation of a layer."""
    (sy, sx), (dy, dx) = (attribute(node, name, (1, 1)) for name in ("strides", "dilations"))
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    return (sy, sx), (top, left, bottom, right), int(attribute(node, "group", 1)), (dy, dx)


def _excess(graph: Graph, node: onnx.NodeProto, exact: Values, quantized: Values) -> Float | None:
    """Return the error on the other operand of the addition that alone reads this layer, where it is known already."""
    tensor, own = str(node.output[0]), slice(None)
    users = graph.consumers[tensor]
    if len(users) == 1 and is_join(users[0]):
        ends = np.cumsum([0, *(graph.shape(name)[1] for name in users[0].input)])
        place = list(users[0].input).index(tensor)
        tensor, own = str(users[0].output[0]), slice(ends[place], ends[place + 1])
        users = graph.consumers[tensor]
    if len(users) != 1 or not graph.rule(users[0]).adds:
        return None
    other = next((name for name in graph.activations(users[0]) if name != tensor), None)
    if other is None or other not in quantized or other not in exact:
        return None
    missed: Float = exact[other] - quantized[other]
    return missed[:, own]


def float_walk(graph: Graph, x: Float, run: NodeRunner) -> Iterator[tuple[onnx.NodeProto, list[Float], Float]]:
    """Yield every node with its float activations (N, ...) and its float output, in execution order."""
    free = batch_reshape(graph)
    values = Values(graph)
    for name, value in graph.feed(x).items():
        values[name] = value
    for node in graph.nodes:
        inputs = values.take(graph.activations(node))
        output = run(node, operands(free, node, inputs))
        values[node.output[0]] = output
        yield node, inputs, output
