"""What an ONNX file must be before anything is computed with it: its size, its operators and its kind of network."""

import math

import onnx
from onnx import TensorProto

from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.boundary import MOST_BYTES, MOST_NODES

OLDEST_OPSET = 7
STANDARD = ("", "ai.onnx")
_RECURRENT = ("LSTM", "GRU", "RNN")
_STEPWISE = ("Identity", "Cast", "Dropout", "Relu", "Clip", "Tanh", "Sigmoid", "Add", "Sub", "Mul", "Div", "MatMul")
"""What acts on each step alone."""
_CONTROL = ("Loop", "Scan", "SequenceMap")
_BYTES = {TensorProto.DOUBLE: 8, TensorProto.INT64: 8, TensorProto.UINT64: 8, TensorProto.COMPLEX64: 8}


def check_sizes(model: onnx.ModelProto) -> None:
    """Refuse constants and graphs that are too large, by what the file declares.

    Raises
    ------
    DataError
        Too large, or functions that call themselves.
    """
    total = 0
    for tensor in _constants(model):
        if any(dim < 0 for dim in tensor.dims):
            raise DataError(f"initializer {tensor.name!r} has shape {list(tensor.dims)}")
        total += math.prod(tensor.dims) * _BYTES.get(tensor.data_type, 4)
        if total > MOST_BYTES:
            raise DataError(f"its constants declare {total} bytes by {tensor.name!r}; up to {MOST_BYTES} are read")
    if (nodes := node_count(model)) > MOST_NODES:
        raise DataError(f"{nodes} nodes, functions written out; networks of up to {MOST_NODES} are read")


def node_count(model: onnx.ModelProto) -> int:
    """Return how many nodes a graph has once its local functions are written out, without writing them out.

    Raises
    ------
    DataError
        A function that calls itself.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    counts: dict[tuple[str, str], int] = {}
    open_: set[tuple[str, str]] = set()

    def count(nodes: "list[onnx.NodeProto]") -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            total += of_function(key) if key in functions else 1
            for item in node.attribute:
                for graph in (item.g, *item.graphs):
                    total += count(list(graph.node))
        return total

    def of_function(key: tuple[str, str]) -> int:
        if key not in counts:
            if key in open_:
                raise DataError(f"the function {key[1]!r} calls itself")
            open_.add(key)
            counts[key] = 1 + count(list(functions[key].node))
            open_.discard(key)
        return counts[key]

    return count(list(model.graph.node))


def check_kind(model: onnx.ModelProto, *, quantized: bool = False) -> None:
    """Refuse networks of kinds that tapc does not compile, by name: recurrent, of vendor operators.

    Operators of a quantized one have a reader of their own.

    Raises
    ------
    UnsupportedError
        Such a network, or an opset that is too old.
    """
    opset = default_opset(model)
    if opset is not None and opset < OLDEST_OPSET:
        raise UnsupportedError(
            f"opset {opset}; {OLDEST_OPSET} is the oldest that is read: export the model again, or convert it with "
            "onnx.version_converter"
        )
    local = {(function.domain, function.name) for function in model.functions}
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for node in nodes:
        name = node.name or (node.output[0] if node.output else "")
        if not quantized and node.domain not in STANDARD and (node.domain, node.op_type) not in local:
            raise UnsupportedError(
                f"node {name!r}: operator {node.domain}.{node.op_type} is not supported, it belongs to a runtime or "
                "tool; export the model with standard ONNX operators"
            )
        if node.op_type in _CONTROL or (quantized and node.op_type == "If"):
            raise UnsupportedError(
                f"node {name!r}: control flow ({node.op_type}) is not supported; export the model with fixed shapes, "
                "by tracing"
            )


def time_major(model: onnx.ModelProto) -> set[str]:
    """Return the inputs whose first dimension is the steps of a recurrent layer, which reads them before all else."""
    readers = (
        node for node in model.graph.node
        if node.op_type in _RECURRENT and not any(item.name == "layout" and item.i for item in node.attribute)
    )  # fmt: skip
    producer = {node.output[0]: node for node in model.graph.node if node.op_type in _STEPWISE and node.input}
    found = set()
    for reader in readers:
        name = reader.input[0]
        while name in producer:
            name = producer[name].input[0]
        found.add(name)
    return found & {str(value.name) for value in model.graph.input}


def default_opset(model: onnx.ModelProto) -> int | None:
    """Return the version of the standard operators, or None where the file names none."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in STANDARD), None)


def _constants(model: onnx.ModelProto) -> list[TensorProto]:
    found = [*model.graph.initializer]
    for sparse in model.graph.sparse_initializer:
        dense = TensorProto(name=sparse.values.name, dims=sparse.dims, data_type=sparse.values.data_type)
        found.append(dense)
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        for item in node.attribute:
            found += [item.t] if item.HasField("t") else []
            found += item.tensors
    return found
