"""MatMul, Gemm and Conv with constant weights, an explicit bias and canonical attributes."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.frontend.canonical.edit import (
    AttributeValue,
    attribute,
    constant,
    content,
    in_attention,
    operand,
    rewrite,
    shape,
    source,
    unsupported,
)
from tapc.frontend.canonical.spatial import padding, steps

Array = NDArray[np.float32]


def parameters(node: ir.Node) -> tuple[Array, Array]:
    """Return weights and bias of a canonical Conv or Gemm."""
    weights, bias = content(source(node, 1)), content(source(node, 2))
    assert weights is not None
    assert bias is not None
    return weights, bias


def set_parameters(node: ir.Node, weights: NDArray[Any], bias: NDArray[Any]) -> None:
    """Give a canonical Conv or Gemm new weights and bias, stored as float32."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    node.replace_input_with(1, constant(graph, f"{node.name}.weight", weights.astype(np.float32)))
    node.replace_input_with(2, constant(graph, f"{node.name}.bias", bias.astype(np.float32)))


def canonical_layers(graph: ir.Graph) -> None:
    """Rewrite Conv, MatMul and Gemm to the canonical form.

    Conv: explicit symmetric or asymmetric `pads`, dilation 1, bias. Gemm: weights (outputs, inputs), transB=1,
    alpha=beta=1, bias.

    Raises
    ------
    UnsupportedError
        Weights that are computed, dilation, 1-D or 3-D convolution, MatMul of more than one row.
    """
    for node in list(graph):
        if node.op_type == "Conv":
            _conv(graph, node)
        elif node.op_type == "Gemm":
            _gemm(graph, node)
        elif node.op_type == "MatMul" and not in_attention(node):
            _dense(graph, node, _constant(node, 1), None)


def _constant(node: ir.Node, index: int) -> NDArray[Any]:
    array = content(source(node, index))
    if array is None:
        raise unsupported(node, f"input {index} ({source(node, index).name!r}) must be a constant weight")
    return array


_AS_2D = (
    "",
    ": the same network in 2-D, with the weights that it has: Conv1d(i, o, k) becomes Conv2d(i, o, (1, k)) with "
    "weight.unsqueeze(2), its input (N, C, 1, T); samples of shape (C, T) need no change",
)


def _conv(graph: ir.Graph, node: ir.Node) -> None:
    weights = _constant(node, 1)
    if weights.ndim != 4:
        raise unsupported(node, f"{weights.ndim - 2}-D convolution; only 2-D is supported{_AS_2D[weights.ndim == 3]}")
    dilations = attribute(node, "dilations", (1, 1))
    if any(dilation != 1 and window != 1 for dilation, window in zip(dilations, weights.shape[2:], strict=True)):
        raise unsupported(node, f"dilations {list(dilations)}; only 1 is supported")
    outputs, group = weights.shape[0], int(attribute(node, "group", 1))
    channels = shape(source(node))[1]
    if group < 1 or outputs < 1 or outputs % group or channels != weights.shape[1] * group:
        raise DataError(
            f"node {node.name!r} (Conv): weights {list(weights.shape)} in {group} groups do not fit an input of "
            f"{channels} channels; the file is damaged, export it again"
        )
    bias = np.zeros(outputs, np.float32) if operand(node, 2) is None else _constant(node, 2)
    kernel = weights.shape[2:]
    pads = padding(node, kernel, attribute(node, "strides", (1, 1)))
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": kernel,
        "strides": steps(node, pads),
        "pads": pads,
        "dilations": (1, 1),
        "group": group,
    }
    inputs = [source(node), constant(graph, f"{node.name}.weight", weights), constant(graph, f"{node.name}.bias", bias)]
    rewrite(node, "Conv", inputs, attributes)


def _gemm(graph: ir.Graph, node: ir.Node) -> None:
    if attribute(node, "transA", 0):
        raise unsupported(node, "transA=1 is not supported")
    weights = _constant(node, 1) * np.float32(attribute(node, "alpha", 1.0))
    bias = None
    if operand(node, 2) is not None:
        bias = _constant(node, 2) * np.float32(attribute(node, "beta", 1.0))
    _dense(graph, node, weights.T if attribute(node, "transB", 0) else weights, bias)


def _dense(graph: ir.Graph, node: ir.Node, weights: NDArray[Any], bias: NDArray[Any] | None) -> None:
    """`weights` is (inputs, outputs) and `bias` broadcasts to (1, outputs)."""
    if weights.ndim != 2 or len(shape(source(node))) != 2:
        raise unsupported(
            node,
            f"multiplies {list(shape(source(node)))} by {list(weights.shape)}; only (1, inputs) vectors are supported, "
            "and tokens (1, T, channels) that come from a map by Reshape and Transpose",
        )
    if 0 in weights.shape:
        raise DataError(f"node {node.name!r} ({node.op_type}): weights of shape {list(weights.shape)} are empty")
    outputs = weights.shape[1]
    full = np.zeros(outputs, np.float32) if bias is None else np.broadcast_to(bias, (1, outputs)).reshape(outputs)
    inputs = [
        source(node),
        constant(graph, f"{node.name}.weight", weights.T.astype(np.float32)),
        constant(graph, f"{node.name}.bias", full.astype(np.float32)),
    ]
    rewrite(node, "Gemm", inputs, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1})
