"""Writing an integer program of the arithmetic `tflite` as an int8 TFLite file, with LiteRT's schema.

Every activation is (1, H, W, C), and what is computed from it is what the program computes, bit for bit. Operators
register what they become (`write`).
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.ir.lowering import QdqGraph
from tapc.ir.program import Op, Program, Tensor

_RELUS = {"NONE": (-np.inf, np.inf), "RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
"""Activations that an operator of the file may have, and their bounds."""
_MOVES = ("CONCATENATION", "GATHER", "PAD", "PADV2", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "STRIDED_SLICE", "TRANSPOSE")
_SAME, VALID = 0, 1
Four = tuple[int, int, int, int]


@dataclass(frozen=True)
class Point:
    """Scale and zero point of a tensor."""

    scale: float
    zero: int = 0


class TfliteFile:
    """Collects the tensors and operators of one graph; tensors are addressed by index.

    Attributes
    ----------
    program : Program
    weights : QdqGraph
        What the scales of weights are read from.
    description : str
        What the file says of itself.
    """

    def __init__(self, program: Program, weights: QdqGraph, description: str) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.program, self.weights, self._schema = program, weights, schema
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.description = 3, description
        self._model.buffers, self._model.operatorCodes = [schema.BufferT()], []
        self._model.subgraphs = [self._graph]
        self._graph.tensors, self._graph.operators, self._graph.name = [], [], program.name
        self._codes: dict[str, int] = {}
        self._computes = False
        self._indices: dict[str, int] = {}
        self._nodes = {node.name: node for node in weights.nodes}

    @property
    def computes(self) -> bool:
        """Whether the last operator makes values that were none before."""
        return self._computes

    @property
    def count(self) -> int:
        """Operators so far."""
        return len(self._graph.operators)

    def computed(self) -> None:
        """Tell that the last operator makes values, though its kind only moves them."""
        self._computes = True

    def tensor(self, name: str) -> int:
        """Return the index of a tensor of the program."""
        if name not in self._indices:
            own = self.program.tensors[name]
            self._indices[name] = self.between(own.shape, Point(own.scale, own.zero), name)
        return self._indices[name]

    def between(self, shape: tuple[int, ...], point: Point, name: str = "") -> int:
        """Add an activation that no tensor of the program is."""
        return self._add((1, *shape), "INT8", name, point=point)

    @property
    def int32(self) -> int:
        """The schema's number of int32."""
        return int(self._schema.TensorType.INT32)

    def whole(self, shape: tuple[int, ...]) -> int:
        """Add numbers of int32 in between."""
        return self._add((1, *shape), "INT32")

    def constant(self, values: NDArray[Any], scales: Any = None, axis: int = 0, zero: int = 0) -> int:
        """Add a constant of int8 or int32, with the scales of its channels along an axis."""
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        index = self._add(values.shape, values.dtype.name.upper(), buffer=len(self._model.buffers) - 1)
        if scales is not None:
            self._quantize(index, np.atleast_1d(np.asarray(scales, np.float32)), axis, zero)
        return index

    def weight_scales(self, op: str) -> NDArray[np.float32]:
        """Return the scales of the output channels of a layer."""
        return self.weights.dequantized_constant(self._nodes[op].input[1])[1]

    def node(
        self, kind: str, inputs: Sequence[int], output: int, table: str = "", version: int = 1, **options: Any
    ) -> None:
        """Add an operator; `table` names its options in the schema."""
        schema, self._computes = self._schema, kind not in _MOVES
        if kind not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, kind)
            code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
            self._codes[kind] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self._codes[kind], list(inputs), [output]
        if table:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            operator.builtinOptions = getattr(schema, f"{table}T")()
            for key, value in options.items():
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)

    def clamped(self, name: str, low: int, high: int, *, fused: bool = True) -> "Clamped":
        """Return how a result of these bounds is written: with an activation, or with bounds behind it.

        Parameters
        ----------
        name : str
            Tensor of the program.
        low, high : int
        fused : bool
            The operator may have an activation.
        """
        own, output = self.program.tensors[name], self.tensor(name)
        kinds = self._schema.ActivationFunctionType
        for kind, bounds in _RELUS.items():
            if (fused or kind == "NONE") and _codes(own, bounds, self.program) == (low, high):
                return Clamped(output, getattr(kinds, kind))
        ends = [(kind, bound) for kind, bound, end in (("MAXIMUM", low, own.low), ("MINIMUM", high, own.high))
                if bound != end]  # fmt: skip
        point = Point(own.scale, own.zero)
        results = [*(self.between(own.shape, point) for _ in ends), output]
        behind = []
        for (kind, bound), source, result in zip(ends, results, results[1:], strict=False):
            limit = self.constant(np.full((1, 1, 1, 1), bound, np.int8), own.scale, zero=own.zero)
            behind.append((kind, source, limit, result))
        return Clamped(results[0], kinds.NONE, tuple(behind))

    def finish(self, clamp: "Clamped") -> None:
        """Add what stands behind a result, once its operator is there."""
        for kind, source, limit, output in clamp.behind:
            self.node(kind, [source, limit], output, "MaximumMinimumOptions")

    def scaled(self, name: str, output: str) -> int:
        """Return a tensor at the scale of another one."""
        own, y = self.program.tensors[name], self.program.tensors[output]
        if own.quantization == y.quantization:
            return self.tensor(name)
        result = self.between(own.shape, Point(y.scale, y.zero))
        self.node("QUANTIZE", [self.tensor(name)], result, "QuantizeOptions", 2)
        return result

    def cast(self, source: int, result: int, before: str, after: str) -> None:
        """Add a change of type, of codes as they are."""
        kinds = self._schema.TensorType
        self.node("CAST", [source], result, "CastOptions", inDataType=getattr(kinds, before),
                  outDataType=getattr(kinds, after))  # fmt: skip

    def plus(self, source: int, number: int, result: int, *, above: bool = False) -> None:
        """Add an addition of a number to numbers of int32; `above` where all sums are above zero.

        These have an activation, which changes none: vela takes no addition of int32 with one, so that it lies beside
        the other operators that are left to the CPU.
        """
        kinds = self._schema.ActivationFunctionType
        self.node("ADD", [source, self.constant(np.array([number], np.int32))], result, "AddOptions",
                  fusedActivationFunction=kinds.RELU if above else kinds.NONE)  # fmt: skip

    def looked_up(self, source: str, output: str, table: NDArray[np.int8]) -> None:
        """Add a table of all codes: codes become places in it."""
        own, y = self.program.tensors[source], self.program.tensors[output]
        codes, places = self.whole(own.shape), self.whole(own.shape)
        self.cast(self.tensor(source), codes, "INT8", "INT32")
        self.plus(codes, 128, places, above=True)
        entries = self.constant(table, y.scale, zero=y.zero)
        self.node("GATHER", [entries, places], self.tensor(output), "GatherOptions", 2, axis=0)
        self.computed()

    def reshaped(self, source: int, result: int, shape: tuple[int, ...]) -> None:
        """Add a change of shape."""
        whole = np.array([1, *shape], np.int32)
        self.node("RESHAPE", [source, self.constant(whole)], result, "ReshapeOptions", newShape=whole)

    def window(
        self, source: str, kernel: tuple[int, int], stride: tuple[int, int], pads: Four,
        dilation: tuple[int, int] = (1, 1), *, pad: int | None = None,
    ) -> tuple[int, int] | None:  # fmt: skip
        """Return the tensor that windows read, and the file's name of their padding; None where it has none.

        Parameters
        ----------
        pad : int, optional
            Code that other paddings than the file's own two are made with.
        """
        own = self.program.tensors[source]
        if not any(pads):
            return self.tensor(source), VALID
        if pads == same_pads(own.shape[:2], kernel, stride, dilation):
            return self.tensor(source), _SAME
        return None if pad is None else (self._padded(source, pads, pad), VALID)

    def pack(self) -> bytes:
        """Return the file."""
        import flatbuffers

        self._graph.inputs = [self.tensor(name) for name in self.program.inputs]
        self._graph.outputs = [self.tensor(name) for name in self.program.outputs]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _padded(self, source: str, pads: Four, code: int) -> int:
        (height, width, channels), own = self.program.tensors[source].shape, self.program.tensors[source]
        top, left, bottom, right = pads
        result = self.between((height + top + bottom, width + left + right, channels), Point(own.scale, own.zero))
        ends = self.constant(np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
        if code == own.zero:
            self.node("PAD", [self.tensor(source), ends], result, "PadOptions", 2)
        else:
            value = self.constant(np.array([code], np.int8), own.scale, zero=own.zero)
            self.node("PADV2", [self.tensor(source), ends, value], result, "PadV2Options", 2)
        return result

    def _add(self, shape: Sequence[int], kind: str, name: str = "", buffer: int = 0, point: Point | None = None) -> int:
        tensor = self._schema.TensorT()
        index = len(self._graph.tensors)
        tensor.name, tensor.shape, tensor.buffer = name or f"tapc_{index}", list(shape), buffer
        tensor.type = getattr(self._schema.TensorType, kind)
        self._graph.tensors.append(tensor)
        if point is not None:
            self._quantize(index, np.array([point.scale], np.float32), 0, point.zero)
        return index

    def _quantize(self, index: int, scales: NDArray[np.float32], axis: int, zero: int) -> None:
        own = self._schema.QuantizationParametersT()
        own.scale, own.quantizedDimension = scales, axis
        own.zeroPoint = np.full(len(scales), zero, np.int64)
        self._graph.tensors[index].quantization = own


@dataclass(frozen=True)
class Clamped:
    """Where an operator writes, its activation, and what stands behind it."""

    output: int
    activation: int
    behind: tuple[tuple[str, int, int, int], ...] = ()


def same_pads(
    extents: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Four:
    """Return the pads of the file's SAME: top, left, bottom, right."""
    sides = []
    for extent, size, step, distance in zip(extents, kernel, stride, dilation, strict=True):
        total = max(0, (-(-extent // step) - 1) * step + (size - 1) * distance + 1 - extent)
        sides.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = sides
    return top, left, bottom, right


def _codes(own: Tensor, bounds: tuple[float, float], program: Program) -> tuple[int, int]:
    steps = arithmetic_of(program.mode).steps
    found = [default if np.isinf(value) else int(np.clip(steps(value, own.scale) + own.zero, -128, 127))
             for value, default in zip(bounds, (own.low, own.high), strict=True)]  # fmt: skip
    return found[0], found[1]


@functools.singledispatch
def write(op: Op, file: TfliteFile) -> None:
    """Add an operator to a file; raises UnsupportedError where TFLite has none of the same integers."""
    raise UnsupportedError(f"operator {op.name!r} ({type(op).__name__}) has no form in TFLite of the same integers")


@dataclass(frozen=True, eq=False)
class TfliteNetwork:
    """A file, and what its operators compute.

    Attributes
    ----------
    blob : bytes
        The file.
    makers : dict of int to str
        Operator of the file, by number -> the tensor of the program that it computes; those in between, and those that
        only move elements, compute none.
    owners : tuple of str
        The program's operator that each operator of the file is of.
    """

    blob: bytes
    makers: dict[int, str]
    owners: tuple[str, ...]


def tflite_of(program: Program, weights: QdqGraph, description: str) -> TfliteNetwork:
    """Write a program.

    Parameters
    ----------
    program : Program
        As `program_from_onnx` returns it, of the arithmetic `tflite`: not pruned, nothing fused.
    weights : QdqGraph
        The graph that it is of.
    description : str

    Raises
    ------
    UnsupportedError
        Where an operator has no form in TFLite of the same integers, or a tensor does not have 8 bits.
    """
    _check_bits(program, program.tensors)
    file, makers = TfliteFile(program, weights, description), dict[int, str]()
    owners: list[str] = []
    for op in program.ops:
        write(op, file)
        owners += [op.name] * (file.count - len(owners))
        if file.computes:
            makers[file.count - 1] = op.output
    return TfliteNetwork(file.pack(), makers, tuple(owners))


def without_form(program: Program, weights: QdqGraph) -> dict[str, str]:
    """Return the operators that have no form in TFLite of the same integers, and why.

    Parameters
    ----------
    program, weights
        See `tflite_of`.
    """
    file, found = TfliteFile(program, weights, ""), dict[str, str]()
    for op in program.ops:
        try:
            _check_bits(program, (*op.inputs, op.output))
            write(op, file)
        except UnsupportedError as error:
            found[op.name] = str(error)
    return found


def _check_bits(program: Program, names: Iterable[str]) -> None:
    for tensor in (program.tensors[name] for name in names):
        if tensor.bits != 8:
            raise UnsupportedError(
                f"tensor {tensor.name!r} has {tensor.bits} bits, a TFLite file takes 8: compile the network with "
                "--abits 8"
            )
