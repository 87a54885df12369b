"""The network as an int8 TFLite file, beside the ONNX."""

from pathlib import Path

import onnx

from tapc.base.errors import UnsupportedError
from tapc.ir.lowering import QdqGraph
from tapc.ir.tflite import tflite_of
from tapc.lower.from_onnx import program_from_onnx

FILE = "model.tflite"
_ARITHMETIC = "tflite"
_DESCRIPTION = "tapc"


def write_tflite(model: onnx.ModelProto, name: str, folder: Path) -> str:
    """Write model.tflite; it computes what the network does in the arithmetic `tflite`.

    Returns
    -------
    str
        Why there is none; empty where it is written.
    """
    try:
        # The instruction set chooses kernels, and no integers.
        program = program_from_onnx(model, name, _ARITHMETIC, "scalar")
        network = tflite_of(program, QdqGraph(model), _DESCRIPTION)
    except UnsupportedError as error:
        return str(error)
    (folder / FILE).write_bytes(network.blob)
    return ""
