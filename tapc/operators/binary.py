"""What operators of two operands share, either of which may be broadcast along any axis, or be constant."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import AddFactors, Ints, Mode, Ratios, arithmetic_of
from tapc.base.arithmetic.interface import Quick
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.example import CHANNELS, Example
from tapc.graph.reach import Doubles, Reach
from tapc.graph.rules import Rule, TfliteForm, TorchStep, register
from tapc.ir.bands import ROW, RowWindow
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.overlap import Overlap, elementwise_distance
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.binary import BinarySpec, Operation
from tapc.kernels.schedule import Schedule
from tapc.operators.common import LARGEST, Scalars, as_words, check_ratios, clamp, factors, quick, small_shape, sums
from tapc.operators.fixed import Fixed
from tapc.operators.lookup import lower_function
from tapc.operators.wide_binary import wide_binary

_SUMS: tuple[Operation, ...] = ("add", "sub")


@dataclass(frozen=True, eq=False)
class Binary(Op):
    """Sum, difference, product, minimum or maximum; extents of 1 are repeated to those of the other operand.

    Attributes
    ----------
    operation : {"add", "sub", "mul", "min", "max"}
    low, high : int
        Clamp bounds.
    fixed : Fixed or None
        The constant operand, where there is one.
    """

    operation: Operation
    low: int
    high: int
    fixed: Fixed | None = None

    def operands(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return both operands; a constant one has no name."""
        own = [tensors[name] for name in self.inputs]
        if self.fixed is not None:
            own.insert(0 if self.fixed.first else 1, self.fixed.tensor)
        a, b = own
        return a, b

    def kind(self, spec: Any) -> str:
        return {"sub": "subtract", "mul": "multiply"}.get(self.operation, self.operation)

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        if self.operation in _SUMS:
            self._add_factors(tensors, mode)
        else:
            check_ratios(self._ratios(tensors, mode), mode)

    def _add_factors(self, tensors: Mapping[str, Tensor], mode: Mode) -> AddFactors:
        a, b = self.operands(tensors)
        second, result = self._added(b).quantization, tensors[self.output].quantization
        return arithmetic.add_factors(a.quantization, second, result, mode)

    def _added(self, b: Tensor) -> Tensor:
        """Return what is added: of a difference the second operand's negative."""
        return _Negative(b.name, b.shape, b.bits, b.scale, -b.zero) if self.operation == "sub" else b

    def _ratios(self, tensors: Mapping[str, Tensor], mode: Mode) -> Ratios:
        (a, b), over, own = self.operands(tensors), tensors[self.output].scale, arithmetic_of(mode)
        if self.operation == "mul":
            return np.atleast_1d(own.ratios((a.scale, b.scale), over))
        return np.array([own.ratios((t.scale,), over) for t in (a, b)])

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        (a, b), y = self.operands(program.tensors), program.tensors[self.output]
        codes = list(x)
        if self.fixed is not None:
            codes.insert(0 if self.fixed.first else 1, self.fixed.codes[None].astype(np.int64))
        if self.operation in _SUMS:
            f = self._add_factors(program.tensors, program.mode)
            second = -codes[1] if self.operation == "sub" else codes[1]
            return arithmetic.add(codes[0], second, f, y.zero, self.low, self.high)
        if self.operation == "mul":
            m = arithmetic.multipliers(self._ratios(program.tensors, program.mode), program.mode)
            return arithmetic.requantize((codes[0] - a.zero) * (codes[1] - b.zero), m, y.zero, self.low, self.high)
        choose = np.minimum if self.operation == "min" else np.maximum
        scaled = (self._scaled(program, side, value) for side, value in enumerate(codes))
        found: Ints = choose(*scaled)
        return found

    def _scaled(self, program: Program, side: int, codes: Ints) -> Ints:
        """Return codes of an operand as those of the result."""
        m = arithmetic.multipliers(self._ratios(program.tensors, program.mode)[side : side + 1], program.mode)
        zero, y = self.operands(program.tensors)[side].zero, program.tensors[self.output]
        return arithmetic.requantize(codes - zero, m, y.zero, self.low, self.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        # All of them are least and greatest at corners, and requantization keeps the order.
        corners: list[list[Ints]] = [[]]
        for bound in x:
            corners = [[*corner, end[None]] for corner in corners for end in (bound.low, bound.high)]
        found = [self.reference(program, corner)[0] for corner in corners]
        return Bounds(np.minimum.reduce(found), np.maximum.reduce(found))

    def keep(self, kept: Kept) -> None:
        masks = [kept.masks[name] for name in (*self.inputs, self.output)]
        most = len(masks[-1])
        kept.couple(*(mask for mask in masks if len(mask) == most))
        for mask in masks:
            if len(mask) < most:
                mask[:] = True

    def sliced(self, kept: Kept) -> Self:
        if self.fixed is None or self.fixed.codes.shape[2] == 1:
            return self
        codes = np.ascontiguousarray(self.fixed.codes[:, :, kept.masks[self.output]])
        return replace(self, fixed=replace(self.fixed, codes=codes))

    def row_windows(self, program: Program) -> tuple[RowWindow, ...] | None:
        height = program.tensors[self.output].shape[0]
        other = height if self.fixed is None else self.fixed.codes.shape[0]
        # A row that is repeated, or a constant with rows of its own, would have to be taken apart otherwise.
        alike = all(program.tensors[name].shape[0] == height for name in self.inputs)
        return (ROW,) * len(self.inputs) if alike and (self.fixed is None or other == 1) else None

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        (a, b), y = self.operands(program.tensors), program.tensors[self.output]
        constants: dict[str, Constant] = {}
        scalars: Scalars = {}
        form, fixed, tables = "", self.fixed, [False, False]
        own: Quick = ""
        if self.operation in _SUMS:
            f = self._add_factors(program.tensors, program.mode)
            form, scalars = sums(program, a, self._added(b), y, self.low, self.high, f)
        elif self.operation == "mul":
            scalars = {"x_zero": a.zero, "r_zero": b.zero, **clamp(y, self.low, self.high)}
            ratios = self._ratios(program.tensors, program.mode)
            constants["s"], own = factors(ratios, program.mode), quick(program, ratios, LARGEST**2)
        else:
            for side, (t, part, role) in enumerate(((a, "x", "t"), (b, "r", "l"))):
                codes = np.arange(t.low, t.high + 1)
                scaled = self._scaled(program, side, codes)
                if fixed is not None and fixed.first == (side == 0):
                    fixed = replace(fixed, codes=scaled[fixed.codes.astype(np.int64) - t.low].astype(np.int8))
                elif not np.array_equal(scaled, codes):
                    tables[side] = True
                    constants[f"{part}_table"] = _table(role, scaled)
        clamped = self.low > y.low or self.high < y.high
        spec = BinarySpec(
            self.operation, a.plane, b.plane, y.plane, program.mode, form, clamped, (tables[0], tables[1]), own
        )
        if fixed is not None:
            words = Constant("m", -(-fixed.codes.size // 4), lambda: as_words(fixed.codes))
            constants["x" if fixed.first else "r"] = words
        tensors = dict(zip(_parts(self), self.inputs, strict=True)) | {"y": self.output}
        whole = [name for name in self.inputs if program.tensors[name].shape == y.shape]
        distances = {name: elementwise_distance(program.tensors[name].plane, spec.y) for name in whole}
        overlap = {name: Overlap(d) for name, d in distances.items() if d is not None}
        return [Step(self, spec, tensors, constants, scalars, overlap)]


def _table(role: str, codes: Ints) -> Constant:
    return Constant(role, len(codes) // 4, lambda: as_words(codes.astype(np.int8)))


def _parts(op: Binary) -> tuple[str, ...]:
    if op.fixed is None:
        return "x", "r"
    return ("r",) if op.fixed.first else ("x",)


class _Negative(Tensor):
    """A tensor of the negatives of another's codes."""

    @property
    def low(self) -> int:
        """Smallest code."""
        return -super().high

    @property
    def high(self) -> int:
        """Largest code."""
        return -super().low


Function = Callable[[Any, Any], Any]
"""Of two arrays of float64."""


def lower_binary(lowering: Lowering, node: onnx.NodeProto, operation: Operation, function: Function) -> None:
    """Lower a node of two operands: a constant of one value makes it a table."""
    graph = lowering.graph
    at = next((i for i, name in enumerate(node.input) if name in graph.constants), None)
    if at is not None:
        value = np.float64(graph.constant(node.input[at]).item())
        lower_function(
            lowering, node, lambda x: np.asarray(function(value, x) if at == 0 else function(x, value)), index=1 - at
        )
        return
    mapped = [i for i, name in enumerate(node.input) if graph.producer[name].input[0] in graph.constants]
    inputs = tuple(graph.quantized(name) for i, name in enumerate(node.input) if i not in mapped)
    fixed, own = None, [lowering.tensors[name] for name in inputs]
    if mapped:
        codes, scale, zero = constant_codes(lowering, node.input[mapped[0]])
        fixed = Fixed(_nhwc(codes, len(graph.shapes[node.output[0]])), scale, zero, mapped[0] == 0)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        if 16 in (y.bits, *(t.bits for t in own)):
            return wide_binary(node.name, operation, inputs, own, y, key, low, high, fixed)
        return Binary(node.name, inputs, key, operation, low, high, fixed)

    lowering.add(node, make)


def constant_codes(lowering: Lowering, name: str) -> tuple[NDArray[Any], float, int]:
    """Return codes, scale and zero point of a dequantized constant operand."""
    codes, scales, _ = lowering.graph.dequantized_constant(name)
    given = lowering.graph.producer[name].input
    zero = int(lowering.graph.constant(given[2]).item()) if len(given) > 2 and given[2] else 0
    return codes, float(scales[0]), zero


def _nhwc(codes: NDArray[Any], rank: int) -> NDArray[np.int8]:
    """Return a constant that broadcasts to (1, C, H, W) or (1, F) as (H, W, C)."""
    codes = codes.reshape(*[1] * (rank - codes.ndim), *codes.shape)
    found = codes[0].transpose(1, 2, 0) if rank == 4 else codes.reshape(1, 1, -1)
    return np.ascontiguousarray(found).astype(np.int8)


def constants_of(graph: Graph, node: onnx.NodeProto) -> list[NDArray[Any]]:
    """Return the constant operands of a node."""
    return [graph.constants[name] for name in node.input if name in graph.constants]


def variant_of(rule: Rule, graph: Graph, node: onnx.NodeProto) -> Rule:
    """Return the rule of a node of two operands: where one is a number, it is a table."""
    constants = constants_of(graph, node)
    scalar = any(value.size == 1 for value in constants)
    spatial = any(value.ndim == 4 and max(value.shape[2:]) > 1 for value in constants)
    return replace(rule, only_8_bits=scalar, any_size=not spatial)


def check_operands(graph: Graph, node: onnx.NodeProto) -> None:
    """Raise UnsupportedError for operands that have no kernel."""
    names = list(node.input)
    if len(names) != 2 or len(constants_of(graph, node)) > 1:
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} takes two operands, of which one may be constant")
    shapes = [graph.constants[name].shape if name in graph.constants else graph.shape(name) for name in names]
    ranks = [len(shape) for name, shape in zip(names, shapes, strict=True) if name not in graph.constants]
    if len(set(ranks)) > 1 or max(map(len, shapes)) > ranks[0]:
        a, b = map(list, shapes)
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} of {a} and {b}: give both as many axes")


def torch_binary(graph: Graph, node: onnx.NodeProto, dtype: Any, function: Function) -> TorchStep:
    """Return a step that calls a function of torch on both operands."""
    import torch

    known = [
        torch.tensor(graph.constants[name], dtype=dtype) if name in graph.constants else None for name in node.input
    ]

    def step(operands: list[Any]) -> Any:
        given = list(operands)
        return function(*(given.pop(0) if value is None else value for value in known))

    return step


def reach_by_corners(function: Function) -> Callable[[Graph, onnx.NodeProto, list[Reach]], Reach]:
    """Return the reach of what is least and greatest where both operands are."""

    def reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
        channels = graph.shape(node.output[0])[1]
        a, b = operands
        with np.errstate(invalid="ignore", over="ignore"):  # 0 times what has no bound, and infinities that differ
            corners = [np.broadcast_to(function(p, q), channels) for p in (a.low, a.high) for q in (b.low, b.high)]
        unknown = np.isnan(corners).any(axis=0)
        ends: Sequence[Doubles] = [np.asarray(choose(corners), np.float64) for choose in (_least, _most)]
        return Reach(np.where(unknown, -np.inf, ends[0]), np.where(unknown, np.inf, ends[1]))

    return reach


def _least(corners: Any) -> Any:
    return np.fmin.reduce(corners)


def _most(corners: Any) -> Any:
    return np.fmax.reduce(corners)


def example_of(e: Example, op: str) -> str:
    """Return a node of two activations, of which either may be broadcast, or of one and a constant."""
    kind, shape = e.pick("vectors", "maps", "maps", "crossed", "twice", "constant", "constant", "scalar"), e.shape()
    if kind == "vectors":
        features = e.pick(*CHANNELS)
        operands = [e.vector(features), e.vector(e.pick(1, features))]
    elif kind == "maps":
        operands = [e.map(*shape), e.map(*(e.pick(1, extent) for extent in shape))]
    elif kind == "crossed":
        first = [e.pick(0, 1) for _ in shape]
        operands = [e.map(*(n if own == side else 1 for n, own in zip(shape, first, strict=True))) for side in (0, 1)]
    elif kind == "twice":
        operands = [e.any()] * 2
    else:
        given = (1, *(e.pick(1, extent) for extent in shape)) if kind == "constant" else e.pick((), (1,), (1, 1, 1, 1))
        given = given[e.pick(0, 1) :]
        operands = [e.map(*shape), e.constant(e.normal(given, e.pick(0.1, 0.7, 3)))]
    return e.activation(e.node(op, *(operands if e.pick(0, 1) else operands[::-1])))


def register_binary(
    name: str,
    lower: Callable[[Lowering, onnx.NodeProto], None],
    function: Function,
    tflite: TfliteForm,
    in_torch: str | None = None,
    *,
    wide: bool = False,
) -> None:
    """Register an operator of two operands.

    Parameters
    ----------
    name : str
        Of the ONNX operator.
    lower : callable
        As a rule has it.
    function : callable
        What it does, of two arrays, and of two tensors of torch unless torch's has the name `in_torch`.
    tflite : TfliteForm
    in_torch : str, optional
    wide : bool
        As a rule has it.
    """

    def of_torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
        import torch

        return torch_binary(graph, node, dtype, function if in_torch is None else getattr(torch, in_torch))

    def variant(graph: Graph, node: onnx.NodeProto) -> Rule:
        return variant_of(rule, graph, node)

    rule = Rule(
        lower,
        of_torch,
        reach_by_corners(function),
        clamped=True,
        maps=True,
        wide=wide,
        any_size=True,
        variant=variant,
        check=check_operands,
        example=example_of,
        tflite=tflite,
    )
    register(rule, name)


@samples("binary", 1.0)
def _sample(s: Sampler) -> None:
    shape = side, _, channels = small_shape(s)
    other = {0: shape, 1: (1, 1, channels), 2: (side, side, 1)}[s.pick(0, 1, 2)]
    ties = s.round()
    a, b = (s.tensor(extents, s.bits(), **ties) for extents in (shape, other))
    y = s.tensor(shape, s.bits(), **(ties or ({} if s.pick(0, 1) else {"scale": 0.004})))
    operations: tuple[Operation, ...] = ("add", "sub", "mul", "min", "max")
    low = y.low + s.pick(0, 1) * -(-y.high // 8)
    s.add(Binary(s.name, (a.name, b.name), y.name, operations[s.pick(0, 1, 2, 2, 2, 3, 4)], low, y.high))
