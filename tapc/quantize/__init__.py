"""Post-training quantization: calibrate, choose scales, round, correct biases, export mixed-precision QDQ ONNX."""

from tapc.quantize.activations import (
    ActivationParameters,
    activation_parameters,
    dequantize_array,
    fake_quantize,
    quantize_array,
)
from tapc.quantize.calibration import Calibration, HasGraph, TensorStatistics, calibrate
from tapc.quantize.distortion import layer_distortion
from tapc.quantize.equalize import Equalized, equalize
from tapc.quantize.model import QuantizedModel, quantize, uniform_bits, validate_bits
from tapc.quantize.rounding import Rounding, check_rounding, register_rounding, rounding_method
from tapc.quantize.runtime import evaluate, top1
from tapc.quantize.weights import QuantizedLayer, QuantizedWeights, quantize_weights, weight_distortion

__all__ = [
    "ActivationParameters",
    "Calibration",
    "Equalized",
    "HasGraph",
    "QuantizedLayer",
    "QuantizedModel",
    "QuantizedWeights",
    "Rounding",
    "TensorStatistics",
    "activation_parameters",
    "calibrate",
    "check_rounding",
    "dequantize_array",
    "equalize",
    "evaluate",
    "fake_quantize",
    "layer_distortion",
    "quantize",
    "quantize_array",
    "quantize_weights",
    "register_rounding",
    "rounding_method",
    "top1",
    "uniform_bits",
    "validate_bits",
    "weight_distortion",
]
