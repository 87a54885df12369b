"""Product of two tensors, of which one may be broadcast along any axis."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TfliteForm, TorchStep, register
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.overlap import Overlap, elementwise_distance
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.multiply import MultiplySpec
from tapc.kernels.schedule import Schedule
from tapc.operators.common import Scalars, check_ratios, clamp, factors


@dataclass(frozen=True, eq=False)
class Multiply(Op):
    """Product of two tensors; extents of 1 are repeated to those of the other.

    Attributes
    ----------
    ratio : ndarray, shape ()
        Product of the operands' scales over the output's.
    low, high : int
        Clamp bounds.
    """

    ratio: Ratios
    low: int
    high: int

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratio, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        a, b, y = (program.tensors[name] for name in (*self.inputs, self.output))
        m = arithmetic.multipliers(np.atleast_1d(self.ratio), program.mode)
        return arithmetic.requantize((x[0] - a.zero) * (x[1] - b.zero), m, y.zero, self.low, self.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        # A product is least and greatest at corners, and requantization keeps the order.
        corners = [
            self.reference(program, [a[None], b[None]])[0] for a in (x[0].low, x[0].high) for b in (x[1].low, x[1].high)
        ]
        return Bounds(np.minimum.reduce(corners), np.maximum.reduce(corners))

    def keep(self, kept: Kept) -> None:
        masks = [kept.masks[name] for name in (*self.inputs, self.output)]
        most = max(map(len, masks))
        kept.couple(*(mask for mask in masks if len(mask) == most))
        for mask in masks:
            if len(mask) < most:
                mask[:] = True

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        a, b, y = (program.tensors[name] for name in (*self.inputs, self.output))
        spec = MultiplySpec(a.plane, b.plane, y.plane, program.mode, self.low > y.low or self.high < y.high)
        scalars: Scalars = {"x_zero": a.zero, "r_zero": b.zero, **clamp(y, self.low, self.high)}
        tensors = {"x": self.inputs[0], "r": self.inputs[1], "y": self.output}
        whole = [name for name in self.inputs if program.tensors[name].shape == y.shape]
        distances = {name: elementwise_distance(program.tensors[name].plane, spec.y) for name in whole}
        overlap = {name: Overlap(d) for name, d in distances.items() if d is not None}
        return [Step(self, spec, tensors, {"s": factors(np.atleast_1d(self.ratio), program.mode)}, scalars, overlap)]


def _multiply(lowering: Lowering, node: onnx.NodeProto) -> None:
    a, b = (lowering.source(node, index) for index in (0, 1))
    inputs = tuple(lowering.graph.quantized(name) for name in node.input)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratio = arithmetic_of(lowering.mode).ratios((a.scale, b.scale), y.scale)
        return Multiply(node.name, inputs, key, ratio, low, high)

    lowering.add(node, make)


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    if len(graph.activations(node)) != 2:
        raise UnsupportedError(f"node {node.name!r} multiplies by a constant that is not one value per channel")
    a, b = (graph.shape(name) for name in node.input)
    if len(a) != len(b):
        raise UnsupportedError(f"node {node.name!r} multiplies {list(a)} and {list(b)}: give both as many axes")


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    a, b = operands
    with np.errstate(invalid="ignore"):  # 0 times what has no bound
        corners = [np.nan_to_num(p * q, nan=0.0, posinf=np.inf, neginf=-np.inf)
                   for p in (a.low, a.high) for q in (b.low, b.high)]  # fmt: skip
    return Reach(np.minimum.reduce(corners), np.maximum.reduce(corners))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return lambda operands: operands[0] * operands[-1]


def _example(e: Example, op: str) -> str:
    if e.pick(0, 1, 2) == 0:
        features = e.pick(1, 5, 8)
        y = e.node(op, e.vector(features), e.vector(e.pick(1, features)))
    else:
        shape = e.pick(1, 5, 8), e.pick(1, 4, 7), e.pick(1, 3, 8)
        operands = [e.map(*shape), e.map(*(e.pick(1, extent) for extent in shape))]
        y = e.node(op, *(operands if e.pick(0, 1) else operands[::-1]))
    return e.node("Relu", y) if e.pick(0, 1) else y


@samples("multiply", 1.0)
def _sample(s: Sampler) -> None:
    side, channels = s.pick(1, 3, 6, 8), s.pick(2, 5, 8, 16, 32)
    shape = (side, side, channels)
    other = {0: shape, 1: (1, 1, channels), 2: (side, side, 1)}[s.pick(0, 1, 2)]
    a, b, y = s.tensor(shape, s.bits()), s.tensor(other, s.bits()), s.tensor(shape, s.bits())
    low = y.low + s.pick(0, 1) * math.ceil(y.high / 8)
    s.add(Multiply(s.name, (a.name, b.name), y.name, np.array(0.01, np.float32), low, y.high))


register(
    Rule(
        _multiply,
        _torch,
        _reach,
        clamped=True,
        any_size=True,
        check=_check,
        example=_example,
        tflite=TfliteForm("MUL", ("mul", "Mul", "multiply"), "MulOptions", ("FusedActivationFunction",)),
    ),
    "Mul",
)
