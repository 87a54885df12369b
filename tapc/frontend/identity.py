"""What a network is, whatever it and its tensors are called: for telling whether two are the same."""

import hashlib

import onnx
from onnx import numpy_helper

from tapc.base.cache import digest


def network_digest(model: onnx.ModelProto) -> str:
    """Return a SHA-256 of a canonical network's operators, wiring and constants; no name enters it.

    Parameters
    ----------
    model : onnx.ModelProto
        As in `FloatModel.onnx`, before anything is equalized.
    """
    graph = model.graph
    constants = {tensor.name: _content(tensor) for tensor in graph.initializer}
    ports = [port for port in graph.input if port.name not in constants]
    places = {port.name: index for index, port in enumerate(ports)}

    def place(name: str) -> str | int:
        return constants[name] if name in constants else places.setdefault(name, len(places)) if name else ""

    nodes = [
        (node.op_type, sorted(map(_attribute, node.attribute)), list(map(place, node.input)),
         list(map(place, node.output)))
        for node in graph.node
    ]  # fmt: skip
    shapes = [[axis.dim_value for axis in port.type.tensor_type.shape.dim] for port in ports]
    return digest(shapes, nodes, [place(port.name) for port in graph.output])


def _content(tensor: onnx.TensorProto) -> str:
    array = numpy_helper.to_array(tensor)
    return hashlib.sha256(repr((array.dtype.str, array.shape)).encode() + array.tobytes()).hexdigest()


def _attribute(attribute: onnx.AttributeProto) -> str:
    if attribute.type == onnx.AttributeProto.TENSOR:
        return f"{attribute.name} {_content(attribute.t)}"
    bare = onnx.AttributeProto()
    bare.CopyFrom(attribute)
    bare.doc_string = ""
    content: bytes = bare.SerializeToString(deterministic=True)
    return content.hex()
