"""TFLite flatbuffers as plain Python: tensors with float32 constants, operators with their options."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
from flatbuffers import flexbuffers
from numpy.typing import NDArray

from tapc.base.errors import DataError, TapcError, UnsupportedError
from tapc.frontend.boundary import MOST_ELEMENTS, MOST_NODES
from tapc.frontend.tflite_checks import check_kind, invalid_scales
from tapc.frontend.tflite_sparse import dense
from tapc.graph.rules import rules

_TYPES: dict[int, tuple[str, type[np.generic]]] = {
    tflite.TensorType.FLOAT32: ("FLOAT32", np.float32),
    tflite.TensorType.FLOAT16: ("FLOAT16", np.float16),
    tflite.TensorType.FLOAT64: ("FLOAT64", np.float64),
    tflite.TensorType.INT8: ("INT8", np.int8),
    tflite.TensorType.UINT8: ("UINT8", np.uint8),
    tflite.TensorType.INT16: ("INT16", np.int16),
    tflite.TensorType.INT32: ("INT32", np.int32),
    tflite.TensorType.INT64: ("INT64", np.int64),
    tflite.TensorType.BOOL: ("BOOL", np.bool_),
    tflite.TensorType.COMPLEX64: ("COMPLEX64", np.complex64),
}
_WINDOW = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_OPTIONS: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "CONV_2D": (tflite.Conv2DOptions, (*_WINDOW, "DilationHFactor", "DilationWFactor")),
    "DEPTHWISE_CONV_2D": (tflite.DepthwiseConv2DOptions, (*_WINDOW, "DilationHFactor", "DilationWFactor")),
    "AVERAGE_POOL_2D": (tflite.Pool2DOptions, (*_WINDOW, "FilterHeight", "FilterWidth")),
    "MAX_POOL_2D": (tflite.Pool2DOptions, (*_WINDOW, "FilterHeight", "FilterWidth")),
    "TRANSPOSE_CONV": (tflite.TransposeConvOptions, ("Padding", "StrideH", "StrideW", "FusedActivationFunction")),
    "FULLY_CONNECTED": (tflite.FullyConnectedOptions, ("FusedActivationFunction", "WeightsFormat")),
    "ADD": (tflite.AddOptions, ("FusedActivationFunction",)),
    "CONCATENATION": (tflite.ConcatenationOptions, ("FusedActivationFunction", "Axis")),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), (tflite.ReducerOptions, ("KeepDims",))),
    "BATCH_MATMUL": (tflite.BatchMatMulOptions, ("AdjX", "AdjY")),
    "DIV": (tflite.DivOptions, ("FusedActivationFunction",)),
    "PACK": (tflite.PackOptions, ("Axis",)),
    "UNPACK": (tflite.UnpackOptions, ("Axis",)),
    "GATHER": (tflite.GatherOptions, ("Axis", "BatchDims")),
    "MIRROR_PAD": (tflite.MirrorPadOptions, ("Mode",)),
    "STRIDED_SLICE": (
        tflite.StridedSliceOptions,
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
    ),
    "RESIZE_BILINEAR": (tflite.ResizeBilinearOptions, ("AlignCorners", "HalfPixelCenters")),
    "RESIZE_NEAREST_NEIGHBOR": (tflite.ResizeNearestNeighborOptions, ("AlignCorners", "HalfPixelCenters")),
    "DEPTH_TO_SPACE": (tflite.DepthToSpaceOptions, ("BlockSize",)),
    "SPACE_TO_DEPTH": (tflite.SpaceToDepthOptions, ("BlockSize",)),
    "L2_POOL_2D": (tflite.Pool2DOptions, (*_WINDOW, "FilterHeight", "FilterWidth")),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (
        tflite.UnidirectionalSequenceLSTMOptions,
        ("FusedActivationFunction", "CellClip", "ProjClip", "TimeMajor"),
    ),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (tflite.SequenceRNNOptions, ("FusedActivationFunction", "TimeMajor")),
    "BIDIRECTIONAL_SEQUENCE_RNN": (
        tflite.BidirectionalSequenceRNNOptions,
        ("FusedActivationFunction", "MergeOutputs", "TimeMajor"),
    ),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (
        tflite.BidirectionalSequenceLSTMOptions,
        ("FusedActivationFunction", "CellClip", "ProjClip", "MergeOutputs", "TimeMajor"),
    ),
    "SVDF": (tflite.SVDFOptions, ("FusedActivationFunction", "Rank")),
    "SOFTMAX": (tflite.SoftmaxOptions, ("Beta",)),
    "VAR_HANDLE": (tflite.VarHandleOptions, ("Container", "SharedName")),
    "CALL_ONCE": (tflite.CallOnceOptions, ("InitSubgraphIndex",)),
    "WHILE": (tflite.WhileOptions, ("CondSubgraphIndex", "BodySubgraphIndex")),
}
POST_PROCESSING = "CUSTOM TFLite_Detection_PostProcess"
"""SSD's; its options are a map in a FlexBuffer."""
_FORMS = {form.kind: form for rule in rules().values() if (form := rule.tflite) is not None}
_OPTIONS |= {kind: (getattr(tflite, form.table), form.fields) for kind, form in _FORMS.items() if form.table}
_OPERATORS = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}


@dataclass(frozen=True)
class Tensor:
    """A TFLite tensor in source layout (NHWC).

    Attributes
    ----------
    name : str
        Name in the file.
    shape : tuple of int
        Static shape; a dynamic batch reads 1.
    type : str
        Type in the file, e.g. FLOAT32 or INT8.
    data : array or None
        Content of a constant; quantized and half-precision weights dequantized to float32.
    dequantized : bool
        Whether `data` was stored with a scale.
    quantization : tuple of float
        Scales and zero points.
    dynamic : tuple of int
        Dimensions that the file leaves open, which read 1.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    data: NDArray[Any] | None
    dequantized: bool
    quantization: tuple[float, ...] = ()
    dynamic: tuple[int, ...] = ()


@dataclass(frozen=True)
class Operator:
    """A TFLite operator; missing inputs are -1, `options` bears the schema's names."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Variable:
    """A tensor that is kept between calls.

    Attributes
    ----------
    name : str
    before, after : int
        The tensors that it is when a call begins, and when it ends.
    initial : tuple of float
        Its values in the first call, one for all or each.
    """

    name: str
    before: int
    after: int
    initial: tuple[float, ...]


@dataclass(frozen=True)
class TfliteGraph:
    """The one subgraph of a TFLite file that computes something."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: tuple[Variable, ...] = ()


def parse(blob: bytes, where: str) -> TfliteGraph:
    """Parse a TFLite file.

    Parameters
    ----------
    blob : bytes
        The file.
    where : str
        Its path, for errors.

    Raises
    ------
    DataError
        Not a TFLite file, or a corrupt one.
    UnsupportedError
        Several subgraphs, or a dynamic dimension besides the batch.
    """
    if blob[4:8] != b"TFL3":
        raise DataError(f"{where}: not a TFLite file (no TFL3 identifier)")
    try:
        return _parse(blob, where)
    except TapcError:
        raise
    except Exception as error:
        raise DataError(f"{where}: corrupt TFLite file: {error}") from error


def _parse(blob: bytes, where: str) -> TfliteGraph:
    model = tflite.Model.GetRootAs(blob, 0)
    if model.SubgraphsLength() == 0:
        raise DataError(f"{where}: corrupt TFLite file: it holds no graph")
    check_kind(model, where, _OPERATORS, {code: name for code, (name, _) in _TYPES.items()})
    graph = _subgraph(model, model.Subgraphs(0), where)
    for tensor in (graph.tensors[i] for i in graph.inputs):
        if set(tensor.dynamic) - {0} or (tensor.dynamic and tensor.shape[0] != 1):
            raise UnsupportedError(
                f"{where}: tensor {tensor.name!r} has dynamic dimension {tensor.dynamic[-1]}; convert the model with a "
                "fixed input shape"
            )
    return graph


def subgraphs(blob: bytes, graph: TfliteGraph, where: str) -> tuple[TfliteGraph, ...]:
    """Return all graphs of a file, of which the first is known."""
    model = tflite.Model.GetRootAs(blob, 0)
    return (graph, *(_subgraph(model, model.Subgraphs(i), where) for i in range(1, model.SubgraphsLength())))


def initializer(blob: bytes, graph: TfliteGraph, where: str) -> TfliteGraph | None:
    """Return the graph that is run once before another one; None where there is none."""
    model = tflite.Model.GetRootAs(blob, 0)
    indices = {int(op.options["InitSubgraphIndex"]) for op in graph.operators if op.kind == "CALL_ONCE"}
    if not indices:
        return None
    if len(indices) > 1 or not 0 < max(indices) < model.SubgraphsLength():
        raise DataError(f"{where}: corrupt TFLite file: its variables are initialized by subgraphs {sorted(indices)}")
    return _subgraph(model, model.Subgraphs(max(indices)), where)


def _subgraph(model: Any, graph: Any, where: str) -> TfliteGraph:
    if graph.OperatorsLength() > MOST_NODES:
        raise DataError(f"{where}: {graph.OperatorsLength()} operators; networks of up to {MOST_NODES} are read")
    inputs, outputs = _integers(graph.InputsAsNumpy()), _integers(graph.OutputsAsNumpy())
    tensors = tuple(_tensor(model, graph.Tensors(i), where) for i in range(graph.TensorsLength()))
    operators = tuple(_operator(model, graph.Operators(i), i) for i in range(graph.OperatorsLength()))
    for index in (*inputs, *outputs, *(i for op in operators for i in (*op.inputs, *op.outputs))):
        if not -1 <= index < len(tensors):
            raise DataError(f"{where}: corrupt TFLite file: tensor {index} of {len(tensors)}")
    return TfliteGraph(tensors, operators, inputs, outputs)


def _integers(array: Any) -> tuple[int, ...]:
    return () if isinstance(array, int) else tuple(int(value) for value in array)


def _tensor(model: Any, tensor: Any, where: str) -> Tensor:
    name = tensor.Name().decode() if tensor.Name() is not None else ""
    shape = _integers(tensor.ShapeAsNumpy())
    signature = _integers(tensor.ShapeSignatureAsNumpy())
    dynamic = tuple(axis for axis, extent in enumerate(signature) if extent < 0)
    buffer = model.Buffers(tensor.Buffer())
    # A constant is no larger than the file; what is computed takes memory when it is compared.
    if any(extent < 0 for extent in shape) or (buffer.DataLength() == 0 and math.prod(shape) > MOST_ELEMENTS):
        raise ValueError(f"tensor {name!r} has shape {list(shape)}")
    kind, dtype = _TYPES.get(tensor.Type(), (f"type {tensor.Type()}", np.uint8))
    if buffer.DataLength() == 0:
        return Tensor(name, shape, kind, None, False, _scales(tensor.Quantization()), dynamic)
    data: NDArray[Any] = np.frombuffer(buffer.DataAsNumpy().tobytes(), np.dtype(dtype).newbyteorder("<"))
    sparsity = tensor.Sparsity()
    data = (data.reshape(shape) if sparsity is None else dense(data, sparsity, shape)).astype(np.dtype(dtype))
    if (fault := invalid_scales(tensor)) is not None:
        raise DataError(f"{where}: {fault}; the file is damaged, convert the network again")
    scaled = _dequantize(data, tensor.Quantization())
    if scaled is not None:
        return Tensor(name, shape, kind, scaled, True)
    return Tensor(name, shape, kind, data.astype(np.float32) if kind == "FLOAT16" else data, False)


def _scales(quantization: Any) -> tuple[float, ...]:
    if quantization is None or quantization.ScaleLength() == 0:
        return ()
    zeros = quantization.ZeroPointAsNumpy() if quantization.ZeroPointLength() else [0]
    return (*(float(scale) for scale in quantization.ScaleAsNumpy()), *(float(zero) for zero in zeros))


def _dequantize(data: NDArray[Any], quantization: Any) -> NDArray[np.float32] | None:
    """Return scale * (q - zero point) as float32; None for data without a scale."""
    if quantization is None or quantization.ScaleLength() == 0 or data.dtype.kind not in "iu":
        return None
    scale = np.asarray(quantization.ScaleAsNumpy(), np.float32)
    zero = np.asarray(quantization.ZeroPointAsNumpy(), np.int64).reshape(-1)
    zero = zero if quantization.ZeroPointLength() else np.zeros(1, np.int64)
    if scale.size > 1:
        along = [1] * data.ndim
        along[quantization.QuantizedDimension() if data.ndim > 1 else 0] = -1
        scale, zero = scale.reshape(along), np.broadcast_to(zero, scale.shape).reshape(along)
    # Codes of up to 16 bits and their differences are exact in float32, which takes half the memory.
    exact = np.float32 if data.itemsize <= 2 else np.int64
    result: NDArray[np.float32] = (data.astype(exact) - zero.astype(exact)).astype(np.float32) * scale
    return result.astype(np.float32)


def _operator(model: Any, operator: Any, index: int) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = _OPERATORS.get(builtin, f"operator {builtin}")
    if kind == "CUSTOM" and code.CustomCode() is not None:
        kind = f"CUSTOM {code.CustomCode().decode()}"
    options: dict[str, Any] = {}
    if kind == POST_PROCESSING:
        options = dict(flexbuffers.Loads(bytes(operator.CustomOptionsAsNumpy())))
    if kind in _OPTIONS:
        table, fields = _OPTIONS[kind]
        view = table()
        stored = operator.BuiltinOptions()
        if stored is None:
            raise ValueError(f"operator {index} ({kind}) has no options")
        view.Init(stored.Bytes, stored.Pos)
        options = {field: getattr(view, field)() for field in fields}
        options = {field: own.decode() if isinstance(own, bytes) else own for field, own in options.items()}
    return Operator(index, kind, _integers(operator.InputsAsNumpy()), _integers(operator.OutputsAsNumpy()), options)
