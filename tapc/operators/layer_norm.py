"""Normalization of each pixel over its channels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints, Mode, norm_factors, normalize
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.rules import Rule, TorchStep, Within, register
from tapc.ir.lowering import Lowering
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.layer_norm import LayerNormSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.common import clamp


@dataclass(frozen=True, eq=False)
class LayerNorm(Op):
    """Normalization of each pixel over its channels, see `tapc.base.arithmetic`.

    Attributes
    ----------
    gain, offset : ndarray of float32, shape (C,)
        Scale and shift over the output's scale.
    epsilon : float
        What is added to the variance.
    """

    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    epsilon: float

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        norm_factors(self.gain, self.offset, self.epsilon, tensors[self.inputs[0]].scale, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y, scale = program.tensors[self.output], program.tensors[self.inputs[0]].scale
        f = norm_factors(self.gain, self.offset, self.epsilon, scale, program.mode)
        return normalize(x[0], f, y.zero, y.low, y.high)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        spec = LayerNormSpec(x.plane, y.plane, program.mode)
        f = norm_factors(self.gain, self.offset, self.epsilon, x.scale, program.mode)
        constants = {
            "s": Constant("s", len(f.gain), lambda: f.gain),
            "bias": Constant("b", len(f.offset), lambda: f.offset),
        }
        scalars = {"epsilon": f.epsilon, "shift": f.shift, **clamp(y, y.low, y.high)}
        distance = {self.inputs[0]: Overlap(0)}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars, distance)]


def _layer_norm(lowering: Lowering, node: onnx.NodeProto) -> None:
    source = lowering.graph.quantized(node.input[0])
    gain, offset = (lowering.graph.constant(name).astype(np.float32) for name in node.input[1:3])
    epsilon = next((float(a.f) for a in node.attribute if a.name == "epsilon"), 1e-5)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        scale = np.float32(y.scale)
        return LayerNorm(node.name, (source,), key, gain / scale, offset / scale, epsilon)

    lowering.add(node, make)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch
    from torch.nn import functional

    weight, bias = (torch.tensor(graph.constants[name], dtype=dtype) for name in node.input[1:3])
    epsilon = float(attribute(node, "epsilon", 1e-5))
    return lambda operands: functional.layer_norm(operands[0], weight.shape, weight, bias, epsilon)


@samples("transformer", 1.0)
def _sample(s: Sampler) -> None:
    shape = (side := s.pick(2, 3, 5, 8), side, s.pick(1, 2, 3) * s.pick(8, 16, 24, 32))
    x, y, gain = s.tensor(shape, 8), s.tensor(shape, 8), s.rng.uniform(10, 60, shape[2]).astype(np.float32)
    s.add(LayerNorm(s.name, (x.name,), y.name, gain, gain, 1e-5))


def _example(e: Example, op: str) -> str:
    channels = e.pick(2, 3, 8, 17)
    gain, offset = e.constant(1 + e.normal((channels,), 0.3)), e.constant(e.normal((channels,), 0.3))
    x = e.node("Transpose", e.map(channels, e.pick(1, 5), e.pick(2, 4)), perm=[0, 2, 3, 1])
    return e.node("Transpose", e.node(op, x, gain, offset, axis=-1, epsilon=e.pick(1e-5, 1e-3)), perm=[0, 3, 1, 2])


def within(graph: Graph, node: onnx.NodeProto) -> Within:
    """Return the Transpose before a normalization, and that behind it."""
    before = graph.producer.get(node.input[0])
    return ([] if before is None else [before]), graph.consumers[node.output[0]][:1]


register(Rule(_layer_norm, _torch, only_8_bits=True, within=within, example=_example), "LayerNormalization")
