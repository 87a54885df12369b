"""Difference of two tensors, of which one may be broadcast along any axis or constant."""

import operator

from tapc.graph.rules import TfliteForm
from tapc.operators.binary import register_binary

register_binary(
    "Sub", "sub", operator.sub, TfliteForm("SUB", ("sub", "Sub"), "SubOptions", ("FusedActivationFunction",))
)
