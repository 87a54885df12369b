"""Weights and biases of canonical layers."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import constant, content, source

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
