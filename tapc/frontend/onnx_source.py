"""ONNX files: read, check, fix the batch."""

from pathlib import Path

import onnx
from onnx import TensorProto, checker

from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.boundary import check_elements, check_file, first_line, printable
from tapc.frontend.model import Imported
from tapc.frontend.onnx_checks import check_kind, check_sizes
from tapc.frontend.verify import onnx_runner


def read_onnx(path: Path, input_shape: tuple[int, ...] | None) -> Imported:
    """Read an ONNX file with one image or vector input.

    Parameters
    ----------
    path : pathlib.Path
        The file; external data is looked up beside it.
    input_shape : tuple of int or None
        Shape that fixes the input's dynamic dimensions; needed only where one besides the batch is dynamic.

    Raises
    ------
    DataError
        Missing or corrupt file.
    UnsupportedError
        Dynamic dimension besides the batch, or a batch that is fixed to another value than 1.
    """
    check_file(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except Exception as error:
        raise DataError(f"{path}: not a valid ONNX model: {first_line(error)}") from error
    check_sizes(model)
    check_kind(model)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        checker.check_model(model)
    except Exception as error:
        raise DataError(f"{path}: not a valid ONNX model: {first_line(error)}") from error
    name = fix_input(model, input_shape)
    return Imported(
        printable(path.stem), model, onnx_runner(model, name), f"onnx file {path}, checked against onnxruntime"
    )


def fix_input(model: onnx.ModelProto, input_shape: tuple[int, ...] | None) -> str:
    """Fix the batch of the model's input to 1, in place; return the input's name.

    Raises
    ------
    UnsupportedError
        See `read_onnx`; also where the model has another number of inputs than one.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise UnsupportedError(
            f"the network has inputs {[value.name for value in inputs]}; tapc compiles one input to one output"
        )
    value = inputs[0]
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        raise UnsupportedError(f"input {value.name!r} is {_kind(tensor.elem_type)}")
    dims = tensor.shape.dim
    if input_shape is not None and len(input_shape) != len(dims):
        raise UnsupportedError(
            f"input {value.name!r} has {len(dims)} dimensions, the given shape {input_shape} does not"
        )
    for axis, dim in enumerate(dims):
        given = input_shape[axis] if input_shape is not None else None
        if dim.HasField("dim_value") and dim.dim_value > 0:
            fixed = dim.dim_value
            if given is not None and axis > 0 and given != fixed:
                raise UnsupportedError(
                    f"input {value.name!r}: dimension {axis} is {fixed}, the given shape says {given}"
                )
        elif axis == 0:
            fixed = 1
        elif given is not None:
            fixed = given
        else:
            raise UnsupportedError(
                f"input {value.name!r}: dimension {axis} ({dim.dim_param or 'unnamed'}) is dynamic; "
                "export the model with a fixed shape, or give the input shape"
            )
        if axis == 0 and fixed != 1:
            raise UnsupportedError(
                f"input {value.name!r}: the batch is fixed to {fixed}; export the model with batch 1"
            )
        dim.dim_value = fixed
    check_elements(value.name, [dim.dim_value for dim in dims])
    return str(value.name)


def _kind(element: int) -> str:
    known = element in TensorProto.DataType.values()
    name = TensorProto.DataType.Name(element) if known else f"of an unknown type ({element})"
    if name in ("INT32", "INT64"):
        return f"{name}: inputs of tokens or indices are not supported, only float32 pictures and vectors"
    if name in ("INT8", "UINT8", "INT16", "UINT16"):
        return f"{name}: the network is quantized; pass the float32 network, tapc quantizes it itself"
    return f"{name}; pass the network with a float32 input"
