"""A layer in a TFLite file: the weights in int8, whatever their bits."""

import numpy as np

from tapc.ir.tflite import TfliteFile, write
from tapc.operators.weighted.layer import Weighted


@write.register
def _write(op: Weighted, file: TfliteFile) -> None:
    """Write a convolution or a depthwise one; dense layers are convolutions.

    Vela multiplies the scales of a FULLY_CONNECTED in float32, TFLite-Micro those of a convolution in float64, as vela
    does there: about one code in 60,000 was another.
    """
    x, (outputs, *kernel) = file.program.tensors[op.inputs[0]], op.weights.shape[:3]
    scales = np.broadcast_to(file.weight_scales(op.name), (outputs,))
    clamp = file.clamped(op.output, op.low, op.high)
    read = file.window(op.inputs[0], (kernel[0], kernel[1]), op.stride, op.pads, op.dilation, pad=x.zero)
    assert read is not None
    bias = file.constant(op.bias, (np.float32(x.scale) * scales).astype(np.float32))
    window = {
        "padding": read[1], "strideH": op.stride[0], "strideW": op.stride[1], "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1], "fusedActivationFunction": clamp.activation,
    }  # fmt: skip
    if op.depthwise(x.shape[2]):
        weights = file.constant(np.ascontiguousarray(op.weights.transpose(3, 1, 2, 0)), scales, 3)
        window["depthMultiplier"] = outputs // x.shape[2]
        table = "DepthwiseConv2DOptions"
        file.node("DEPTHWISE_CONV_2D", [read[0], weights, bias], clamp.output, table, 3, **window)
    else:
        weights = file.constant(op.weights, scales)
        file.node("CONV_2D", [read[0], weights, bias], clamp.output, "Conv2DOptions", 3, **window)
    file.finish(clamp)
