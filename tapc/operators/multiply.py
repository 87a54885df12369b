"""Product of two tensors, of which one may be broadcast along any axis or constant."""

import operator

from tapc.graph.rules import TfliteForm
from tapc.operators.binary import register_binary

_FORM = TfliteForm("MUL", ("mul", "Mul", "multiply"), "MulOptions", ("FusedActivationFunction",))
register_binary("Mul", "mul", operator.mul, _FORM)
