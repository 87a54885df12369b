"""The integers of a quantized TFLite file: how its tensors are quantized, and the codes of its layers and constants."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tflite
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError
from tapc.frontend.given import mark_name
from tapc.graph.given import Given, GivenConstant, GivenLayer, GivenPoint

KIND, WIDE_KIND = "int8 TFLite", "int16x8 TFLite"
_MODE = "tflite"
_ACTIVATIONS: dict[int, tuple[Any, int]] = {
    tflite.TensorType.INT8: (np.int8, 0),
    tflite.TensorType.UINT8: (np.uint8, 128),
    tflite.TensorType.INT16: (np.int16, 0),
    tflite.TensorType.INT32: (np.int32, 0),
    tflite.TensorType.INT64: (np.int64, 0),
}
_WHOLE = (tflite.TensorType.INT32, tflite.TensorType.INT64)
_BITS = {tflite.TensorType.INT16: 16, tflite.TensorType.INT32: 32}
_LAYERS = {
    "CONV_2D": (0, 1, 2, (0, 1, 2, 3)),
    "DEPTHWISE_CONV_2D": (0, 1, 2, (3, 0, 1, 2)),
    "FULLY_CONNECTED": (0, 1, 2, (0, 1)),
    "TRANSPOSE_CONV": (2, 1, 3, (0, 1, 2, 3)),
    "SVDF": (0, 1, 2, (0, 1)),
}
"""Operator -> where its input, weights and bias are, and the order of the weights' axes with the outputs first."""
_POOLS = ("AVERAGE_POOL_2D",)


@dataclass(frozen=True)
class Integers:
    """How a tensor of the file is quantized.

    Attributes
    ----------
    scales : ndarray of float32, shape (channels,) or (1,)
    zeros : ndarray of int64, as scales
    axis : int
        Of the channels.
    codes : ndarray or None
        Of a constant, as stored.
    point : GivenPoint or None
        Of an activation, or an 8-bit or 16-bit constant, with one scale.
    """

    scales: NDArray[np.float32]
    zeros: NDArray[np.int64]
    axis: int
    codes: NDArray[Any] | None
    point: GivenPoint | None


def integers(blob: bytes, number: int = 0) -> dict[int, Integers]:
    """Return how the tensors of a file's graph of this number are quantized, by index; others are left out."""
    model = tflite.Model.GetRootAs(blob, 0)
    graph = model.Subgraphs(number)
    found = {}
    for index in range(graph.TensorsLength()):
        own = _integers(model, graph.Tensors(index))
        if own is not None:
            found[index] = own
    return found


def _integers(model: Any, tensor: Any) -> Integers | None:
    quantization = tensor.Quantization()
    if quantization is None or quantization.ScaleLength() == 0:
        return None
    if tensor.Type() not in _ACTIVATIONS:
        return None
    dtype, offset = _ACTIVATIONS[tensor.Type()]
    scales = np.asarray(quantization.ScaleAsNumpy(), np.float32)
    zeros = np.zeros(len(scales), np.int64)
    if quantization.ZeroPointLength():
        zeros = np.broadcast_to(np.asarray(quantization.ZeroPointAsNumpy(), np.int64), scales.shape)
    buffer, codes = model.Buffers(tensor.Buffer()), None
    shape = () if isinstance(tensor.ShapeAsNumpy(), int) else tuple(tensor.ShapeAsNumpy().tolist())
    if buffer.DataLength():
        codes = np.frombuffer(buffer.DataAsNumpy().tobytes(), np.dtype(dtype).newbyteorder("<")).reshape(shape)
    point = None
    if len(scales) == 1 and (codes is None or tensor.Type() not in _WHOLE):
        point = GivenPoint(float(scales[0]), int(zeros[0]) - offset, _BITS.get(tensor.Type(), 8))
    return Integers(scales, zeros, quantization.QuantizedDimension(), codes, point)


def _of_8_bits(whole: NDArray[np.int64], name: str) -> NDArray[np.int8]:
    if np.abs(whole).max(initial=0) > 127 and not -128 <= whole.min() <= whole.max() <= 127:
        raise UnsupportedError(
            f"layer {name!r}: its weights less their zero point reach from {whole.min()} to {whole.max()}, beyond "
            "8 bits; convert the network with symmetric weights, or compile it with --requantize"
        )
    return whole.astype(np.int8)


@dataclass(eq=False)
class Collector:
    """Collects what a file gives while its graph is converted.

    Attributes
    ----------
    tensors : mapping of int to Integers
        Of a quantized network; empty for a float one.
    obstacle : str
        Why it cannot be kept; empty where nothing is known.
    wide : bool
        Layers read 16-bit activations.
    """

    tensors: Mapping[int, Integers]
    points: dict[str, GivenPoint] = field(default_factory=dict)
    layers: dict[str, GivenLayer] = field(default_factory=dict)
    constants: list[GivenConstant] = field(default_factory=list)
    obstacle: str = ""
    wide: bool = False

    def mark(self, index: int, kind: str) -> int | None:
        """Return the number of a new mark for a tensor that an operator made; None where it is not quantized."""
        own = self.tensors.get(index)
        if own is None or own.point is None or own.codes is not None:
            return None
        return self.mark_as(replace(own.point, windowed=kind in _POOLS))

    def mark_as(self, point: GivenPoint) -> int:
        """Return the number of a new mark."""
        number = len(self.points)
        self.points[mark_name(number)] = point
        return number

    def mark_negated(self, index: int) -> int | None:
        """Return the number of a new mark for what is the negative of a tensor, each code -1 less the tensor's."""
        own = self.tensors.get(index)
        if own is None or own.point is None:
            return None
        number = len(self.points)
        self.points[mark_name(number)] = GivenPoint(own.point.scale, -1 - own.point.zero)
        return number

    def operator(
        self, kind: str, inputs: tuple[int, ...], name: str, values: Mapping[int, NDArray[Any]], turned: bool = False
    ) -> None:
        """Collect a layer's integers, or the constant operands of another operator.

        Parameters
        ----------
        kind : str
        inputs : tuple of int
        name : str
            What errors and reports call it.
        values : mapping of int to ndarray
            What the float graph holds for constants.
        turned : bool
            Constant matrices have the last two axes swapped.
        """
        if kind == "BATCH_MATMUL":
            self._matrices(inputs, name, turned)
            return
        if kind in _LAYERS:
            self._layer(kind, inputs, name, values)
            return
        for index in inputs:
            own = self.tensors.get(index)
            if own is not None and own.codes is not None and own.point is not None and index in values:
                if own.point.bits == 16:
                    raise UnsupportedError(
                        f"operator {name or kind!r}: constant operands of 16 bits are not supported; pass the float32 "
                        "network"
                    )
                self.constants.append(GivenConstant(np.asarray(values[index], np.float32), own.point))

    def filters(self, inputs: tuple[int, int, int], name: str, rank: int, values: Mapping[int, NDArray[Any]]) -> None:
        """Collect the filters over time of an SVDF, (filters, steps), as a layer that sums up those of each unit."""
        own, bias = self.tensors.get(inputs[1]), self.tensors.get(inputs[2])
        if own is None or own.codes is None or own.point is None:
            return
        whole = own.codes.astype(np.int64) - own.zeros
        whole = whole.astype(np.int16) if own.point.bits == 16 else _of_8_bits(whole, name)
        units = len(whole) // rank
        codes = np.zeros(units, np.int32) if bias is None or bias.codes is None else bias.codes.reshape(-1)
        real = np.asarray(values[inputs[2]], np.float32).reshape(-1) if bias is not None else codes.astype(np.float32)
        self.layers[f"{len(self.layers)}"] = GivenLayer(
            name, whole.reshape(units, rank, 1, -1), own.scales, own.point.bits, codes.astype(np.int32), real, True
        )

    def _layer(self, kind: str, inputs: tuple[int, ...], name: str, values: Mapping[int, NDArray[Any]]) -> None:
        x, w, b, order = _LAYERS[kind]
        weights, source = self.tensors.get(inputs[w]), self.tensors.get(inputs[x])
        if weights is None or weights.codes is None or source is None or source.point is None:
            return
        along = [1] * weights.codes.ndim
        if len(weights.scales) > 1:
            along[weights.axis] = -1
        centred = weights.codes.astype(np.int64) - weights.zeros.reshape(along)
        whole = _of_8_bits(centred.transpose(order), name)
        outputs = whole.shape[0]
        bias = self.tensors.get(inputs[b]) if len(inputs) > b and inputs[b] >= 0 else None
        codes = np.zeros(outputs, np.int32) if bias is None or bias.codes is None else bias.codes.reshape(-1)
        real = np.asarray(values[inputs[b]], np.float32).reshape(-1) if bias is not None else codes.astype(np.float32)
        if np.abs(codes.astype(np.int64)).max(initial=0) >= 1 << 31:
            raise UnsupportedError(f"layer {name!r}: its biases reach beyond 32 bits; compile it with --requantize")
        self.wide |= source.point.bits == 16
        short = source.point.bits == 16 and bias is not None and codes.dtype.itemsize < 8
        self.layers[f"{len(self.layers)}"] = GivenLayer(
            name, whole, weights.scales, 8, codes.astype(np.int32), real, kind == "SVDF", short
        )

    def _matrices(self, inputs: tuple[int, ...], name: str, turned: bool) -> None:
        """Collect constant matrices, on either side, as a layer with an output for each column or row."""
        for side, index in enumerate(inputs):
            own = self.tensors.get(index)
            if own is None or own.codes is None or own.point is None:
                continue
            # A product by the second's columns, of the first's rows; a batch of one that is repeated has more rows.
            codes = own.codes if (side == 0) != turned else np.swapaxes(own.codes, -1, -2)
            whole = _of_8_bits(codes.reshape(-1, codes.shape[-1]).astype(np.int64) - own.zeros, name)
            zeros = np.zeros(len(whole), np.int32)
            given = GivenLayer(name, whole, own.scales, 8, zeros, zeros.astype(np.float32))
            self.layers[f"{len(self.layers)}"] = given

    def given(self) -> Given | None:
        """Return all; None for a float network."""
        if not self.points:
            return None
        return Given(
            WIDE_KIND if self.wide else KIND, _MODE, self.points, self.layers, tuple(self.constants), self.obstacle
        )
