"""Equalization of a network: where it pays, and once more for the bits that were chosen."""

from collections.abc import Sequence
from dataclasses import replace

from tapc.frontend import FloatModel
from tapc.network import WEIGHT_BITS, Bits
from tapc.quantize import Calibration, balanced, calibrate, equalize
from tapc.quantize.runtime import Float

_SAMPLES = 128


def balance(model: FloatModel, x: Float, seed: int, wbits: Sequence[int] = WEIGHT_BITS) -> FloatModel:
    """Equalize a network for the middle of the weight bits on offer, where equalization pays.

    Parameters
    ----------
    model : FloatModel
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    seed : int
    wbits : sequence of int
    """
    if not balanced(model.onnx, x[:_SAMPLES], seed):
        return model
    middle = sorted(wbits)[len(wbits) // 2]
    return replace(model, onnx=equalize(model.onnx, x[:_SAMPLES], middle).onnx, equalized=True)


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
