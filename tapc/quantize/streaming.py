"""The quantized network of one step: scales, integers and bits are those of the whole one."""

from dataclasses import replace

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.given import Given
from tapc.graph.streaming import Streaming
from tapc.quantize.export import export_qdq
from tapc.quantize.model import QuantizedModel


def quantized_step(quantized: QuantizedModel, step: Streaming, given: Given | None) -> QuantizedModel:
    """Return a quantized network as one step of it.

    Parameters
    ----------
    quantized : QuantizedModel
        Of the whole network.
    step : Streaming
        Made of its float graph.
    given : Given or None
        What a quantized source brought along.
    """
    parameters = dict(quantized.activations)
    for name in step.alike:
        source = name
        while source not in quantized.activations:
            if source not in step.alike:
                raise UnsupportedError(f"--stream: tensor {name!r} is kept between steps, but it is not quantized")
            source = step.alike[source]
        parameters[name] = quantized.activations[source]
    owners, constants = {name: name for name in parameters}, () if given is None else given.constants
    return replace(quantized, onnx=export_qdq(Graph(step.onnx), quantized.layers, parameters, owners, constants))
