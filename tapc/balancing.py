"""Equalization of a network: for the bits on offer, and once more for those that were chosen."""

from collections.abc import Sequence
from dataclasses import replace

from tapc.frontend import FloatModel
from tapc.network import WEIGHT_BITS, Bits
from tapc.quantize import Calibration, calibrate, equalize
from tapc.quantize.runtime import Float

_SAMPLES = 128


def balance(model: FloatModel, x: Float, wbits: Sequence[int] = WEIGHT_BITS) -> FloatModel:
    """Equalize a network for the middle of the weight bits on offer; itself where no channel may be multiplied.

    Parameters
    ----------
    model : FloatModel
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    wbits : sequence of int
    """
    found = equalize(model.onnx, x[:_SAMPLES], sorted(wbits)[len(wbits) // 2])
    return replace(model, onnx=found.onnx, equalized=True) if found.factors else model


def suited(
    model: FloatModel, calibration: Calibration, x: Float, bits: Bits, seed: int
) -> tuple[FloatModel, Calibration]:
    """Equalize an equalized network for the weight bits that it gets; return it and its calibration.

    Parameters
    ----------
    model : FloatModel
        One that is not equalized is returned as it is.
    calibration : Calibration
        The model's own.
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    bits : Bits
    seed : int
        Of the calibration.
    """
    if not model.equalized:
        return model, calibration
    changed = replace(model, onnx=equalize(model.onnx, x[:_SAMPLES], bits.weights).onnx)
    return changed, calibrate(changed, x, seed=seed)
