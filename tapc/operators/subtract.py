"""Difference of two tensors, of which one may be broadcast along any axis or constant."""

import operator

import onnx

from tapc.graph.rules import TfliteForm
from tapc.ir.lowering import Lowering
from tapc.operators.binary import lower_binary, register_binary


def _subtract(lowering: Lowering, node: onnx.NodeProto) -> None:
    lower_binary(lowering, node, "sub", operator.sub)


_FORM = TfliteForm("SUB", ("sub", "Sub"), "SubOptions", ("FusedActivationFunction",))
register_binary("Sub", _subtract, operator.sub, _FORM, wide=True)
