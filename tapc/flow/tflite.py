"""The network as an int8 TFLite file, beside the ONNX, and what an interpreter of it needs."""

from pathlib import Path

import onnx

from tapc.base.errors import DataError, UnsupportedError
from tapc.base.files import read_regular, reading
from tapc.ir.tflite_header import header_of
from tapc.npu.tables import network_of

FILE = "model.tflite"
_MOST_FILE = 256 << 20


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


def operators_of(folder: Path) -> str:
    """Return a C++ header that registers with TFLite-Micro the operators of a folder's model.tflite, and no others."""
    path = folder / FILE
    if not path.is_file():
        raise DataError(
            f"{folder} holds no {FILE}: `without_tflite` in a build's report.json says why; `tapc compile` makes builds"
        )
    blob = read_regular(path, _MOST_FILE, "network")
    with reading(f"network {path}"):
        return header_of(blob, FILE)
