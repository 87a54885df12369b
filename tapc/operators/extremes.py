"""Minimum and maximum of two tensors, of which one may be broadcast along any axis or constant."""

import numpy as np

from tapc.graph.rules import TfliteForm
from tapc.operators.binary import register_binary

register_binary("Min", "min", np.minimum, TfliteForm("MINIMUM", ("Minimum",)), "minimum")
register_binary("Max", "max", np.maximum, TfliteForm("MAXIMUM", ("Maximum",)), "maximum")
