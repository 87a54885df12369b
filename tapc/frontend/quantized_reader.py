"""What is known of a quantized ONNX graph while the graph of its real values is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.base.errors import UnsupportedError
from tapc.frontend.given import mark_name, mark_node
from tapc.graph.given import GivenConstant, GivenLayer, GivenPoint

INTEGERS = {
    TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255), TensorProto.INT4: (-8, 7), TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1), TensorProto.UINT2: (0, 3),
}  # fmt: skip
_WIDTHS = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.INT2: 2, TensorProto.UINT2: 2}
OUTPUTS: dict[str, Callable[[onnx.NodeProto, int], int]] = {
    "Conv": lambda node, rank: 0,
    "ConvTranspose": lambda node, rank: 1,
    "Gemm": lambda node, rank: 0 if _number(node, "transB") else 1,
    "MatMul": lambda node, rank: rank - 1,
}
"""Layers, and the axis of their outputs in the weights."""


def _number(node: onnx.NodeProto, name: str, default: int = 0) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)


@dataclass(frozen=True)
class Grid:
    """Where the codes of a tensor lie.

    Attributes
    ----------
    scale : float
    zero : int
    low, high : int
        Codes that there are.
    """

    scale: float
    zero: int
    low: int
    high: int

    @property
    def shift(self) -> int:
        """What makes the codes those of int8."""
        return 128 if self.high > 127 else 0

    @property
    def point(self) -> GivenPoint:
        """How 8-bit codes stand for it."""
        return GivenPoint(self.scale, self.zero - self.shift)

    @property
    def narrow(self) -> bool:
        """Whether 8 bits hold more codes."""
        return (self.low - self.shift, self.high - self.shift) != (-128, 127)


@dataclass(frozen=True, eq=False)
class Codes:
    """A constant in integers.

    Attributes
    ----------
    values : ndarray of int64
    scales, zeros : ndarray
        Of one value, or of the channels along `axis`.
    axis : int
    bits : int
        That the file says.
    """

    values: NDArray[np.int64]
    scales: NDArray[np.float32]
    zeros: NDArray[np.int64]
    axis: int
    bits: int

    def real(self) -> NDArray[np.float32]:
        """Return what they stand for."""
        along = [1] * self.values.ndim
        if self.scales.size > 1:
            along[self.axis] = -1
        scales, zeros = (
            part.reshape(along) if part.size > 1 else part.reshape(()) for part in (self.scales, self.zeros)
        )
        return ((self.values - zeros).astype(np.float32) * scales).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Held:
    """Integers between operators: the real tensor before the quantizer, its mark's result, and their grid."""

    before: str
    real: str
    grid: Grid


class Reader:
    """Walks a graph in order and writes the float one.

    Attributes
    ----------
    nodes : list of NodeProto
    constants : dict of str to ndarray
        By name, of the source and of the float graph.
    codes : dict of str to Codes
        Constants that come as integers, by the names of their real values.
    held : dict of str to Held
        Integers between operators.
    alias : dict of str to str
        Real tensor of the source -> of the float graph.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 21)
        self.nodes: list[onnx.NodeProto] = []
        self.types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.inputs = {
            value.name: value.type.tensor_type.elem_type
            for value in model.graph.input
            if value.type.tensor_type.elem_type in INTEGERS
        }
        self.outputs = {value.name for value in model.graph.output}
        self.widths: dict[str, int] = {}
        """Bits of integer constants that were narrowed."""
        self.codes: dict[str, Codes] = {}
        self.held: dict[str, Held] = {}
        self.raw: dict[str, tuple[str, int]] = {}
        """Integers of an input as numbers -> the input, and the zero point that was taken from them."""
        self.alias: dict[str, str] = {}
        self.points: dict[str, GivenPoint] = {}
        self.grids: dict[str, Grid] = {}
        """Real tensor behind a mark -> its grid."""
        self.layers: dict[str, GivenLayer] = {}
        self.operands: list[GivenConstant] = []

    def of(self, name: str) -> str:
        """Return the name of a real tensor in the float graph."""
        return self.alias.get(name, name)

    def array(self, name: str, what: str) -> NDArray[Any]:
        """Return a constant."""
        if name not in self.constants:
            raise UnsupportedError(f"{what}: {name!r} is computed while the network runs; scales must be constant")
        found: NDArray[Any] = self.constants[name]
        return found

    def grid(self, node: onnx.NodeProto, scale: str, zero: str, kind: int | None = None) -> Grid:
        """Return a tensor's grid by the names of its scale and zero point; `kind` where there is no zero point."""
        what = f"node {node.name or node.output[0]!r} ({node.op_type})"
        scales = self.array(scale, what).astype(np.float32).reshape(-1)
        kind = self.types.get(zero, kind or TensorProto.UINT8) if zero else (kind or TensorProto.UINT8)
        if scales.size != 1 or kind not in INTEGERS:
            detail = f"{scales.size} scales" if scales.size != 1 else TensorProto.DataType.Name(kind)
            raise UnsupportedError(f"{what}: an activation of {detail}; one scale and up to 8 bits are supported")
        value = int(self.array(zero, what).reshape(-1)[0]) if zero else 0
        return Grid(float(scales[0]), value, *INTEGERS[kind])

    def width(self, name: str) -> int:
        """Return the bits of an integer constant."""
        kind = self.types.get(name, TensorProto.INT8)
        return self.widths.get(name, _WIDTHS.get(kind, 8 if kind in INTEGERS else 32))

    def ends(self, zero: str, kind: int | None) -> tuple[int, int]:
        """Return the codes of a zero point's type."""
        return INTEGERS[self.types.get(zero, kind or TensorProto.UINT8)]

    def operand(self, name: str) -> None:
        """Collect a constant operand that comes in integers."""
        own = self.codes.get(name)
        if own is not None and own.scales.size == 1 and own.bits <= 8:
            self.operands.append(GivenConstant(self.constants[name].astype(np.float32), point_of(own)))

    def mark(self, source: str, grid: Grid, name: str = "") -> str:
        """Write a quantizer's mark, behind a clamp where there are fewer codes than 8 bits have."""
        number = len(self.points)
        if grid.narrow:
            low, high = (np.float32(grid.scale) * np.float32(code - grid.zero) for code in (grid.low, grid.high))
            source = self.clip(source, low, high, f"given_clip{number}_out")
        result = name or f"given_mark{number}_out"
        self.nodes.append(mark_node(number, source, result))
        self.points[mark_name(number)], self.grids[result] = grid.point, grid
        return result

    def clip(self, source: str, low: np.float32, high: np.float32, result: str) -> str:
        """Write a clamp."""
        if self.opset < 11:
            self.nodes.append(helper.make_node("Clip", [source], [result], min=float(low), max=float(high)))
            return result
        names = [self.real_constant(f"{result}_{part}", np.array(end)) for part, end in (("min", low), ("max", high))]
        self.nodes.append(helper.make_node("Clip", [source, *names], [result]))
        return result

    def real_constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant of the float graph."""
        self.constants[name] = values
        return name

    def integer(self, name: str, grid: Grid) -> str:
        """Return the real tensor of integers, given how their reader takes them."""
        if name in self.constants and name not in self.held:
            values = self.constants[name].astype(np.int64)
            own = Codes(values, np.array([grid.scale], np.float32), np.array([grid.zero]), 0, 8)
            self.codes[f"{name}_real"] = own
            return self.real_constant(f"{name}_real", own.real())
        if name in self.inputs and name not in self.held:
            self.held[name] = Held(name, self.mark(name, grid), grid)
        held = self.held.get(name)
        if held is None:
            raise UnsupportedError(f"tensor {name!r} holds integers that no quantizer made")
        if (held.grid.scale, held.grid.zero) != (grid.scale, grid.zero):
            raise UnsupportedError(f"tensor {name!r} is quantized with one scale and dequantized with another")
        return held.real

    def quantized(self, name: str, source: str, grid: Grid) -> None:
        """Register integers that an operator made of a real tensor."""
        self.held[name] = Held(source, self.mark(source, grid), grid)
        if name in self.outputs:
            self.nodes.append(helper.make_node("Identity", [self.held[name].real], [name]))

    def emit(self, op: str, inputs: Sequence[str], result: str, **attributes: Any) -> str:
        """Write a node."""
        self.nodes.append(helper.make_node(op, list(inputs), [result], **attributes))
        return result

    def weights(self, node: onnx.NodeProto, weights: str, bias: str, x: str) -> None:
        """Collect a layer's integers; `weights`, `bias` and `x` are real tensors, the last one behind a mark."""
        own = self.codes.get(weights)
        if own is None or node.op_type not in OUTPUTS:
            return
        name, rank = node.name or node.output[0], own.values.ndim
        axis = OUTPUTS[node.op_type](node, rank)
        if own.scales.size > 1 and own.axis % rank != axis:
            raise UnsupportedError(f"layer {name!r}: its weights have scales along axis {own.axis}, not per output")
        along = [1] * rank
        if own.zeros.size > 1:
            along[axis] = -1
        whole = np.moveaxis(own.values - own.zeros.reshape(along if own.zeros.size > 1 else ()), axis, 0)
        if whole.size and not -128 <= whole.min() <= whole.max() <= 127:
            raise UnsupportedError(
                f"layer {name!r}: its weights less their zero point reach from {whole.min()} to {whole.max()}, beyond "
                "8 bits; quantize them symmetrically, or compile the network with --requantize"
            )
        fewest = 2 if own.bits <= 2 else 4 if own.bits <= 4 else 8
        half = max(-int(whole.min(initial=0)), int(whole.max(initial=0)) + 1)
        fits = next(bits for bits in (2, 4, 8) if bits >= fewest and half <= 1 << (bits - 1))
        integers, real = self._bias(bias, own, x)
        self.layers[f"{len(self.layers)}"] = GivenLayer(
            name, whole.astype(np.int8), own.scales.reshape(-1), fits, integers, real
        )

    def _bias(self, bias: str, weights: Codes, x: str) -> tuple[NDArray[np.int32] | None, NDArray[np.float32] | None]:
        """Return a bias in units of input times weights, where it comes so."""
        own, grid = self.codes.get(bias), self.grids.get(x)
        if own is None or grid is None or own.bits < 32 or own.zeros.any():
            return None, None
        units = np.float32(grid.scale) * weights.scales
        same = np.broadcast_to(own.scales, units.shape) if own.scales.size == 1 else own.scales
        if same.shape != units.shape or not np.allclose(same, units, 1e-4, 0):
            return None, None
        return own.values.reshape(-1).astype(np.int32), self.constants[bias].astype(np.float32).reshape(-1)

    def finish(self) -> onnx.ModelProto:
        """Return the float graph."""
        used = {name for node in self.nodes for name in node.input}
        tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in self.constants.items() if k in used]
        inputs, outputs = (
            [_real(value) for value in side] for side in (self.model.graph.input, self.model.graph.output)
        )
        inputs = [value for value in inputs if value.name not in self.constants]
        graph = helper.make_graph(self.nodes, self.model.graph.name or "network", inputs, outputs, tensors)
        opsets = [o for o in self.model.opset_import if o.domain in ("", "ai.onnx")] or [helper.make_opsetid("", 21)]
        result = helper.make_model(graph, opset_imports=opsets, ir_version=max(self.model.ir_version, 4))
        result.functions.extend(self.model.functions)
        return result


def _real(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    result = onnx.ValueInfoProto()
    result.CopyFrom(value)
    if result.type.tensor_type.elem_type in INTEGERS:
        result.type.tensor_type.elem_type = TensorProto.FLOAT
    return result


Handler = Callable[[Reader, onnx.NodeProto], None]
_known: dict[str, Handler] = {}


def handles(*types: str) -> Callable[[Handler], Handler]:
    """Return a decorator for what reads nodes of these operators."""

    def add(handler: Handler) -> Handler:
        _known.update(dict.fromkeys(types, handler))
        return handler

    return add


def known() -> Mapping[str, Handler]:
    """Return ONNX operator -> what reads its nodes."""
    return _known


def point_of(own: Codes) -> GivenPoint:
    """Return how 8-bit codes stand for a constant with one scale."""
    zero = int(own.zeros.reshape(-1)[0])
    offset = 128 if max(zero, int(own.values.max(initial=0))) > 127 else 0  # unsigned codes that all fit have none
    return GivenPoint(float(own.scales.reshape(-1)[0]), zero - offset)
