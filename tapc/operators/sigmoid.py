"""Sigmoid: 1 / (1 + exp(-x)), a table."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.graph.analysis import Graph
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TfliteForm, TorchStep, register
from tapc.ir.lowering import Lowering
from tapc.operators.lookup import lower_function


def _sigmoid(lowering: Lowering, node: onnx.NodeProto) -> None:
    lower_function(lowering, node, _values, "sigmoid")


def _values(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # By tanh: no exponential overflows.
    result: NDArray[np.float64] = (1 + np.tanh(x / 2)) / 2
    return result


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    return Reach(_values(operands[0].low), _values(operands[0].high))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return lambda operands: operands[0].sigmoid()


def _example(e: Example, op: str) -> str:
    return e.node(op, e.any())


register(
    Rule(
        _sigmoid,
        _torch,
        _reach,
        only_8_bits=True,
        wide=True,
        output=(0.0, 1.0),
        elementwise=True,
        any_size=True,
        example=_example,
        tflite=TfliteForm("LOGISTIC", ("Sigmoid",)),
    ),
    "Sigmoid",
)
