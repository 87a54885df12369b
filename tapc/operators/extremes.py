"""Minimum and maximum of two tensors, of which one may be broadcast along any axis or constant."""

import numpy as np
import onnx

from tapc.graph.rules import TfliteForm
from tapc.ir.lowering import Lowering
from tapc.operators.binary import lower_binary, register_binary


def _minimum(lowering: Lowering, node: onnx.NodeProto) -> None:
    lower_binary(lowering, node, "min", np.minimum)


def _maximum(lowering: Lowering, node: onnx.NodeProto) -> None:
    lower_binary(lowering, node, "max", np.maximum)


register_binary("Min", _minimum, np.minimum, TfliteForm("MINIMUM", ("Minimum",)), "minimum")
register_binary("Max", _maximum, np.maximum, TfliteForm("MAXIMUM", ("Maximum",)), "maximum")
