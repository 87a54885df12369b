"""Minimum and maximum of two tensors, of which one may be broadcast along any axis or constant."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
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

_OPERATIONS: dict[str, Literal["min", "max"]] = {"Min": "min", "Max": "max"}


def _lower(lowering: Lowering, node: onnx.NodeProto) -> None:
    operation = _OPERATIONS[node.op_type]
    lower_binary(lowering, node, operation, np.minimum if operation == "min" else np.maximum)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    function = torch.minimum if _OPERATIONS[node.op_type] == "min" else torch.maximum
    return torch_binary(graph, node, dtype, function)


def _variant(graph: Graph, node: onnx.NodeProto) -> Rule:
    return variant_of(_RULES[node.op_type], graph, node)


_MIN = Rule(
    _lower,
    _torch,
    reach_by_corners(np.minimum),
    clamped=True,
    maps=True,
    any_size=True,
    variant=_variant,
    check=check_operands,
    example=example_of,
    tflite=TfliteForm("MINIMUM", ("Minimum",)),
)
_MAX = replace(_MIN, reach=reach_by_corners(np.maximum), tflite=TfliteForm("MAXIMUM", ("Maximum",)))
_RULES = {"Min": _MIN, "Max": _MAX}
for _name, _rule in _RULES.items():
    register(_rule, _name)
