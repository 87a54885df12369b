"""ONNX files: read, check, fix the batch."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, checker

from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.boundary import check_elements, check_file, first_line, printable
from tapc.frontend.given import without_marks
from tapc.frontend.model import Imported
from tapc.frontend.onnx_checks import OLDEST_OPSET, check_kind, check_sizes, default_opset, time_major
from tapc.frontend.onnx_constants import hold_constants
from tapc.frontend.onnx_detector import without_suppression
from tapc.frontend.onnx_spellings import modern
from tapc.frontend.quantized_onnx import is_quantized, real_graph
from tapc.frontend.verify import onnx_runner
from tapc.graph.state import State, paired

_TYPES = (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64)


def read_onnx(
    path: Path,
    input_shape: tuple[int, ...] | None,
    pairs: dict[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Imported:
    """Read an ONNX file.

    Parameters
    ----------
    path : pathlib.Path
        The file; external data is looked up beside it.
    input_shape : tuple of int or None
        Shape that fixes the one input's dynamic dimensions; needed only where one besides the batch is dynamic.
    pairs : dict of str to str, optional
        Input -> the output that it is in the next call.
    constants : mapping of str to float, optional
        Input -> what it always holds.

    Raises
    ------
    DataError
        Missing or corrupt file.
    UnsupportedError
        Dynamic dimension besides the batch, or a batch that is fixed to another value than 1 in more than the inputs.
    """
    check_file(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except Exception as error:
        raise DataError(f"{path}: not a valid ONNX model: {first_line(error)}") from error
    check_sizes(model)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise DataError(f"{path}: not a valid ONNX model: {first_line(error)}") from error
    pairs = pairs or {}
    model, detector, told = without_suppression(model, constants or {})
    if pairs:
        paired(model, pairs)
    whole = None
    if any(node.op_type == "If" for node in model.graph.node):
        whole = onnx.ModelProto()
        whole.CopyFrom(model)
    held = hold_constants(model, constants or {})
    if is_quantized(model):
        kept = _quantized(path, model, input_shape, pairs)
        return replace(kept, provenance=kept.provenance + told, detector=detector)
    opset, own = default_opset(model), model
    model = modern(model)
    check_kind(model)
    try:
        checker.check_model(model)
    except Exception as error:
        raise DataError(f"{path}: not a valid ONNX model: {first_line(error)}") from error
    given = onnx.ModelProto()
    given.CopyFrom(model if opset is not None and opset < OLDEST_OPSET else own)  # onnxruntime runs no older ones
    if model is own:
        model = onnx.ModelProto()
        model.CopyFrom(own)
    fix_inputs(model, input_shape, pairs)
    batch = _batch(given, pairs)
    if batch > 1 and pairs:
        raise UnsupportedError(f"{path}: the batch is {batch}; a network with states is exported with batch 1")
    if batch == 1:
        fix_inputs(given, input_shape, pairs)
        batch = _batch(given, pairs)  # or the steps of a sequence
    run = onnx_runner(given, batch, held, whole)  # what the file says is what is compared with
    states = tuple(State(*pair) for pair in pairs.items())
    origin = f"onnx file {path}, checked against onnxruntime{told}"
    return Imported(printable(path.stem), model, run, origin, states=states, detector=detector)


def _quantized(
    path: Path, model: onnx.ModelProto, input_shape: tuple[int, ...] | None, pairs: dict[str, str]
) -> Imported:
    """Read a quantized network as its real values and what it gives."""
    check_kind(model, quantized=True)
    real, given = real_graph(model)
    real = modern(real)
    fix_inputs(real, input_shape, pairs)
    origin = f"onnx file {path}, {given.kind}; its real values checked against onnxruntime"
    kept = tuple(State(*pair) for pair in pairs.items())
    return Imported(printable(path.stem), real, onnx_runner(without_marks(real)), origin, given=given, states=kept)


def _batch(model: onnx.ModelProto, states: Collection[str]) -> int:
    """Return the batch that the inputs say, 1 where it is free."""
    constants = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in constants]
    others = {*states, *(time_major(model) if len(values) > 1 else ())}
    dims = [value.type.tensor_type.shape.dim for value in values if value.name not in others]
    return max([own[0].dim_value for own in dims if own and own[0].dim_value > 0], default=1)


def fix_inputs(model: onnx.ModelProto, input_shape: tuple[int, ...] | None, states: Collection[str] = ()) -> None:
    """Fix the batch of the model's inputs to 1, in place; one that is fixed to another value is set to 1.

    Parameters
    ----------
    model : onnx.ModelProto
    input_shape : tuple of int or None
        Of the one input.
    states : collection of str
        Inputs that are states: any of their dimensions may be the batch.

    Raises
    ------
    UnsupportedError
        See `read_onnx`.
    """
    others = {*(tensor.name for tensor in model.graph.initializer), *states}
    inputs = [value for value in model.graph.input if value.name not in others]
    for value in model.graph.input:
        if value.name in states:
            _fix_state(value)
    if input_shape is not None and len(inputs) != 1:
        names = [value.name for value in inputs]
        raise UnsupportedError(
            f"the network has inputs {names}, and an input shape is for one; export the model with fixed shapes"
        )
    batches, timed = set(), time_major(model)
    for value in inputs:
        if value.type.tensor_type.elem_type not in _TYPES:
            raise UnsupportedError(f"input {value.name!r} is {_kind(value.type.tensor_type.elem_type)}")
        batches.add(_fix(value, input_shape, time_major=value.name in timed))
    if batches > {1}:
        raise UnsupportedError(
            f"the first dimensions of the inputs are {sorted(batches)}: that of some is no batch; export the model "
            "with batch 1"
        )
    if batches != {1}:
        _rebatch(model, max(batches))


def _fix_state(value: onnx.ValueInfoProto) -> None:
    """Fix the dynamic dimensions of a state to 1."""
    if value.type.tensor_type.elem_type not in _TYPES:
        raise UnsupportedError(f"input {value.name!r} is {_kind(value.type.tensor_type.elem_type)}")
    dims = value.type.tensor_type.shape.dim
    for dim in dims:
        dim.dim_value = dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else 1
    check_elements(value.name, [dim.dim_value for dim in dims])


def _fix(value: onnx.ValueInfoProto, input_shape: tuple[int, ...] | None, *, time_major: bool) -> int:
    """Fix an input's shape, with batch 1; return the batch that it had, 1 where that was free."""
    dims = value.type.tensor_type.shape.dim
    if input_shape is not None and len(input_shape) != len(dims):
        raise UnsupportedError(
            f"input {value.name!r} has {len(dims)} dimensions, the given shape {input_shape} does not"
        )
    batch = 1
    for axis, dim in enumerate(dims):
        given = input_shape[axis] if input_shape is not None else None
        if dim.HasField("dim_value") and dim.dim_value > 0:
            fixed = dim.dim_value
            if given is not None and (axis > 0 or time_major) and given != fixed:
                raise UnsupportedError(
                    f"input {value.name!r}: dimension {axis} is {fixed}, the given shape says {given}"
                )
        elif axis == (1 if time_major else 0):
            fixed = 1
        elif given is not None:
            fixed = given
        else:
            raise UnsupportedError(
                f"input {value.name!r}: dimension {axis} ({dim.dim_param or 'unnamed'}) is dynamic; "
                "export the model with a fixed shape, or give the input shape"
            )
        if axis == 0 and not time_major:
            batch, fixed = fixed, 1
        dim.dim_value = fixed
    check_elements(value.name, [dim.dim_value for dim in dims])
    return batch


def _rebatch(model: onnx.ModelProto, batch: int) -> None:
    """Refuse what says the batch once more, as constants of Reshape nodes do; forget what was inferred with it."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
    for node in model.graph.node:
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and onnx.numpy_helper.to_array(shape).reshape(-1)[:1] == batch:
            raise UnsupportedError(
                f"the batch is fixed to {batch}, also in the shape of node {node.name or node.output[0]!r} (Reshape); "
                "export the model with batch 1"
            )
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _kind(element: int) -> str:
    known = element in TensorProto.DataType.values()
    name = TensorProto.DataType.Name(element) if known else f"of an unknown type ({element})"
    if name in ("INT8", "UINT8", "INT16", "UINT16"):
        return f"{name}: the network is quantized; pass the float32 network, tapc quantizes it itself"
    return f"{name}; pass the network with float32 inputs"
