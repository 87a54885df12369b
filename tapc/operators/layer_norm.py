"""Normalization of each pixel over its channels, with or without their mean."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from tapc.kernels.spec import KernelSpec
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
    mean : bool
        The mean is taken out; otherwise values are divided by the root of their mean square.
    """

    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    epsilon: float
    mean: bool = True

    def kind(self, spec: KernelSpec) -> str:
        return "layernorm" if self.mean else "rmsnorm"

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        norm_factors(self.gain, self.offset, self.epsilon, tensors[self.inputs[0]].scale, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        source, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        f = norm_factors(self.gain, self.offset, self.epsilon, source.scale, program.mode)
        return normalize(x[0] if self.mean else x[0] - source.zero, f, y.zero, y.low, y.high, mean=self.mean)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        alike = len(np.unique(self.gain)) == len(np.unique(self.offset)) == 1
        spec = LayerNormSpec(x.plane, y.plane, program.mode, self.mean, alike)
        f = norm_factors(self.gain, self.offset, self.epsilon, x.scale, program.mode)
        count = 1 if alike else len(f.gain)
        constants = {
            "s": Constant("s", count, lambda: f.gain[:count]),
            "bias": Constant("b", count, lambda: f.offset[:count]),
        }
        scalars = {"epsilon": f.epsilon, "shift": f.shift, "pad": x.zero, **clamp(y, y.low, y.high)}
        distance = {self.inputs[0]: Overlap(0)}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars, distance)]


def _layer_norm(lowering: Lowering, node: onnx.NodeProto) -> None:
    source = lowering.graph.quantized(node.input[0])
    gain, *rest = (lowering.graph.constant(name).astype(np.float32) for name in node.input[1:3] if name)
    offset, mean = rest[0] if rest else np.zeros_like(gain), node.op_type == "LayerNormalization"
    epsilon = next((float(a.f) for a in node.attribute if a.name == "epsilon"), 1e-5)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        scale = np.float32(y.scale)
        return LayerNorm(node.name, (source,), key, gain / scale, offset / scale, epsilon, mean)

    lowering.add(node, make)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch
    from torch.nn import functional

    weight, *rest = (torch.tensor(graph.constants[name], dtype=dtype) for name in node.input[1:3] if name)
    epsilon = float(attribute(node, "epsilon", 1e-5))
    if node.op_type == "RMSNormalization":
        return lambda operands: functional.rms_norm(operands[0], weight.shape, weight, epsilon)
    bias = rest[0] if rest else None
    return lambda operands: functional.layer_norm(operands[0], weight.shape, weight, bias, epsilon)


@samples("transformer", 1.0)
def _sample(s: Sampler) -> None:
    shape = (side := s.pick(2, 3, 5, 8), side, s.pick(1, 2, 3) * s.pick(8, 16, 24, 32))
    x, y, gain = s.tensor(shape, 8), s.tensor(shape, 8), s.rng.uniform(10, 60, shape[2]).astype(np.float32)
    s.add(LayerNorm(s.name, (x.name,), y.name, gain, gain, 1e-5))


@samples("normalization", 1.0)
def _sample_others(s: Sampler) -> None:
    shape = (side := s.pick(2, 3, 5, 8), side, s.pick(1, 1, 2, 5, 8, 16, 24, 32, 48, 64, 96))
    x, y, gain = s.tensor(shape, 8), s.tensor(shape, 8), s.rng.uniform(10, 60, shape[2]).astype(np.float32)
    mean, alike = s.pick(0, 1), s.pick(0, 1)
    gain = np.full_like(gain, 30) if alike or mean else gain
    s.add(LayerNorm(s.name, (x.name,), y.name, gain, gain, 1e-5, bool(mean)))


def _example(e: Example, op: str) -> str:
    channels, height, width = e.shape()
    gain, offset = e.constant(1 + e.normal((channels,), 0.3)), e.constant(e.normal((channels,), 0.3))
    if e.pick(0, 1):
        gain = e.constant(np.full(channels, e.pick(0.2, 1, 3), np.float32))
    parts = [gain, *([offset] if e.pick(0, 1) else [])]
    if op == "RMSNormalization":
        e.opset, parts = 23, [gain]
    x = e.node("Transpose", e.map(channels, height, width), perm=[0, 2, 3, 1])
    y = e.node(op, x, *parts, axis=-1, epsilon=e.pick(1e-6, 1e-5, 1e-3))
    return e.node("Transpose", y, perm=[0, 3, 1, 2])


def within(graph: Graph, node: onnx.NodeProto) -> Within:
    """Return the Transpose before a normalization, and that behind it."""
    before = graph.producer.get(node.input[0])
    return ([] if before is None else [before]), graph.consumers[node.output[0]][:1]


_RULE = Rule(_layer_norm, _torch, only_8_bits=True, within=within, example=_example)
register(_RULE, "LayerNormalization")
register(replace(_RULE, opset=23), "RMSNormalization")
