"""Product of two tensors, of which one may be broadcast along any axis or constant."""

from typing import Any

import onnx

from tapc.graph.analysis import Graph
from tapc.graph.rules import Rule, TfliteForm, TorchStep, register
from tapc.ir.lowering import Lowering
from tapc.operators.binary import (
    check_operands,
    example_of,
    lower_binary,
    reach_by_corners,
    torch_binary,
    variant_of,
)


def _product(a: Any, b: Any) -> Any:
    return a * b


def _multiply(lowering: Lowering, node: onnx.NodeProto) -> None:
    lower_binary(lowering, node, "mul", _product)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return torch_binary(graph, node, dtype, _product)


def _variant(graph: Graph, node: onnx.NodeProto) -> Rule:
    return variant_of(_RULE, graph, node)


_RULE = Rule(
    _multiply,
    _torch,
    reach_by_corners(_product),
    clamped=True,
    maps=True,
    any_size=True,
    variant=_variant,
    check=check_operands,
    example=example_of,
    tflite=TfliteForm("MUL", ("mul", "Mul", "multiply"), "MulOptions", ("FusedActivationFunction",)),
)
register(_RULE, "Mul")
