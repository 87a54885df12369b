"""What an error of a network's outputs costs: relative to what they do, summed over the outputs."""

import numpy as np

from tapc.base.ports import Ports, split
from tapc.quantize.runtime import Float


class OutputLoss:
    """Squared errors of outputs, each over its own variance.

    Parameters
    ----------
    ports : tuple of Port
        The network's outputs.
    exact : float32 (N, ...)
        What the float network gives; rows (N, values) where there are several outputs.
    """

    def __init__(self, ports: Ports, exact: Float) -> None:
        self._ports, self._exact = ports, split(ports, exact)
        self._powers = {
            name: float(np.square(value - value.mean(axis=0)).sum(dtype=np.float64)) or 1.0
            for name, value in self._exact.items()
        }

    def __call__(self, found: Float) -> float:
        """Return the error of outputs of the same shape."""
        return sum(
            float(np.square(value - self._exact[name]).sum(dtype=np.float64)) / self._powers[name]
            for name, value in split(self._ports, found).items()
        )
