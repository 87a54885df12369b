"""Whether a network gains from equalization, by trial."""

from dataclasses import dataclass

import numpy as np
import onnx

from tapc.network_analysis import analyse
from tapc.quantize.calibration import calibrate
from tapc.quantize.equalize import equalize
from tapc.quantize.model import quantize, uniform_bits
from tapc.quantize.runtime import Float, evaluate

GAIN = 0.25
_SAMPLES = 128


@dataclass(frozen=True)
class _Model:
    onnx: onnx.ModelProto


def balanced(model: onnx.ModelProto, x: Float, seed: int) -> bool:
    """Return whether equalization pays: whether the output error at 8 bits, nearest rounding, falls by a quarter.

    Parameters
    ----------
    model : onnx.ModelProto
        Canonical float ONNX.
    x : float32 (N, *input_shape[1:])
        Calibration samples; errors are measured on the last of the first 128 and the rest of those serve calibration.
    seed : int
    """
    x = x[:_SAMPLES]
    fit, probe = (x[: -len(x) // 4], x[-len(x) // 4 :]) if len(x) >= 4 else (x, x)
    candidate = equalize(model, x, 8)
    if not candidate.factors:
        return False
    exact = evaluate(model, probe, optimized=True)

    def error(graph: onnx.ModelProto) -> float:
        network = analyse(graph, "trial")
        trial = _Model(graph)
        quantized = quantize(trial, network, uniform_bits(network, 8, 8), calibrate(trial, fit, seed=seed), x=fit)
        return float(np.square(evaluate(quantized.onnx, probe, optimized=quantized.optimizable) - exact).mean())

    return error(candidate.onnx) < (1 - GAIN) * error(model)
