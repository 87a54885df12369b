"""Addition of two tensors, of which one may be broadcast along any axis or constant."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode
from tapc.graph.analysis import Graph
from tapc.graph.example import Example
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.bands import ROW, RowWindow
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.overlap import Overlap, elementwise_distance
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.elementwise import AddSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.binary import (
    check_operands,
    constant_codes,
    constants_of,
    example_of,
    lower_binary,
    reach_by_corners,
    torch_binary,
    variant_of,
)
from tapc.operators.common import as_words, keep_alike, monotone, small_shape, sums
from tapc.operators.fixed import Fixed
from tapc.operators.wide import wide
from tapc.operators.wide_binary import wide_binary


@dataclass(frozen=True, eq=False)
class Add(Op):
    """Addition of two tensors of one shape; `low` and `high` clamp the sum."""

    low: int
    high: int

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        a, b, y = (tensors[name].quantization for name in (*self.inputs, self.output))
        arithmetic.add_factors(a, b, y, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        a, b, y = (program.tensors[name] for name in (*self.inputs, self.output))
        f = arithmetic.add_factors(a.quantization, b.quantization, y.quantization, program.mode)
        return arithmetic.add(x[0], x[1], f, y.zero, self.low, self.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        keep_alike(self, kept)

    def row_windows(self, program: Program) -> tuple[RowWindow, ...] | None:
        return ROW, ROW

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        a, b, y = (program.tensors[name] for name in (*self.inputs, self.output))
        form, scalars = sums(program, a, b, y, self.low, self.high)
        spec = AddSpec(a.plane, b.plane, y.plane, form, self.low > y.low or self.high < y.high)
        distances = {name: elementwise_distance(program.tensors[name].plane, spec.y) for name in self.inputs}
        distance = {name: Overlap(d) for name, d in distances.items() if d is not None}
        tensors = {"x": self.inputs[0], "r": self.inputs[1], "y": self.output}
        return [Step(self, spec, tensors, {}, scalars, distance)]


@dataclass(frozen=True, eq=False)
class AddConstant(Op):
    """Addition of a constant map.

    Attributes
    ----------
    codes : ndarray of int8, shape (H, W, C)
        With zero point 0.
    scale : float
    low, high : int
        Clamp bounds of the sum.
    """

    codes: NDArray[np.int8]
    scale: float
    low: int
    high: int

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        x, y = (tensors[name].quantization for name in (*self.inputs, self.output))
        arithmetic.add_factors(x, (self.scale, 0), y, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        a, y = (program.tensors[name] for name in (*self.inputs, self.output))
        f = arithmetic.add_factors(a.quantization, (self.scale, 0), y.quantization, program.mode)
        return arithmetic.add(x[0], self.codes.astype(np.int64), f, y.zero, self.low, self.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        other = Tensor("", x.shape, 8, self.scale, 0)
        form, scalars = sums(program, x, other, y, self.low, self.high)
        spec = AddSpec(x.plane, other.plane, y.plane, form, self.low > y.low or self.high < y.high)
        distance = elementwise_distance(spec.a, spec.y)
        overlap = {} if distance is None else {self.inputs[0]: Overlap(distance)}
        constants = {"r": Constant("m", -(-self.codes.size // 4), lambda: as_words(self.codes))}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars, overlap)]


@write.register
def _write(op: Add, file: TfliteFile) -> None:
    clamp = file.clamped(op.output, op.low, op.high)
    operands = [file.tensor(name) for name in op.inputs]
    file.node("ADD", operands, clamp.output, "AddOptions", 2, fusedActivationFunction=clamp.activation)
    file.finish(clamp)


@write.register
def _write_constant(op: AddConstant, file: TfliteFile) -> None:
    clamp = file.clamped(op.output, op.low, op.high)
    operands = [file.tensor(op.inputs[0]), file.constant(op.codes[None], op.scale)]
    file.node("ADD", operands, clamp.output, "AddOptions", 2, fusedActivationFunction=clamp.activation)
    file.finish(clamp)


def _sum(a: Any, b: Any) -> Any:
    return a + b


def _add(lowering: Lowering, node: onnx.NodeProto) -> None:
    graph = lowering.graph
    shapes = [graph.shapes.get(name) for name in (*node.input, node.output[0])]
    if any(name in graph.constants for name in node.input) or len(set(shapes)) > 1:
        lower_binary(lowering, node, "add", _sum)
        return
    constants = [name for name in node.input if graph.producer[name].input[0] in graph.constants]
    if not constants:
        a, b = (graph.quantized(name) for name in node.input)
        x = lowering.tensors[a], lowering.tensors[b]

        def total(y: Tensor, key: str, low: int, high: int) -> Op:
            if 16 in (y.bits, x[0].bits, x[1].bits):
                alike = all(t.zero == 0 and t.quantization == y.quantization and t.bits == 16 for t in x)
                own = wide(node.name, "sum", (a, b), x, y, key, low, high) if alike and y.bits == 16 else None
                return own or wide_binary(node.name, "add", (a, b), x, y, key, low, high)
            return Add(node.name, (a, b), key, low, high)

        lowering.add(node, total)
        return
    other = next(name for name in node.input if name not in constants)
    if constant_codes(lowering, constants[0])[2] or len(graph.shapes[node.output[0]]) != 4:
        lower_binary(lowering, node, "add", _sum)
        return
    codes, scales, _ = graph.dequantized_constant(constants[0])
    source, scale = graph.quantized(other), float(scales[0])

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        values = codes[0].transpose(1, 2, 0).astype(np.int8)
        if 16 in (lowering.tensors[source].bits, y.bits):
            fixed = Fixed(values, scale, 0, other == node.input[1])
            return wide_binary(node.name, "add", (source,), [lowering.tensors[source]], y, key, low, high, fixed)
        return AddConstant(node.name, (source,), key, values, scale, low, high)

    lowering.add(node, make)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return torch_binary(graph, node, dtype, _sum)


def _variant(graph: Graph, node: onnx.NodeProto) -> Rule:
    shapes = [graph.constants[n].shape if n in graph.constants else graph.shape(n) for n in node.input]
    if set(shapes) == {graph.shape(node.output[0])} and all(value.size > 1 for value in constants_of(graph, node)):
        return _SAME_SHAPE
    return variant_of(replace(_SAME_SHAPE, joins=False, adds=False, scales=False), graph, node)


@samples("network", 0.048)
@samples("binary", 0.25)
def _sample(s: Sampler) -> None:
    shape, bits = small_shape(s), s.bits()
    ties = s.round() or s.round()
    _add_sample(s, shape, bits, ties)


@samples("ties", 1.0)
def _sample_ties(s: Sampler) -> None:
    """Draw sums that are exact ties, which linear forms often cannot give."""
    _add_sample(s, small_shape(s), s.bits(), {"scale": 0.25, "zero": 0})


def _add_sample(s: Sampler, shape: tuple[int, int, int], bits: int, ties: dict[str, float]) -> None:
    a, b = (s.tensor(shape, s.pick(bits, bits, 4, 8), **ties) for _ in range(2))
    y = s.tensor(shape, s.bits(), **({"scale": 0.5, "zero": 0} if ties else {}))
    s.add(Add(s.name, (a.name, b.name), y.name, s.low(y), y.high))


def _example(e: Example, op: str) -> str:
    if e.pick(0, 1):
        return example_of(e, op)
    shape = e.shape()
    a = e.map(*shape)
    b = e.map(*shape) if e.pick(0, 1, 1) else e.constant(e.normal((1, *shape), 0.5))
    return e.activation(e.node(op, *((a, b) if e.pick(0, 1) else (b, a))))


_SAME_SHAPE = Rule(
    _add,
    _torch,
    reach_by_corners(_sum),
    clamped=True,
    joins=True,
    adds=True,
    maps=True,
    wide=True,
    scales=True,
    any_size=True,
    variant=_variant,
    check=check_operands,
    example=_example,
)
register(_SAME_SHAPE, "Add")
