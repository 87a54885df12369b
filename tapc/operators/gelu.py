"""Gelu: x times the normal distribution's cumulative at x, or its approximation by tanh."""

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.lowering import Lowering, attributes
from tapc.operators.lookup import lower_function


def _gelu(lowering: Lowering, node: onnx.NodeProto) -> None:
    approximate = attributes(node).get("approximate", b"none") == b"tanh"
    lower_function(lowering, node, _by_tanh if approximate else _exact)


def _exact(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = x / 2 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in x]))
    return result


def _by_tanh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return result


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    from torch.nn import functional

    kind = attribute(node, "approximate", b"none")
    approximate = kind.decode() if isinstance(kind, bytes) else str(kind)
    return lambda operands: functional.gelu(operands[0], approximate=approximate)


def _example(e: Example, op: str) -> str:
    return e.node(op, e.any(), approximate=e.pick("none", "tanh"))


register(Rule(_gelu, _torch, only_8_bits=True, wide=True, elementwise=True, any_size=True, example=_example), "Gelu")
