"""Equalization of a network: for the bits on offer, and once more for those that were chosen."""

from collections.abc import Sequence
from dataclasses import replace

from tapc.flow.fidelity import transformed
from tapc.frontend import FloatModel
from tapc.graph.network import WEIGHT_BITS, Bits
from tapc.quantize import Calibration, calibrate, equalize
from tapc.quantize.runtime import Float

_SAMPLES = 128
_STAGE = "equalization"


def balance(model: FloatModel, x: Float, wbits: Sequence[int] = WEIGHT_BITS) -> FloatModel:
    """Equalize a network for the middle of the weight bits on offer; itself where no channel may be multiplied.

    Parameters
    ----------
    model : FloatModel
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    wbits : sequence of int
    """
    middle = sorted(wbits)[len(wbits) // 2]
    found = equalize(model.onnx, x[:_SAMPLES], middle)
    if not found.factors:
        return model
    return replace(transformed(model, found.onnx, _STAGE, x), equalized_for=middle)


def suited(
    model: FloatModel, calibration: Calibration, x: Float, bits: Bits, seed: int
) -> tuple[FloatModel, Calibration]:
    """Equalize an equalized network for the weight bits that it gets; return it and its calibration.

    Parameters
    ----------
    model : FloatModel
        One that is not equalized, or for these bits already, is returned as it is.
    calibration : Calibration
        The model's own.
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    bits : Bits
    seed : int
        Of the calibration.
    """
    if model.equalized_for is None or set(bits.weights.values()) == {model.equalized_for}:
        return model, calibration
    changed = transformed(model, equalize(model.onnx, x[:_SAMPLES], bits.weights).onnx, _STAGE, x)
    return changed, calibrate(changed, x, seed=seed, pictures=calibration.pictures)
