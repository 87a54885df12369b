"""PRelu: x where it is positive, elsewhere x times the slope of its channel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.bands import ROW, RowWindow
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.overlap import Overlap, elementwise_distance
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.prelu import PreluSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.binary import constant_codes
from tapc.operators.common import LARGEST, as_words, check_ratios, clamp, factors, keep_alike, quick
from tapc.operators.lookup import lower_function

_FLOAT32 = 2.0**-22
"""What a product and a quotient of float32 may be beside, doubled."""


@dataclass(frozen=True, eq=False)
class PRelu(Op):
    """Codes below the zero point are multiplied by a slope per channel.

    Attributes
    ----------
    slopes : ndarray of int8, shape (C,)
    scale : float
        Of the slopes.
    zero : int
        Their zero point.
    low, high : int
        Clamp bounds.
    """

    slopes: NDArray[np.int8]
    scale: float
    zero: int
    low: int
    high: int

    def _ratios(self, tensors: Mapping[str, Tensor], mode: Mode) -> Ratios:
        x, y, own = tensors[self.inputs[0]], tensors[self.output], arithmetic_of(mode)
        return np.array([own.ratios((x.scale,), y.scale), own.ratios((x.scale, self.scale), y.scale)])

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self._ratios(tensors, mode), mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y, value = program.tensors[self.output], x[0] - program.tensors[self.inputs[0]].zero
        m = arithmetic.multipliers(self._ratios(program.tensors, program.mode), program.mode)
        negative = (value < 0).astype(np.int64)
        acc = np.where(negative, value * (self.slopes.astype(np.int64) - self.zero), value)
        return arithmetic.requantize(acc, m[negative], y.zero, self.low, self.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        zero, (bound,) = program.tensors[self.inputs[0]].zero, x
        # Between its ends it turns at zero alone.
        places = bound.low, bound.high, np.clip(zero, bound.low, bound.high)
        found = [self.reference(program, [place[None]])[0] for place in places]
        return Bounds(np.minimum.reduce(found), np.maximum.reduce(found))

    def keep(self, kept: Kept) -> None:
        keep_alike(self, kept)

    def sliced(self, kept: Kept) -> Self:
        return replace(self, slopes=np.ascontiguousarray(self.slopes[kept.masks[self.output]]))

    def row_windows(self, program: Program) -> tuple[RowWindow, ...] | None:
        return (ROW,)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        ratios = self._ratios(program.tensors, program.mode)
        clamped, own = self.low > y.low or self.high < y.high, quick(program, ratios, LARGEST**2)
        spec = PreluSpec(x.plane, y.plane, program.mode, clamped, own)
        constants = {
            "slope": Constant("m", -(-self.slopes.size // 4), lambda: as_words(self.slopes)),
            "s": factors(ratios, program.mode),
        }
        scalars = {"pad": x.zero, "slope_zero": self.zero, **clamp(y, self.low, self.high)}
        distance = elementwise_distance(x.plane, y.plane)
        overlap = {} if distance is None else {self.inputs[0]: Overlap(distance)}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars, overlap)]


@write.register
def _write(op: PRelu, file: TfliteFile) -> None:
    clamp = file.clamped(op.output, op.low, op.high, fused=False)
    # vela multiplies scales in float32: what that may change is left to the CPU, by scales for each channel.
    scale = op.scale if _is_steady(op, file.program) else np.full(op.slopes.size, op.scale)
    slopes = file.constant(op.slopes[None, None], scale, 2, zero=op.zero)
    file.node("PRELU", [file.tensor(op.inputs[0]), slopes], clamp.output)
    file.finish(clamp)


def _is_steady(op: PRelu, program: Program) -> bool:
    """Whether no code depends on the last bits of the factors."""
    x, y, ratios = program.tensors[op.inputs[0]], program.tensors[op.output], op._ratios(program.tensors, program.mode)
    value = np.arange(x.low, x.high + 1)[:, None] - x.zero
    negative = np.broadcast_to((value < 0).astype(np.int64), (len(value), op.slopes.size))
    acc = np.where(negative, value * (op.slopes.astype(np.int64) - op.zero), value)
    found = []
    for ratio in (ratios * (1 - _FLOAT32), ratios * (1 + _FLOAT32)):
        m = arithmetic.multipliers(ratio, program.mode)
        found.append(arithmetic.requantize(acc, m[negative], y.zero, op.low, op.high))
    return np.array_equal(found[0], found[1])


def _values(x: Any, slope: Any) -> Any:
    return np.where(x > 0, x, slope * x)


def _prelu(lowering: Lowering, node: onnx.NodeProto) -> None:
    graph, x = lowering.graph, lowering.source(node)
    if node.input[1] in graph.constants:
        slope = float(graph.constant(node.input[1]).item())
        lower_function(lowering, node, lambda x: np.asarray(_values(x, slope)), "leaky relu", alpha=slope)
        return
    codes, scale, zero = constant_codes(lowering, node.input[1])
    slopes = np.broadcast_to(codes.reshape(-1), x.shape[2]).astype(np.int8)
    inputs = (graph.quantized(node.input[0]),)
    lowering.add(node, lambda y, key, low, high: PRelu(node.name, inputs, key, slopes, scale, zero, low, high))


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    slope, shape = graph.constants.get(node.input[1]), graph.shape(node.output[0])
    plain = slope is not None and slope.size in (1, shape[1])
    if slope is None or not plain or (slope.size > 1 and slope.shape[-len(shape) + 1] != shape[1]):
        raise UnsupportedError(f"node {node.name!r}: the slope of a PRelu is a constant of one value for each channel")


def _variant(graph: Graph, node: onnx.NodeProto) -> Rule:
    return replace(_RULE, only_8_bits=graph.constants[node.input[1]].size == 1)


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    x, slope = operands[0], np.broadcast_to(operands[1].low, len(operands[0].low))
    with np.errstate(invalid="ignore"):  # 0 times what has no bound
        ends = [np.nan_to_num(_values(v, slope), nan=0.0, posinf=np.inf, neginf=-np.inf) for v in (x.low, x.high)]
    turn = np.where((x.low < 0) & (x.high > 0), 0.0, ends[0])
    return Reach(np.minimum.reduce([*ends, turn]), np.maximum.reduce([*ends, turn]))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    slope = torch.tensor(graph.constants[node.input[1]], dtype=dtype)
    return lambda operands: torch.where(operands[0] > 0, operands[0], operands[0] * slope)


@samples("prelu", 1.0)
def _sample(s: Sampler) -> None:
    side, channels = s.pick(1, 3, 6, 8), s.pick(2, 5, 8, 16, 32)
    x = s.tensor((side, side, channels), s.bits())
    y = s.tensor(x.shape, s.bits(), **({"scale": 0.3} if s.pick(0, 1) else {}))
    slopes = s.rng.integers(-127, 128, channels).astype(np.int8)
    low = y.low + s.pick(0, 1) * -(-y.high // 8)
    s.add(PRelu(s.name, (x.name,), y.name, slopes, 0.005, 0, low, y.high))


def _example(e: Example, op: str) -> str:
    channels, height, width = e.shape()
    if not e.pick(0, 1, 2):
        return e.activation(e.node(op, e.vector(channels), e.constant(e.normal((channels,), 0.5))))
    slope = e.normal(e.pick((1,), (channels, 1, 1), (channels, 1, 1)), e.pick(0.1, 0.5, 2))
    return e.activation(e.node(op, e.map(channels, height, width), e.constant(slope)))


_RULE = Rule(
    _prelu, _torch, _reach, clamped=True, maps=True, any_size=True, variant=_variant, check=_check, example=_example
)
register(_RULE, "PRelu")
