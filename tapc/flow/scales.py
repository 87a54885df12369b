"""Scales of weights at which kernels have less to do, by some units in the last place beside those that were found."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from tapc.base.arithmetic import smm
from tapc.hardware.target import Target
from tapc.lower.from_onnx import program_from_onnx
from tapc.quantize import QuantizedModel
from tapc.quantize.keep import KEPT


def with_easier_scales(quantized: QuantizedModel, target: Target) -> QuantizedModel:
    """Return the network with weight scales that the core's kernels like better; the codes of the weights stay.

    What is kept as it came is left alone. The ONNX has the same scales as the firmware.
    """
    if set(quantized.rounding.values()) == {KEPT} or not smm.available(target.requantize, target.isa):
        return quantized
    program = program_from_onnx(quantized.onnx, "network", target.requantize, target.isa)
    model = onnx.ModelProto()
    model.CopyFrom(quantized.onnx)
    layers, changed = dict(quantized.layers), {}
    nodes = {node.name: node for node in model.graph.node}
    sources = {node.output[0]: node for node in model.graph.node}
    for op in program.ops:
        if op.name not in layers:
            continue
        layer = layers[op.name]
        scales = op.easier_scales(program, layer.weights.scales)
        if scales is None:
            continue
        units = scales * np.float32(program.tensors[op.inputs[0]].scale)
        weights = replace(layer.weights, scales=scales)
        layers[op.name] = replace(layer, weights=weights, bias_scales=units.astype(np.float32))
        for name, values in zip(nodes[op.name].input[1:3], (scales, layers[op.name].bias_scales), strict=True):
            changed[sources[name].input[1]] = values
    if not changed:
        return quantized
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return replace(quantized, onnx=model, layers=layers)
