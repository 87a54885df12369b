"""TFLite graph -> ONNX graph with the same meaning: tensors keep their shapes, operators that ONNX has in another
layout stand between transposes.
"""

import onnx

import tapc.frontend.tflite_moves
import tapc.frontend.tflite_operators
import tapc.frontend.tflite_recurrent
import tapc.frontend.tflite_sequences  # noqa: F401
from tapc.frontend.tflite_converter import Converter
from tapc.frontend.tflite_given import Collector
from tapc.frontend.tflite_reader import TfliteGraph
from tapc.graph.state import States


def convert(graph: TfliteGraph, name: str, given: Collector | None = None) -> onnx.ModelProto:
    """Convert a float TFLite graph.

    Parameters
    ----------
    graph : TfliteGraph
        Parsed file.
    name : str
        Name of the ONNX graph.
    given : Collector, optional
        Takes what a quantized network brings along; its tensors get marks.

    Returns
    -------
    onnx.ModelProto
        Opset 21; tensors have the shapes, (N, H, W, C) where they are maps, and the names that they have in the file.

    Raises
    ------
    UnsupportedError
        An operator or attribute that tapc does not lower.
    DataError
        NaN or infinite weights.
    """
    return converted(graph, name, given)[0]


def converted(graph: TfliteGraph, name: str, given: Collector | None = None) -> tuple[onnx.ModelProto, States]:
    """Convert a graph as `convert` does; return what it keeps between calls, too."""
    converter = Converter(graph, given or Collector({}))
    return converter.convert(name), converter.states
