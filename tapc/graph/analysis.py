"""From the canonical float ONNX to the quantization points, layers and activation groups of a network."""

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

from tapc.base.errors import DataError, UnsupportedError
from tapc.base.ports import Port, Ports, split, typed
from tapc.graph.groups import Use, activation_groups
from tapc.graph.interface import input_ports
from tapc.graph.network import Layer, LayerOp, Network
from tapc.graph.parts import joins
from tapc.graph.places import weight_input
from tapc.graph.rules import Rule, rule, rules
from tapc.graph.state import States, states


@dataclass(frozen=True)
class Point:
    """A tensor of the canonical float ONNX that is quantized.

    Attributes
    ----------
    tensor : str
        Name in the float graph.
    op : str
        Operator that computes it before a fused Relu or Clip; "Input" for the network input.
    like : str or None
        Tensor whose scale and zero point it repeats (`Rule.repeats`).
    low, high : float or None
        Bounds that a Relu or Clip imposes on it.
    fixed : (float, float) or None
        Its range where that is the operator's own.
    joined : str or None
        Tensor of which this is a part, and by whose values its range is chosen.
    """

    tensor: str
    op: str
    like: str | None = None
    low: float | None = None
    high: float | None = None
    fixed: tuple[float, float] | None = None
    joined: str | None = None


class Graph:
    """Read access to a canonical float ONNX: constants, consumers, attributes and static shapes.

    Parameters
    ----------
    model : onnx.ModelProto
        Batch 1, static shapes, initializers for every weight.

    Raises
    ------
    UnsupportedError
        An operator without a rule, or no input or output.

    Attributes
    ----------
    inputs, outputs : tuple of str
        Tensors of the interface, in the model's order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.constants: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        for node in self.nodes:
            if node.op_type not in rules():
                raise UnsupportedError(
                    f"node {node.name!r}: operator {node.op_type} is not supported; supported: {', '.join(rules())}"
                )
        self.inputs = tuple(str(value.name) for value in model.graph.input if value.name not in self.constants)
        self.outputs = tuple(str(value.name) for value in model.graph.output)
        if not self.inputs or not self.outputs:
            raise UnsupportedError(f"the network has inputs {list(self.inputs)} and outputs {list(self.outputs)}")

    @property
    def input(self) -> str:
        """The one input; UnsupportedError where there are several."""
        return _one(self.inputs, "inputs")

    @property
    def output(self) -> str:
        """The one output; UnsupportedError where there are several."""
        return _one(self.outputs, "outputs")

    @cached_property
    def input_ports(self) -> Ports:
        """The inputs with their shapes."""
        return input_ports(self.model)

    @cached_property
    def output_ports(self) -> Ports:
        """The outputs with their shapes."""
        return tuple(Port(name, self.shape(name)) for name in self.outputs)

    @cached_property
    def states(self) -> States:
        """What is kept between calls."""
        return states(self.model)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Inputs of integers, which are not quantized."""
        return tuple(port.name for port in self.input_ports if port.tokens)

    def feed(self, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return what each input takes of samples (N, ...) or, of several inputs, rows (N, values)."""
        return typed(self.input_ports, split(self.input_ports, x))

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        """Node that computes each tensor."""
        return {node.output[0]: node for node in self.nodes}

    @cached_property
    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """Nodes that read each tensor, once per use."""
        uses: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                uses[name].append(node)
        return uses

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Static shape of every activation tensor."""
        inferred = shape_inference.infer_shapes(self.model, data_prop=True)
        shapes: dict[str, tuple[int, ...]] = {}
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
            dims = value.type.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims):
                shapes[value.name] = tuple(dim.dim_value for dim in dims)
        return shapes

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return a tensor's static shape; UnsupportedError where it has none."""
        if tensor not in self.shapes:
            raise UnsupportedError(f"tensor {tensor!r} has no static shape; export the model with fixed shapes")
        return self.shapes[tensor]

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """Return the node's inputs that are not constants, in order."""
        return [name for name in node.input if name and name not in self.constants]

    def rule(self, node: onnx.NodeProto) -> Rule:
        """Return a node's rule, with the answers that depend on the node."""
        own = rule(node)
        return own if own.variant is None else own.variant(self, node)

    def mapped(self, node: onnx.NodeProto) -> list[str]:
        """Return the constant operands that a node's kernel reads as codes."""
        names = [name for name in node.input if name in self.constants] if self.rule(node).maps else []
        return [name for name in names if self.constants[name].size > 1]

    def before(self, node: onnx.NodeProto) -> list[str]:
        """Return the tensors that a node reads, each in front of the moves whose results are not stored."""
        names = []
        for name in self.activations(node):
            while (step := self.producer.get(name)) is not None and self.arranges(step):
                name = step.input[0]
            names.append(name)
        return names

    @cached_property
    def _within(self) -> tuple[set[str], dict[str, onnx.NodeProto]]:
        """Results of moves before operators that need them, and of moves behind them with these operators."""
        first: set[str] = set()
        last: dict[str, onnx.NodeProto] = {}
        for node in self.nodes:
            if (within := rule(node).within) is not None:
                before, behind = within(self, node)
                first |= {step.output[0] for step in before}
                last |= {step.output[0]: node for step in behind}
        return first, last

    def arranges(self, node: onnx.NodeProto) -> bool:
        """Whether a node only orders elements for the one behind it: its result is never stored."""
        tensor = node.output[0]
        if tensor in self._within[0]:
            return True
        users = self.consumers[tensor]
        if not rule(node).arranges or tensor in self.outputs or len(users) != 1 or self.restores(node):
            return False
        return rule(users[0]).arranges and users[0].output[0] not in self._within[0]

    def restores(self, node: onnx.NodeProto) -> bool:
        """Whether a node brings the result of an operator, which is not stored, into the order that is."""
        return node.output[0] in self._within[1]

    def stored(self, node: onnx.NodeProto) -> str:
        """Return the tensor in which a node's result is stored: its own, or that of the last move for it alone."""
        tensor = str(node.output[0])
        while (after := next((n for n in self.consumers[tensor] if self.restores(n)), None)) is not None:
            tensor = str(after.output[0])
        return tensor

    def scores(self, output: str) -> str:
        """Return what an output names classes by: what the Softmax or ArgMax reads that ends it, or itself."""
        last = self.producer[output]
        if rule(last).distribution:
            return str(last.input[0])
        while (rule(last).arranges or rule(last).flattens) and last.input[0] in self.producer:
            last = self.producer[last.input[0]]
        return str(last.input[0]) if rule(last).chooses else output

    def bounds(self, node: onnx.NodeProto) -> tuple[float | None, float | None]:
        """Return the clamp of a Relu or Clip; None where it is open."""
        if node.op_type == "Relu":
            return 0.0, None
        limits = [float(self.constants[name].item()) if name else None for name in list(node.input)[1:3]]
        limits += [None] * (2 - len(limits))
        return limits[0], limits[1]

    def ending(self, node: onnx.NodeProto) -> str:
        """Return the quantized tensor that a node ends in: its own output, or that of its fused Relu or Clip."""
        return str((self.fused_activation(node) or node).output[0])

    def fused_activation(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the Relu or Clip that clamps this node's output and is its only use, or None."""
        tensor = node.output[0]
        uses = self.consumers[tensor]
        if not self.rule(node).clamped or tensor in self.outputs or len(uses) != 1:
            return None
        return uses[0] if rule(uses[0]).activation else None


def _one(names: tuple[str, ...], what: str) -> str:
    if len(names) != 1:
        raise UnsupportedError(f"the network has {len(names)} {what} ({', '.join(names)}); this takes one")
    return names[0]


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return a node's attribute value, or `default` where it is absent."""
    own = next((item for item in node.attribute if item.name == name), None)
    return default if own is None else onnx.helper.get_attribute_value(own)


def quantization_points(graph: Graph) -> tuple[Point, ...]:
    """Return the tensors that are quantized, in execution order, the network's inputs first; tokens are none."""
    points = {name: Point(name, "Input") for name in graph.inputs if name not in graph.tokens}
    for node in graph.nodes:
        tensor = node.output[0]
        if graph.fused_activation(node) is not None or graph.arranges(node) or _restored(graph, node):
            continue
        if graph.restores(node):
            maker = graph.producer[node.input[0]]
            points[tensor] = Point(tensor, maker.op_type, fixed=graph.rule(maker).output)
        elif graph.rule(node).repeats:
            source = points[graph.before(node)[0]]
            points[tensor] = Point(tensor, node.op_type, source.like or source.tensor, source.low, source.high)
        elif rule(node).activation:
            before = graph.producer.get(node.input[0])
            fused = before is not None and graph.fused_activation(before) is node
            op = before.op_type if before is not None and fused else node.op_type
            points[tensor] = Point(tensor, op, None, *graph.bounds(node))
        else:
            points[tensor] = Point(tensor, node.op_type, fixed=graph.rule(node).output)
    return tuple(_with_states(graph, _with_parts(graph, points)).values())


def _with_states(graph: Graph, points: dict[str, Point]) -> dict[str, Point]:
    """Let what is kept between calls have the scale of what it was in the last one: keeping it only moves codes."""
    found = dict(points)
    for state in graph.states:
        before, after = (found[name].like or name for name in (state.input, state.output))
        if before != after:
            for name, point in found.items():
                if name == before or point.like == before:
                    found[name] = replace(point, like=after, fixed=None)
    return found


def _with_parts(graph: Graph, points: dict[str, Point]) -> dict[str, Point]:
    """Let the parts of a layer and what joins them have one scale, so that joining only moves codes."""
    found = dict(points)
    for whole, parts in joins(graph.nodes).items():
        found[parts[0]] = replace(points[parts[0]], joined=whole)
        found |= {name: replace(points[name], like=parts[0]) for name in (*parts[1:], whole)}
    for name, point in found.items():
        if point.like in found and (owner := found[point.like].like) is not None:
            found[name] = replace(point, like=owner)
    return found


def _restored(graph: Graph, node: onnx.NodeProto) -> bool:
    return any(graph.restores(user) for user in graph.consumers[node.output[0]])


def _use(graph: Graph, node: onnx.NodeProto) -> Use:
    own, end, reads = graph.rule(node), graph.ending(node), tuple(graph.before(node))
    restores, fixed, coupled = graph.restores(node), frozenset[str](), False
    # A softmax that ends the network reads 4 bits too.
    if own.only_8_bits and (len(graph.shape(node.output[0])) == 4 or not own.distribution):
        fixed = frozenset({end, *reads})
    elif restores:
        fixed = frozenset(node.output[:1])
    else:
        coupled = (own.repeats or own.joins) and not graph.arranges(node)
    narrow, moves = frozenset({end, *reads, graph.stored(node)}), own.repeats or (own.joins and not own.adds)
    operands, results = tuple(graph.activations(node)), tuple(node.output)
    return Use(reads, end, own.wide, narrow, fixed, coupled, moves, operands, results)


def _layer(graph: Graph, node: onnx.NodeProto, depth: int, group_of: dict[str, int]) -> Layer:
    table, place = rule(node).table, weight_input(node)
    weights = graph.constants.get(node.input[place])
    if weights is None:
        raise UnsupportedError(f"layer {node.name!r}: its weights {node.input[place]!r} are not constant")
    for name in list(node.input)[:1] if table else list(node.input)[1:]:
        if name and not np.isfinite(graph.constants[name]).all():
            raise DataError(f"layer {node.name!r}: {name!r} holds NaN or infinite values; retrain or repair the model")
    op: LayerOp = "dense"
    if rule(node).nearest:
        # A dense layer of tokens, each of which is a vector of zeros and a single one, or of its own results of a step.
        group = group_of[graph.stored(node)]
        shape, steps = (weights.shape[::-1], 0) if table else (weights.shape[1:], graph.shape(node.output[0])[0])
        return Layer(node.name, op, shape, steps * math.prod(shape), group, group, depth)
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        op = "depthwise" if groups > 1 and weights.shape[1] == 1 and weights.shape[0] == groups else "conv"
    outputs = math.prod(graph.shape(node.output[0]))
    return Layer(
        name=node.name,
        op=op,
        weight_shape=tuple(weights.shape),
        macs=outputs * math.prod(weights.shape[1:]),
        input_group=group_of[node.input[0]],
        output_group=group_of[graph.ending(node)],
        depth=depth,
    )


def analyse(onnx_model: onnx.ModelProto, name: str) -> Network:
    """Find the layers with weights and the activation tensors that must share a bit width.

    Operators that join (Add, Concat) couple their operands and result; those that repeat a scale (MaxPool, Flatten,
    Reshape, Pad) couple input and output. A group that holds an input or output of the network, or what an operator
    with 8-bit kernels alone reads or writes, is an interface group and stays at 8 bits.
    A convolution is `depthwise` where it has one input and one output channel per group.

    Parameters
    ----------
    onnx_model : onnx.ModelProto
        Canonical float ONNX: batch 1, static shapes, BatchNorm folded.
    name : str
        The network's name.

    Returns
    -------
    Network
        Layers in execution order; groups ordered by their first tensor, those of the inputs first.

    Raises
    ------
    UnsupportedError
        Operator outside the canonical set, dynamic shape, weights that are not constant, duplicate node name.
    DataError
        Weights or biases that are NaN or infinite.
    """
    graph = Graph(onnx_model)
    for node in graph.nodes:
        if (check := rule(node).check) is not None:
            check(graph, node)
    points = quantization_points(graph)
    uses = [_use(graph, node) for node in graph.nodes]
    ports = graph.inputs + graph.outputs
    groups = activation_groups([point.tensor for point in points], ports, graph.states, uses)
    group_of = {tensor: index for index, group in enumerate(groups) for tensor in group.tensors}
    weighted = [node for node in graph.nodes if rule(node).weighted or rule(node).nearest]
    layers = tuple(_layer(graph, node, depth, group_of) for depth, node in enumerate(weighted))
    names = [layer.name for layer in layers]
    if len(set(names)) != len(names) or "" in names:
        raise UnsupportedError(f"layers need unique, non-empty names; found {names}")
    return Network(name=name, layers=layers, groups=groups)
