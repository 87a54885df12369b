"""Mixed-precision QDQ ONNX from the float graph and its quantized layers."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.base.arithmetic import FAR
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.given import GivenConstant, GivenPoint
from tapc.graph.layers import as_stored
from tapc.graph.opset import OPSET
from tapc.graph.places import weight_input
from tapc.graph.rules import nodes_where, opset_of, rule
from tapc.quantize.activations import ActivationParameters
from tapc.quantize.runtime import Array
from tapc.quantize.weights import QuantizedLayer

_WEIGHT_TYPES: dict[int, np.dtype[Any]] = dict.fromkeys(range(5, 9), np.dtype(np.int8))
_WEIGHT_TYPES |= {
    16: np.dtype(np.int16),
    4: np.dtype(ml_dtypes.int4),
    3: np.dtype(ml_dtypes.int4),
    2: np.dtype(ml_dtypes.int2),
}
_ACTIVATION_TYPES = {16: np.dtype(np.int16), 8: np.dtype(np.int8), 4: np.dtype(ml_dtypes.uint4)}
_OPSET_INT2 = 25


class _Builder:
    """Nodes and initializers of the QDQ graph in the order they are needed."""

    def __init__(self, graph: Graph, constants: Sequence[GivenConstant] = ()) -> None:
        self.graph = graph
        self.given = constants
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def free(self, name: str) -> str:
        """Return a name that is not that of an input or output of the network."""
        while name in self.graph.inputs or name in self.graph.outputs:
            name += "_"
        return name

    def constant(self, name: str, value: Array) -> str:
        name = self.free(name)
        tensor = numpy_helper.from_array(value, name)
        if self.initializers.setdefault(name, tensor) != tensor:
            raise UnsupportedError(f"the name {name!r} is taken; rename that tensor in the source model")
        return name

    def activation(self, tensor: str, owner: str, parameters: ActivationParameters) -> None:
        """Append QuantizeLinear -> DequantizeLinear; `owner` names the tensor whose parameters these are."""
        scale = self.constant(f"{owner}_scale", np.array(parameters.scale, np.float32))
        zero_point = np.array(parameters.zero_point).astype(_ACTIVATION_TYPES[parameters.bits])
        zero = self.constant(f"{owner}_zero_point", zero_point)
        codes = self.free(f"{tensor}_quantized")
        self.nodes += [
            helper.make_node(
                "QuantizeLinear", [self.raw(tensor), scale, zero], [codes], name=f"{tensor}_QuantizeLinear"
            ),
            helper.make_node(
                "DequantizeLinear", [codes, scale, zero], [self.read(tensor)], name=f"{tensor}_DequantizeLinear"
            ),
        ]

    def raw(self, tensor: str) -> str:
        """Name of a tensor's float value before quantization; an output of the network keeps its name after it."""
        return self.free(f"{tensor}_float") if tensor in self.graph.outputs else tensor

    def read(self, tensor: str) -> str:
        """Name of a quantized tensor's dequantized value, which its consumers read."""
        return tensor if tensor in self.graph.outputs else self.free(f"{tensor}_dequantized")

    def numbers(self, node: onnx.NodeProto) -> list[str]:
        """Return constant operands of one value that come as codes."""
        names = [name for name in node.input if name in self.graph.constants] if self.graph.rule(node).maps else []
        return [name for name in names if any(_holds(given, self.graph.constants[name]) for given in self.given)]

    def constant_map(self, name: str, value: Array) -> str:
        """Append the DequantizeLinear of a constant operand, 8-bit, as given or symmetric; return its value's name."""
        point, low = next((c.point for c in self.given if _holds(c, value)), None), -128
        if point is None:
            low = -127
            largest = max(float(np.abs(value).max()), 1e-30)
            point = GivenPoint(float(np.float32(largest / 127)), 0)
        scale, zero = np.float32(point.scale), point.zero
        codes = np.clip(np.rint(value / scale) + zero, low, 127).astype(np.int8)
        inputs = [
            self.constant(f"{name}_quantized", codes),
            self.constant(f"{name}_scale", np.array(scale)),
            self.constant(f"{name}_zero_point", np.array(zero, np.int8)),
        ]
        result = self.free(f"{name}_dequantized")
        if all(result not in node.output for node in self.nodes):
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [result], name=f"{name}_DequantizeLinear"))
        return result

    def layer_constants(self, node: onnx.NodeProto, layer: QuantizedLayer) -> list[str]:
        """Append the DequantizeLinear of a layer's weights and bias; return what the layer reads."""
        names: list[str] = []
        parts: list[tuple[str, Array, NDArray[np.float32]]] = [
            ("weight", layer.weights.values.astype(_WEIGHT_TYPES[layer.weights.bits]), layer.weights.scales),
            ("bias", layer.bias, layer.bias_scales),
        ]
        for part, values, scales in parts:
            prefix = f"{node.name}.{part}"
            single = len(scales) == 1 < len(values)
            scales = scales[0] if single else scales
            inputs = [
                self.constant(f"{prefix}_quantized", values),
                self.constant(f"{prefix}_scale", np.asarray(scales)),
                self.constant(f"{prefix}_zero_point", np.zeros(np.shape(scales), np.int8).astype(values.dtype)),
            ]
            names.append(self.free(f"{prefix}_dequantized"))
            along = {} if single else {"axis": 0}
            self.nodes.append(
                helper.make_node("DequantizeLinear", inputs, [names[-1]], name=f"{prefix}_DequantizeLinear", **along)
            )
        return names

    def nearest(self, node: onnx.NodeProto, layer: QuantizedLayer) -> str:
        """Append the DequantizeLinear of a table or of recurrent weights; return what the node reads."""
        prefix = f"{node.name}.weight"
        values = as_stored(node, layer.weights.values).astype(_WEIGHT_TYPES[layer.weights.bits])
        inputs = [
            self.constant(f"{prefix}_quantized", values),
            self.constant(f"{prefix}_scale", layer.weights.scales),
            self.constant(f"{prefix}_zero_point", np.zeros(len(layer.weights.scales), np.int8).astype(values.dtype)),
        ]
        name = self.free(f"{prefix}_dequantized")
        self.nodes.append(
            helper.make_node("DequantizeLinear", inputs, [name], name=f"{prefix}_DequantizeLinear", axis=1)
        )
        return name


def _holds(constant: GivenConstant, value: Array) -> bool:
    # Zeros may stand where something else lies beside it: they are its zero point.
    own, other = (np.setdiff1d(np.asarray(array, np.float32), [0]) for array in (constant.values, value))
    return np.array_equal(own, other)


def export_qdq(
    graph: Graph,
    layers: dict[str, QuantizedLayer],
    parameters: dict[str, ActivationParameters],
    owners: dict[str, str],
    constants: Sequence[GivenConstant] = (),
) -> onnx.ModelProto:
    """Write the QDQ ONNX.

    Nodes and the network's inputs and outputs keep their names. A quantized tensor T has the codes
    `T_quantized` and the value `T_dequantized` (outputs of the network: codes `T_quantized`, value `T`).

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    layers : dict of str to QuantizedLayer
        By node name.
    parameters : dict of str to ActivationParameters
        Per quantized tensor.
    owners : dict of str to str
        Quantized tensor -> the tensor whose scale and zero point initializers it uses.
    constants : sequence of GivenConstant
        How constant operands are quantized that come as integers.

    Returns
    -------
    onnx.ModelProto
        Opset 21, or what an operator needs; opset 25 where a layer has 2-bit weights. Full-checked by onnx.checker.
    """
    builder = _Builder(graph, constants)
    for name in graph.inputs:
        if name in parameters:
            builder.activation(name, owners[name], parameters[name])
    for node in graph.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:]
        if rule(node).nearest:
            for place, name in enumerate(node.input):
                if place == weight_input(node):
                    name = builder.nearest(node, layers[node.name])
                elif name in graph.constants:
                    builder.constant(name, graph.constants[name])
                copy.input.append(name)
        elif rule(node).weighted:
            copy.input.append(builder.read(node.input[0]))
            copy.input.extend(builder.layer_constants(node, layers[node.name]))
        else:
            mapped = [*graph.mapped(node), *builder.numbers(node)]
            for name in node.input:
                if name in mapped:
                    copy.input.append(builder.constant_map(name, graph.constants[name]))
                    continue
                if name in graph.constants:
                    builder.constant(name, graph.constants[name])
                copy.input.append(builder.read(name) if name in parameters else name)
        output = node.output[0]
        if output in parameters and node.input[0] not in parameters and _implied(graph, node, parameters[output]):
            producer = next(n for n in reversed(builder.nodes) if n.output[0] == node.input[0])
            producer.output[0] = builder.raw(output)
        else:
            copy.output[0] = builder.raw(output)
            builder.nodes.append(copy)
        if output in parameters:
            builder.activation(output, owners[output], parameters[output])
    onnx_graph = helper.make_graph(
        builder.nodes,
        graph.model.graph.name or "network",
        [_value(graph, name) for name in graph.inputs],
        [_value(graph, name) for name in graph.outputs],
        initializer=list(builder.initializers.values()),
    )
    int2 = any(layer.weights.bits == 2 for layer in layers.values())
    opset, ir_version = opset_of(graph.nodes, _OPSET_INT2 if int2 else OPSET)
    model = helper.make_model(
        onnx_graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="tapc"
    )
    model.metadata_props.extend(graph.model.metadata_props)
    onnx.checker.check_model(model, full_check=True)
    return model


def _implied(graph: Graph, node: onnx.NodeProto, parameters: ActivationParameters) -> bool:
    """Whether a fused Relu or Clip does nothing that the saturation of its QuantizeLinear does not do.

    Without the node onnxruntime recognizes the layer as one integer kernel.
    """
    before = graph.producer.get(node.input[0])
    if before is None or graph.fused_activation(before) is not node:
        return False
    low, high = graph.bounds(node)

    def code(value: float) -> float:
        return float(np.rint(np.float32(value) / np.float32(parameters.scale))) + parameters.zero_point

    return (low is None or code(low) <= parameters.low) and (high is None or code(high) >= parameters.high)


def far_sums(model: onnx.ModelProto) -> bool:
    """Whether an addition's operand has a scale of more than `FAR` times the result's.

    onnxruntime's integer kernel adds up the zero points in one float32, where they drown; others are right.
    """
    scales = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    operands, results, following = {}, {}, {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            operands[node.output[0]] = node.input[1]
        elif node.op_type == "QuantizeLinear":
            results[node.input[0]] = node.input[1]
    for node in nodes_where(model.graph.node, lambda rule: rule.activation):
        following[node.input[0]] = node.output[0]

    def largest(name: str) -> float:
        return float(numpy_helper.to_array(scales[name]).max())

    for node in nodes_where(model.graph.node, lambda rule: rule.adds):
        output = node.output[0]
        while output in following and output not in results:
            output = following[output]
        if output in results:
            inputs = [largest(operands[name]) for name in node.input if name in operands]
            if max(inputs, default=0.0) > FAR * largest(results[output]):
                return True
    return False


def _value(graph: Graph, tensor: str) -> onnx.ValueInfoProto:
    kind = TensorProto.INT64 if tensor in graph.tokens else TensorProto.FLOAT
    return helper.make_tensor_value_info(tensor, kind, graph.shape(tensor))
