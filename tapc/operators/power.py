"""Power of every element with one constant exponent, as a table."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.example import Example
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.lowering import Lowering
from tapc.operators.lookup import lower_function


def _values(x: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Return the power; where there is none, the least that there is."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.nan_to_num(np.power(x, exponent), nan=-np.inf, posinf=np.inf, neginf=-np.inf)


def _power(lowering: Lowering, node: onnx.NodeProto) -> None:
    exponent = float(lowering.graph.constant(node.input[1]).item())
    lower_function(lowering, node, lambda x: _values(x, exponent))


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    exponent = graph.constants.get(node.input[1])
    if node.input[0] in graph.constants or exponent is None or exponent.size != 1:
        raise UnsupportedError(f"node {node.name!r}: only powers with one constant exponent are supported")


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    exponent = float(graph.constants[node.input[1]].item())
    return lambda operands: operands[0] ** exponent


def _example(e: Example, op: str) -> str:
    exponent = e.pick(2.0, 3.0, 1.0, 0.5, 1.7, -0.5, -2.0)
    x = e.any()
    if exponent < 0 or not exponent.is_integer():
        x = e.node("Exp" if exponent < 0 else "Abs", x)
    return e.node(op, x, e.constant(np.array(exponent, np.float32).reshape(e.pick((), (1,)))))


register(Rule(_power, _torch, only_8_bits=True, wide=True, any_size=True, check=_check, example=_example), "Pow")
