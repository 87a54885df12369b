"""TFLite-Micro, where it is installed: what a file's outputs are, told by others."""

import importlib.util
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MODULE = "tflite_micro"


def installed() -> bool:
    """Whether it can be asked."""
    return importlib.util.find_spec(_MODULE) is not None


def outputs(blob: bytes, inputs: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """Run a file.

    Parameters
    ----------
    blob : bytes
    inputs : sequence of ndarray, shape (N, H, W, C)
        Codes of each input.
    count : int
        Of outputs.

    Returns
    -------
    ndarray of int64, shape (N, values)
        Codes of all outputs.
    """
    from tflite_micro.python.tflite_micro import runtime

    interpreter, found = runtime.Interpreter.from_bytes(blob, arena_size=1 << 24), []
    for sample in range(len(inputs[0])):
        for i, part in enumerate(inputs):
            interpreter.set_input(part[sample : sample + 1].astype(np.int8), i)
        interpreter.invoke()
        found.append(np.concatenate([np.array(interpreter.get_output(i)).ravel() for i in range(count)]))
    return np.stack(found).astype(np.int64)
