"""Nodes of a quantized ONNX graph that are no quantizers: of real values, or such as move integers."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from tapc.base.errors import UnsupportedError
from tapc.frontend.quantized_reader import INTEGERS, OUTPUTS, Codes, Grid, Reader

_LAST = "qonnx.custom_op.channels_last"
_NORMALIZED = ("Constant", "Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten")
_MOVES = (
    "Concat", "DepthToSpace", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip


def ordinary(r: Reader, node: onnx.NodeProto) -> None:
    """Copy an operator of real values, or one that moves integers."""
    data = [name for name in node.input if name and name not in r.constants]
    if not data and node.op_type in _NORMALIZED and not node.domain:
        _fold(r, node)
        return
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    integers = [name for name in node.input if name in r.held or (name in r.inputs and node.op_type in _MOVES)]
    if integers:
        _moved(r, node, copy, integers)
        return
    raw = next((name for name in node.input if name in r.inputs or name in r.raw), None)
    if raw is not None and _dequantizes(r, node, raw):
        return
    if raw is not None:
        raise UnsupportedError(
            f"node {node.name or node.output[0]!r}: {node.op_type} reads the integers of input {raw!r} without a "
            "scale; pass the float32 network"
        )
    for index, name in enumerate(copy.input):
        copy.input[index] = r.of(name)
    if node.domain == _LAST:
        _channels_last(r, copy)
        return
    if node.op_type in OUTPUTS and not node.domain and len(node.input) > 1:
        r.weights(node, copy.input[1], copy.input[2] if len(copy.input) > 2 else "", copy.input[0])
    else:
        for name in copy.input:
            r.operand(name)
    r.nodes.append(copy)


def _dequantizes(r: Reader, node: onnx.NodeProto, raw: str) -> bool:
    """Follow integers of an input through Cast, Sub of a zero point and Mul with a scale."""
    name, zero = r.raw.get(raw, (raw, 0))
    others = [r.constants[other] for other in node.input if other != raw and other in r.constants]
    number = float(others[0].reshape(-1)[0]) if len(others) == 1 and others[0].size == 1 else None
    if node.op_type == "Cast" and raw in r.inputs:
        r.raw[node.output[0]] = name, 0
    elif node.op_type == "Sub" and number is not None and node.input[0] == raw and number == round(number):
        r.raw[node.output[0]] = name, round(number)
    elif node.op_type == "Mul" and number is not None:
        r.alias[node.output[0]] = r.integer(name, Grid(number, zero, *INTEGERS[r.inputs[name]]))
    elif raw in r.raw:  # pictures of bytes: what they are as numbers
        r.alias[raw] = r.integer(name, Grid(1.0, zero, *INTEGERS[r.inputs[name]]))
        r.raw.pop(raw)
        ordinary(r, node)
    else:
        return False
    return True


def _channels_last(r: Reader, node: onnx.NodeProto) -> None:
    """Write QONNX's operator of (N, H, W, C) in ONNX's own layout."""
    result, source = str(node.output[0]), str(node.input[0])
    node.domain = ""
    node.input[0] = r.emit("Transpose", [source], f"{result}_first", perm=[0, 3, 1, 2])
    if node.op_type == "Conv":
        name = str(node.input[1])
        own, weights = r.codes.get(name), f"{result}_weights"
        r.real_constant(weights, r.array(name, f"node {node.name!r}").transpose(0, 3, 1, 2))
        if own is not None:
            r.codes[weights] = Codes(own.values.transpose(0, 3, 1, 2), own.scales, own.zeros, 0, own.bits)
            r.weights(node, weights, str(node.input[2]) if len(node.input) > 2 else "", source)
        node.input[1] = weights
    node.output[0] = f"{result}_made"
    r.nodes.append(node)
    r.emit("Transpose", [node.output[0]], result, perm=[0, 2, 3, 1])


def _fold(r: Reader, node: onnx.NodeProto) -> None:
    """Evaluate a node of constants; integers that stand for them move along."""
    from onnx.reference import ReferenceEvaluator

    own = r.codes.get(node.input[0]) if node.input else None
    given = {name: r.constants[name] for name in node.input if name}
    graph = helper.make_graph(
        [node], "constant", [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                             for n, v in given.items()],
        [helper.make_empty_tensor_value_info(name) for name in node.output],
    )  # fmt: skip
    try:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", r.opset)])
        found = ReferenceEvaluator(model).run(None, given)[0]
    except Exception:
        r.nodes.append(node)  # what comes behind says what is wrong with it
        return
    r.constants[node.output[0]] = np.asarray(found)
    if own is None or node.op_type == "Cast":
        return
    rank, axis = own.values.ndim, own.axis % max(own.values.ndim, 1)
    if node.op_type == "Transpose":
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), list(range(rank))[::-1])
        r.codes[node.output[0]] = Codes(own.values.transpose(perm), own.scales, own.zeros, perm.index(axis), own.bits)
    elif own.scales.size == 1:
        r.codes[node.output[0]] = Codes(own.values.reshape(found.shape), own.scales, own.zeros, 0, own.bits)


def _moved(r: Reader, node: onnx.NodeProto, copy: onnx.NodeProto, integers: Sequence[str]) -> None:
    """Let an operator move real values instead of integers."""
    grids = [r.held[name].grid for name in integers if name in r.held]
    if node.op_type not in _MOVES or node.domain or not grids or any(grid != grids[0] for grid in grids):
        raise UnsupportedError(
            f"node {node.name or node.output[0]!r}: {node.op_type} of integers is not supported; pass the network with "
            "QuantizeLinear and DequantizeLinear, or the float32 network"
        )
    for index, name in enumerate(copy.input):
        copy.input[index] = r.integer(name, grids[0]) if name in integers else r.of(name)
    results = [f"{name}_real" for name in node.output]
    del copy.output[:]
    copy.output.extend(results)
    r.nodes.append(copy)
    for name, result in zip(node.output, results, strict=True):
        r.quantized(name, result, grids[0])
