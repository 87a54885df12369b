"""Spatial padding with zeros."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tapc.base.arithmetic import Ints, Mode, Ratios
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.schedule import Schedule
from tapc.operators.common import check_ratios, keep_alike, monotone, move, rescaled, scale_ratio, small_shape


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """Spatial zero padding (top, left, bottom, right)."""

    pads: tuple[int, int, int, int]
    ratio: Ratios

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratio, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y = program.tensors[self.output]
        top, left, bottom, right = self.pads
        codes = rescaled(program, x[0], self.inputs[0], self.output, self.ratio, y.low, y.high)
        return np.pad(codes, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=y.zero)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        keep_alike(self, kept)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        y = program.tensors[self.output]
        where = {"row": self.pads[0], "column": self.pads[1], "fill": True}
        return [move(program, self, self.inputs[0], self.ratio, (y.low, y.high), None, **where)]


def _pad(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, pads = lowering.source(node), lowering.graph.constant(node.input[1]).tolist()

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratio = scale_ratio(x, y, lowering.mode)
        spatial = (pads[2], pads[3], pads[6], pads[7])
        return Pad(node.name, (lowering.graph.quantized(node.input[0]),), key, spatial, ratio)

    lowering.add(node, make)


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    return operands[0].with_zero()


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    from torch.nn import functional

    mode = attribute(node, "mode", b"constant")
    if mode not in (b"constant", "constant") or (len(node.input) > 3 and node.input[3]):
        raise UnsupportedError(f"node {node.name!r}: a canonical Pad is constant and names no axes")
    pads = graph.constants[node.input[1]].tolist()
    value = float(graph.constants[node.input[2]].item()) if len(node.input) > 2 and node.input[2] else 0.0
    rank = len(pads) // 2
    # ONNX lists the axes from the first, begins before ends; torch from the last, begin and end together.
    order = [extent for axis in reversed(range(rank)) for extent in (pads[axis], pads[axis + rank])]
    return lambda operands: functional.pad(operands[0], order, value=value)


@samples("network", 0.048)
def _sample(s: Sampler) -> None:
    height, width, channels = shape = small_shape(s)
    x, y = s.tensor(shape, s.bits()), s.tensor((height + 2, width + 1, channels), s.bits())
    s.add(Pad(s.name, (x.name,), y.name, (1, 0, 1, 1), np.array(0.5, np.float32)))


def _example(e: Example, op: str) -> str:
    ends = [0, 0, e.pick(0, 1), e.pick(1, 2), 0, 0, e.pick(0, 2), e.pick(0, 1)]
    x = e.map(e.pick(1, 3, 8), e.pick(1, 5), e.pick(1, 4))
    return e.node(op, x, e.constant(np.array(ends)), e.constant(np.float32(0)), mode="constant")


register(Rule(_pad, _torch, _reach, repeats=True, scales=True, keeps_sign=True, any_size=True, example=_example), "Pad")
