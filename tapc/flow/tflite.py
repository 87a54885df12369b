"""The network as an int8 TFLite file, beside the ONNX."""

from pathlib import Path

import onnx

from tapc.base.errors import UnsupportedError
from tapc.npu.tables import network_of

FILE = "model.tflite"


def write_tflite(model: onnx.ModelProto, name: str, folder: Path) -> str:
    """Write model.tflite; it computes what the network does in the arithmetic `tflite`.

    Returns
    -------
    str
        Why there is none; empty where it is written.
    """
    try:
        _, network = network_of(model, name)
    except UnsupportedError as error:
        return str(error)
    (folder / FILE).write_bytes(network.blob)
    return ""
