"""Products of two activations, batch by batch; those of queries, keys and values are attention.

A batch of rows (B, M, K) lies as a map (1, K, B, M), the columns (B, K, N) as (1, K, B, N), the products (B, M, N) as
(1, N, B, M): what is multiplied lies side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.rules import Rule, TorchStep, Within, register
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import Point, TfliteFile, write
from tapc.ir.tflite_product import exact_scales, product, relabelled
from tapc.kernels.matmul import MatMulSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.attention import attention_example, attention_within, lower_attention
from tapc.operators.common import LARGEST, check_ratios, clamp, factors, quick

ROWS, COLUMNS, BACK = [0, 2, 3, 1], [0, 2, 1, 3], [0, 3, 1, 2]
"""What turns maps to batches, and products to a map."""


@dataclass(frozen=True, eq=False)
class MatMul(Op):
    """Dot products of the pixels of two maps, row by row."""

    def _ratio(self, tensors: Mapping[str, Tensor], mode: Mode) -> Ratios:
        a, b, y = (tensors[name] for name in (*self.inputs, self.output))
        return np.atleast_1d(arithmetic_of(mode).ratios((a.scale, b.scale), y.scale))

    def macs(self, program: Program) -> int:
        return int(np.prod(program.tensors[self.output].shape)) * program.tensors[self.inputs[0]].shape[2]

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self._ratio(tensors, mode), mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        (a, b), y = (program.tensors[name] for name in self.inputs), program.tensors[self.output]
        left, right = (x[0] - a.zero).astype(np.float64), (x[1] - b.zero).astype(np.float64)
        acc = np.rint(left @ right.swapaxes(2, 3)).astype(np.int64)
        m = arithmetic.multipliers(self._ratio(program.tensors, program.mode), program.mode)
        return arithmetic.requantize(acc, m, y.zero, y.low, y.high)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        a, b, y = (program.tensors[name] for name in (*self.inputs, self.output))
        ratio = self._ratio(program.tensors, program.mode)
        own = quick(program, ratio, a.shape[2] * LARGEST**2)
        spec = MatMulSpec(a.plane, b.plane, y.plane, program.mode, program.isa, own)
        scalars = {"x_zero": a.zero, "r_zero": b.zero, **clamp(y, y.low, y.high)}
        tensors = {"x": self.inputs[0], "r": self.inputs[1], "y": self.output}
        constants = {"s": factors(ratio, program.mode)}
        return [Step(self, spec, tensors, constants, scalars)]


@write.register
def _write(op: MatMul, file: TfliteFile) -> None:
    a, b, y = (file.program.tensors[name] for name in (*op.inputs, op.output))
    *scales, over = exact_scales(a.scale, b.scale, y.scale)
    left, right = (
        relabelled(file, file.tensor(name), own.shape, Point(scale, own.zero))
        for name, own, scale in zip(op.inputs, (a, b), scales, strict=True)
    )
    made = product(file, (left, right), y.shape, Point(over, y.zero), across=True)
    relabelled(file, made, y.shape, Point(y.scale, y.zero), file.tensor(op.output))


def _turns(node: onnx.NodeProto | None) -> bool:
    """Whether a node turns a map to the rows of a batch."""
    return node is not None and node.op_type == "Transpose" and list(attribute(node, "perm", ())) == ROWS


def _lower(lowering: Lowering, node: onnx.NodeProto) -> None:
    if not _turns(lowering.graph.producer.get(node.input[0])):
        lower_attention(lowering, node)
        return
    depth = lowering.source(node).shape[2]
    if depth * 255**2 >= 2**30:  # room for what the zero points take
        raise UnsupportedError(f"node {node.name!r}: sums of {depth} products may go beyond int32")
    inputs = tuple(lowering.graph.quantized(name) for name in node.input)
    lowering.add(node, lambda y, key, low, high: MatMul(node.name, inputs, key))


def _within(graph: Graph, node: onnx.NodeProto) -> Within:
    """Return what turns maps to batches, and products back to a map; or what attention has there."""
    before = [graph.producer.get(name) for name in node.input]
    if not _turns(before[0]):
        return attention_within(graph, node)
    return [step for step in before if step is not None], graph.consumers[node.output[0]][:1]


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return lambda operands: operands[0] @ operands[-1]


def _example(e: Example, op: str) -> str:
    if e.pick(0, 1):
        return attention_example(e, op)
    depth, batch, rows, columns = e.pick(1, 3, 4, 7, 8, 17, 33), e.pick(1, 2, 3), e.pick(1, 2, 4, 5), e.pick(1, 3, 6, 9)
    a = e.node("Transpose", e.map(depth, batch, rows), perm=ROWS)
    b = e.node("Transpose", e.map(depth, batch, columns), perm=COLUMNS)
    return e.node("Transpose", e.node(op, a, b), perm=BACK)


@samples("matmul", 1.0)
def _sample(s: Sampler) -> None:
    batch, depth, rows, columns = s.pick(1, 2, 4), s.pick(3, 8, 16, 21, 32, 64), s.pick(2, 5, 8), s.pick(3, 5, 8)
    a, b, y = (s.tensor(shape, 8) for shape in ((batch, rows, depth), (batch, columns, depth), (batch, rows, columns)))
    s.add(MatMul(s.name, (a.name, b.name), y.name))


register(Rule(_lower, _torch, only_8_bits=True, within=_within, example=_example), "MatMul")
