"""Each pixel's channels divided by their length."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tapc.base.arithmetic import Ints, arithmetic_of, requantize
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import CHANNELS, Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.lowering import Lowering
from tapc.ir.overlap import Overlap
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.kernels.unit import UnitSpec
from tapc.operators.common import clamp
from tapc.operators.layer_norm import LayerNorm

_LEAST = 1e-12
"""What is added to the mean square: a length of zero makes zeros of zeros."""


@dataclass(frozen=True, eq=False)
class Unit(Op):
    """Each pixel's channels over their length, in integers of the arithmetic's own."""

    def kind(self, spec: KernelSpec) -> str:
        return "rmsnorm"

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        source, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        centred = x[0] - source.zero
        factors = arithmetic_of(program.mode).lengths((centred**2).sum(axis=-1, keepdims=True))
        return requantize(centred, factors, y.zero, y.low, y.high)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        spec, scalars = UnitSpec(x.plane, y.plane, program.mode), {"pad": x.zero, **clamp(y, y.low, y.high)}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, {}, scalars, {self.inputs[0]: Overlap(0)})]


@write.register
def _write(op: Unit, file: TfliteFile) -> None:
    file.node("L2_NORMALIZATION", [file.tensor(op.inputs[0])], file.tensor(op.output), "L2NormOptions", 2)


@samples("normalization", 0.5)
def _sample(s: Sampler) -> None:
    """Draw one in integers of the arithmetic's own, or nothing: others are normalizations."""
    levels = arithmetic_of(s.mode).unit_levels
    if levels:
        x, y = s.tensor(s.map(), 8), 1 / levels
        s.add(Unit(s.name, (x.name,), s.tensor(x.shape, 8, scale=y, zero=0).name))


def _lp_norm(lowering: Lowering, node: onnx.NodeProto) -> None:
    source, channels = lowering.graph.quantized(node.input[0]), lowering.source(node).shape[2]

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        levels = arithmetic_of(lowering.mode).unit_levels
        if levels and y.quantization == (1 / levels, 0):
            return Unit(node.name, (source,), key)
        # The length is the root of the mean square times that of the channels.
        gain = np.full(channels, 1 / math.sqrt(channels) / y.scale, np.float32)
        return LayerNorm(node.name, (source,), key, gain, np.zeros(channels, np.float32), _LEAST, mean=False)

    lowering.add(node, make)


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    rank = len(graph.shape(node.output[0]))
    if int(attribute(node, "axis", -1)) % rank != 1 or int(attribute(node, "p", 2)) != 2:
        raise UnsupportedError(f"node {node.name!r}: a canonical LpNormalization has axis 1 and p=2")


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    channels = len(operands[0].low)
    return Reach(np.full(channels, -1.0), np.ones(channels))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    from torch.nn import functional

    return lambda operands: functional.normalize(operands[0], dim=1)


def _example(e: Example, op: str) -> str:
    if e.pick(0, 1):
        return e.node(op, e.vector(e.pick(*CHANNELS, 100)), axis=e.pick(1, -1), p=2)
    return e.node(op, e.map(*e.shape()), axis=e.pick(1, -3), p=2)


register(
    Rule(_lp_norm, _torch, _reach, only_8_bits=True, keeps_sign=True, any_size=True, check=_check, example=_example),
    "LpNormalization",
)
