"""Fisher information and Hessian of every layer's weights, computed when a proxy asks for them."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.base.progress import Advance
from tapc.graph.analysis import Graph
from tapc.quantize.runtime import Float

if TYPE_CHECKING:
    from tapc.quantize.curvature import Curvature

SAMPLES = 16


class NetworkDerivatives:
    """The `tapc.proxy.derivatives.Derivatives` of a canonical float network.

    Nothing is computed, and torch is not imported, before the first method is called; results are kept.

    Parameters
    ----------
    model : onnx.ModelProto
        Canonical float ONNX.
    x : float32 (N, *input_shape[1:])
        Calibration samples; the first 16 are used.
    seed : int
        Of the random probes, where the network has too many outputs for exact results.
    advance : callable, optional
        Told (done, total) while derivatives are computed.

    Raises
    ------
    DataError
        No samples, or samples that are not finite.
    """

    def __init__(self, model: onnx.ModelProto, x: Float, seed: int = 0, advance: Advance | None = None) -> None:
        if len(x) == 0:
            raise DataError("derivatives need at least one sample; give calibration data")
        self._x = np.ascontiguousarray(x[:SAMPLES], np.float32)
        if not np.isfinite(self._x).all():
            raise DataError("the samples hold NaN or infinite values; repair the calibration data")
        self._model, self._seed, self._advance = model, seed, advance

    @cached_property
    def _curvature(self) -> "Curvature":
        from tapc.quantize.curvature import Curvature

        return Curvature(Graph(self._model), self._x, seed=self._seed, advance=self._advance)

    @cached_property
    def _top(self) -> dict[str, float]:
        return self._curvature.top_eigenvalue()

    def fisher(self) -> Mapping[str, NDArray[np.float64]]:
        """Return layer name -> diagonal of the Fisher information, in the shape of the weights."""
        return self._curvature.fisher

    def top_eigenvalue(self) -> Mapping[str, float]:
        """Return layer name -> largest eigenvalue of the layer's Hessian."""
        return self._top

    def trace(self) -> Mapping[str, float]:
        """Return layer name -> trace of the layer's Hessian."""
        return {name: float(diagonal.sum()) for name, diagonal in self._curvature.fisher.items()}
