"""Difference of two tensors, of which one may be broadcast along any axis or constant."""

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


def _difference(a: Any, b: Any) -> Any:
    return a - b


def _subtract(lowering: Lowering, node: onnx.NodeProto) -> None:
    lower_binary(lowering, node, "sub", _difference)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return torch_binary(graph, node, dtype, _difference)


def _variant(graph: Graph, node: onnx.NodeProto) -> Rule:
    return variant_of(_RULE, graph, node)


_RULE = Rule(
    _subtract,
    _torch,
    reach_by_corners(_difference),
    clamped=True,
    maps=True,
    any_size=True,
    variant=_variant,
    check=check_operands,
    example=example_of,
    tflite=TfliteForm("SUB", ("sub", "Sub"), "SubOptions", ("FusedActivationFunction",)),
)
register(_RULE, "Sub")
