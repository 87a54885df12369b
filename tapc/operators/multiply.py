"""Product of two tensors, of which one may be broadcast along any axis or constant."""

import operator

import onnx

from tapc.graph.rules import TfliteForm
from tapc.ir.lowering import Lowering
from tapc.operators.binary import lower_binary, register_binary


def _multiply(lowering: Lowering, node: onnx.NodeProto) -> None:
    lower_binary(lowering, node, "mul", operator.mul)


_FORM = TfliteForm("MUL", ("mul", "Mul", "multiply"), "MulOptions", ("FusedActivationFunction",))
register_binary("Mul", _multiply, operator.mul, _FORM, wide=True)
