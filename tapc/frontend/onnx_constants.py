"""Inputs of an ONNX network that always hold one value, such as a sampling rate: they become constants."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import UsageError

Arrays = dict[str, NDArray[Any]]


def parsed_constants(texts: Sequence[str]) -> dict[str, float]:
    """Return what texts INPUT=VALUE say.

    Raises
    ------
    UsageError
        No number, or an input that is named twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not name or not np.isfinite(number):
            raise UsageError(f"--constant {text}: give an input and the number that it always holds, INPUT=VALUE")
        if name in found:
            raise UsageError(f"--constant {text}: {name!r} is named twice")
        found[name] = number
    return found


def hold_constants(model: onnx.ModelProto, constants: Mapping[str, float]) -> Arrays:
    """Make inputs constants, in place, and return what they hold; dimensions that are free are 1.

    Raises
    ------
    UsageError
        No such input, or a number that its type does not hold.
    """
    held: Arrays = {}
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in initialized}
    for name, number in constants.items():
        if name not in inputs:
            raise UsageError(f"--constant: the network has no input {name!r}; it has {', '.join(map(repr, inputs))}")
        kind = inputs[name].type.tensor_type
        shape = [dim.dim_value or 1 for dim in kind.shape.dim]
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        except (KeyError, TypeError) as error:
            raise UsageError(f"--constant: input {name!r} holds no numbers") from error
        value = np.full(shape, number).astype(dtype)
        if not np.all(value == number):
            raise UsageError(f"--constant {name}={number:g}: the input holds {dtype}, which has no such number")
        held[name] = value
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        model.graph.input.remove(inputs[name])
    return held
