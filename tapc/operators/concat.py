"""Concatenation along channels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tapc.base.arithmetic import Ints, Mode, Ratios
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.schedule import Schedule
from tapc.operators.common import check_ratios, monotone, move, rescaled, scale_ratio, small_shape


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Concatenation along channels; one ratio per input."""

    ratios: tuple[Ratios, ...]
    low: int
    high: int

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratios, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        parts = [
            rescaled(program, codes, name, self.output, ratio, self.low, self.high)
            for codes, name, ratio in zip(x, self.inputs, self.ratios, strict=True)
        ]
        return np.concatenate(parts, axis=-1)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        start = 0
        for name in self.inputs:
            mask = kept.masks[name]
            kept.couple(mask, kept.masks[self.output][start : start + len(mask)])
            start += len(mask)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        steps, channel = [], 0
        for name, ratio in zip(self.inputs, self.ratios, strict=True):
            steps.append(move(program, self, name, ratio, (self.low, self.high), None, channel=channel))
            channel += program.tensors[name].shape[2]
        return steps


def _concat(lowering: Lowering, node: onnx.NodeProto) -> None:
    inputs = tuple(lowering.graph.quantized(name) for name in node.input)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratios = tuple(scale_ratio(lowering.tensors[n], y, lowering.mode) for n in inputs)
        return Concat(node.name, inputs, key, ratios, low, high)

    lowering.add(node, make)


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    return Reach(*(np.concatenate(ends) for ends in ([p.low for p in operands], [p.high for p in operands])))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    axis = int(attribute(node, "axis", 1))
    return lambda operands: torch.cat(operands, axis)


@samples("network", 0.048)
def _sample(s: Sampler) -> None:
    height, width, channels = shape = small_shape(s)
    half, parts = np.array(0.5, np.float32), (s.tensor(shape, s.bits()), s.tensor(shape, s.bits()))
    y = s.tensor((height, width, 2 * channels), parts[1].bits)
    s.add(Concat(s.name, tuple(part.name for part in parts), y.name, (half, half), y.low, y.high))


def _example(e: Example, op: str) -> str:
    height, width = e.pick(1, 4, 7), e.pick(1, 3, 8)
    return e.node(op, *(e.map(e.pick(1, 3, 4, 8), height, width) for _ in range(e.pick(2, 3))), axis=1)


register(Rule(_concat, _torch, _reach, joins=True, any_size=True, example=_example), "Concat")
