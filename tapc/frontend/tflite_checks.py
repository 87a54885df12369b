"""Kinds of TFLite networks that tapc does not compile, recognized before anything is converted."""

from collections.abc import Iterator
from typing import Any

import tflite

from tapc.base.errors import UnsupportedError

_RECURRENT = ("LSTM", "RNN")
_CALLS: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "CALL_ONCE": (tflite.CallOnceOptions, ("InitSubgraphIndex",)),
    "WHILE": (tflite.WhileOptions, ("CondSubgraphIndex", "BodySubgraphIndex")),
}
_INTEGERS = ("INT16", "INT4", "type 17")
_SHORT = (
    "QUANTIZE", "DEQUANTIZE", "SOFTMAX", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "CONV_2D", "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED", "ADD", "MUL", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "RELU", "RELU6", "LOGISTIC", "TANH",
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD", "CONCATENATION", "SUB", "STRIDED_SLICE", "SLICE",
    "TRANSPOSE", "LEAKY_RELU", "TRANSPOSE_CONV",
)  # fmt: skip
"""Operators that may read or write activations of 16 bits."""


def check_kind(model: Any, where: str, operators: dict[int, str], types: dict[int, str]) -> None:
    """Refuse networks that are quantized, or recurrent, with every reason.

    Parameters
    ----------
    model : tflite.Model
    where : str
        The file, for errors.
    operators, types : dict of int to str
        Names of operator codes and tensor types.

    Raises
    ------
    UnsupportedError
        Such a network, or one of several graphs.
    """
    kinds = list(_kinds(model, operators))
    reasons = []
    if (flex := next((kind for kind in kinds if kind.startswith("Flex")), None)) is not None:
        hint = "; loops need a fixed batch and length, keras.Input(shape=(steps, features), batch_size=1)"
        raise UnsupportedError(
            f"{where}: operator {flex} runs in TensorFlow alone, not on microcontrollers; convert the model without "
            "tf.lite.OpsSet.SELECT_TF_OPS and `converter._experimental_lower_tensor_list_ops = False`"
            + (hint if "TensorList" in flex else "")
        )
    if (layer := next((kind for kind in kinds if kind in _RECURRENT), None)) is not None:
        reasons.append(f"a recurrent layer ({layer}) is not supported")
    if (tensor := _quantized(model, operators, types)) is not None:
        reasons.append(
            f"{tensor}: activations of 16 or 4 bits are not supported there; pass the float32 or int8 network"
        )
    several = model.SubgraphsLength() - len(_called(model, operators)) != 1
    if reasons or several:
        reasons += [] if reasons else [f"{model.SubgraphsLength()} subgraphs; only one is supported"]
        raise UnsupportedError("; ".join([f"{where}: {reasons[0]}", *reasons[1:], *_invalid(model.Subgraphs(0))]))


def _kinds(model: Any, operators: dict[int, str]) -> Iterator[str]:
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        for i in range(graph.OperatorsLength()):
            code = model.OperatorCodes(graph.Operators(i).OpcodeIndex())
            kind = operators.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "")
            yield kind if kind != "CUSTOM" else (code.CustomCode() or b"").decode(errors="replace")


def _called(model: Any, operators: dict[int, str]) -> set[int]:
    """Return the graphs that operators of others run: what initializes variables, and loops."""
    found = set()
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        for op in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            code = model.OperatorCodes(op.OpcodeIndex())
            kind = operators.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "")
            table = op.BuiltinOptions()
            if kind not in _CALLS or table is None:
                continue
            options, fields = _CALLS[kind]
            view = options()
            view.Init(table.Bytes, table.Pos)
            found |= {int(getattr(view, own)()) for own in fields}
    return found - {0}


def _quantized(model: Any, operators: dict[int, str], types: dict[int, str]) -> str | None:
    """Return an activation of 16 or 4 bits that an operator reads or writes which takes no such integers."""
    graph, found = model.Subgraphs(0), []
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        code = model.OperatorCodes(op.OpcodeIndex())
        name = operators.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "")
        found += [(name, op.Outputs(j)) for j in range(op.OutputsLength())]
        found += [(name, op.Inputs(j)) for j in range(min(op.InputsLength(), 1))]
    for name, index in found:
        tensor = graph.Tensors(index) if 0 <= index < graph.TensorsLength() else None
        scale = None if tensor is None else tensor.Quantization()
        kind = None if tensor is None else types.get(tensor.Type(), f"type {tensor.Type()}")
        if tensor is None or scale is None or not scale.ScaleLength():
            continue
        if kind in _INTEGERS and (kind != "INT16" or name not in _SHORT):
            return f"tensor {(tensor.Name() or b'').decode()!r} of a {name} is {kind}"
    return None


def _invalid(graph: Any) -> list[str]:
    """Return what is wrong with the scales of the first tensor where something is."""
    for index in range(graph.TensorsLength()):
        if (fault := invalid_scales(graph.Tensors(index))) is not None:
            return [f"besides, {fault}"]
    return []


def invalid_scales(tensor: Any) -> str | None:
    """Return why a tensor's scales cannot be along its quantized_dimension, or None."""
    quantization, shape = tensor.Quantization(), tensor.ShapeAsNumpy()
    if quantization is None or quantization.ScaleLength() < 2:
        return None
    rank, axis = (0 if isinstance(shape, int) else len(shape)), quantization.QuantizedDimension()
    name = (tensor.Name() or b"").decode()
    if rank == 1:  # a bias may repeat the axis of its weights
        axis = 0
    if not 0 <= axis < rank:
        return f"tensor {name!r} has quantized_dimension {axis}, but {rank} dimensions"
    if shape[axis] != quantization.ScaleLength():
        return (
            f"tensor {name!r} has {quantization.ScaleLength()} scales, but {shape[axis]} channels along its "
            f"quantized_dimension {axis}"
        )
    return None
