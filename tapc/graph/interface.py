"""The inputs and outputs of a canonical or QDQ graph."""

import json
from collections.abc import Mapping

import onnx

from tapc.base.errors import UnsupportedError
from tapc.base.ports import LAYOUT, Port, Ports
from tapc.base.strides import Loops


def input_ports(model: onnx.ModelProto) -> Ports:
    """Return the inputs of a canonical or QDQ graph with their shapes."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return tuple(
        Port(value.name, _extents(value), _tokens(model, value, constants), *_layout(model, value.name))
        for value in model.graph.input
        if value.name not in constants
    )


def output_ports(model: onnx.ModelProto) -> Ports:
    """Return the outputs of a graph with their shapes."""
    return tuple(Port(value.name, _extents(value), 0, *_layout(model, value.name)) for value in model.graph.output)


def _layout(model: onnx.ModelProto, name: str) -> tuple[tuple[int, ...], Loops]:
    """Return how a port lies in the source's, see `Port`."""
    text = next((entry.value for entry in model.metadata_props if entry.key == LAYOUT + name), None)
    if text is None:
        return (), ()
    found = json.loads(text)
    return tuple(found["shape"]), tuple((extent, stride) for extent, stride in found["loops"])


def _extents(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        raise UnsupportedError(f"tensor {value.name!r} has no static shape; export the model with fixed shapes")
    return tuple(dim.dim_value for dim in dims)


def _tokens(model: onnx.ModelProto, value: onnx.ValueInfoProto, constants: Mapping[str, onnx.TensorProto]) -> int:
    """Return how many tokens an input of integers may hold: the fewest rows of the tables that it looks up in."""
    if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        return 0
    made = {name: node for node in model.graph.node for name in node.output}
    rows = []
    for node in model.graph.node:
        if value.name in list(node.input)[1:2]:
            table = node.input[0]
            while table in made:
                table = made[table].input[0]
            rows.append(int(constants[table].dims[0]) if table in constants else 1)
    return min(rows, default=1)
