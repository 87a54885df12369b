"""What derivative-based proxies read: curvature of the network's own predictive distribution, layer by layer."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Derivatives(Protocol):
    """Second derivatives with respect to each layer's weights, the other layers held fixed.

    No labels are needed: the loss is the divergence from what the float network itself predicts. Every value is the
    mean over the samples. Implemented by `tapc.quantize.derivatives.NetworkDerivatives`.
    """

    def fisher(self) -> Mapping[str, NDArray[np.float64]]:
        """Return layer name -> diagonal of the Fisher information, in the shape of the weights; not negative."""

    def top_eigenvalue(self) -> Mapping[str, float]:
        """Return layer name -> largest eigenvalue of the layer's block of the Hessian; not negative."""

    def trace(self) -> Mapping[str, float]:
        """Return layer name -> trace of the layer's block of the Hessian; not negative."""
