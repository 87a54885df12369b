"""Change of scale, bits or range: a QuantizeLinear of what is quantized already, a Relu or Clip on its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from tapc.base.arithmetic import Ints, Mode, Ratios
from tapc.graph.analysis import Graph
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.bands import ROW, RowWindow
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering, lowers
from tapc.ir.overlap import elementwise_distance
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.schedule import Schedule
from tapc.operators.common import check_ratios, keep_alike, monotone, move, rescaled, scale_ratio, small_shape
from tapc.operators.wide import Wide


@dataclass(frozen=True, eq=False)
class Requantize(Op):
    """Change of scale, bits or range.

    Attributes
    ----------
    ratio : ndarray, shape ()
        Scale of the input over that of the output.
    low, high : int
        Clamp bounds.
    """

    ratio: Ratios
    low: int
    high: int

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratio, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        return rescaled(program, x[0], self.inputs[0], self.output, self.ratio, self.low, self.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        keep_alike(self, kept)

    def row_windows(self, program: Program) -> tuple[RowWindow, ...] | None:
        return (ROW,)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        ends = (self.low, self.high)
        return [move(program, self, self.inputs[0], self.ratio, ends, elementwise_distance(x.plane, y.plane))]


@write.register
def _write(op: Requantize, file: TfliteFile) -> None:
    clamp = file.clamped(op.output, op.low, op.high, fused=False)
    file.node("QUANTIZE", [file.tensor(op.inputs[0])], clamp.output, "QuantizeOptions", 2)
    file.finish(clamp)


def _rescale(
    lowering: Lowering,
    source: str,
    name: str,
    quantize: onnx.NodeProto,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> None:
    y, key = lowering.tensor(quantize), quantize.output[0]
    lowering.tensors[key] = y
    if 16 in (y.bits, lowering.tensors[source].bits):
        lowering.ops.append(Wide(name, (source,), key, "scale", *lowering.codes(y, bounds)))
        return
    ratio = scale_ratio(lowering.tensors[source], y, lowering.mode)
    lowering.ops.append(Requantize(name, (source,), key, ratio, *lowering.codes(y, bounds)))


@lowers("QuantizeLinear")
def _quantize(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Lower the network's input or a change of scale; the end of another operator is its own."""
    producer = lowering.graph.producer.get(node.input[0])
    if producer is None:
        lowering.tensors[node.output[0]] = lowering.tensor(node)
    elif producer.op_type == "DequantizeLinear":
        _rescale(lowering, producer.input[0], node.name, node)


def _clip(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Lower a Relu or Clip that does not follow another operator directly."""
    if node.name in lowering.skip:
        return
    quantize = lowering.graph.consumers[node.output[0]][0]
    source = lowering.graph.quantized(node.input[0])
    _rescale(lowering, source, node.name, quantize, lowering.bounds(node, (-np.inf, np.inf)))


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    low, high = graph.bounds(node)
    ends = (-np.inf if low is None else low, np.inf if high is None else high)
    return Reach(*(np.clip(bound, *ends) for bound in (operands[0].low, operands[0].high)))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    low, high = graph.bounds(node)
    return lambda operands: operands[0].clamp(low, high)


def _torch_relu(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return lambda operands: operands[0].relu()


@samples("network", 0.048)
def _sample(s: Sampler) -> None:
    shape = small_shape(s)
    x, y = s.tensor(shape, s.bits()), s.tensor(shape, s.bits())
    s.add(Requantize(s.name, (x.name,), y.name, np.array(0.5, np.float32), y.low, y.high))


@samples("copies", 0.6)
def _sample_copies(s: Sampler) -> None:
    shape, bits = s.map(), s.bits()
    x, y = s.tensor(shape, bits), s.tensor(shape, s.pick(bits, bits, s.bits()))
    ratio = 1.0 if x.bits == y.bits and s.pick(0, 1) else 0.5
    s.add(Requantize(s.name, (x.name,), y.name, np.array(ratio, np.float32), y.low, y.high))


def _example(e: Example, op: str) -> str:
    x = e.any()
    if e.pick(0, 1):
        # A sum of means has a clamp of its own; behind a pooling an activation stands alone.
        x = e.node("MaxPool", e.map(*e.shape()), kernel_shape=[1, 1])
    if op == "Relu":
        return e.node(op, x)
    low, high = (e.constant(np.float32(v)) for v in (e.pick(-1, -0.1, 0), e.pick(0.3, 6)))
    return e.node(op, x, *e.pick((low, high), (low, high), (low,), ("", high)))


_CLIP = Rule(_clip, _torch, _reach, activation=True, scales=True, wide=True, any_size=True, example=_example)
register(replace(_CLIP, torch=_torch_relu, elementwise=True), "Relu")
register(_CLIP, "Clip")
