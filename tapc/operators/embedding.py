"""Embedding: rows of a table that tokens choose, at 2, 4 or 8 bits.

A canonical graph spells it GatherND(table (V, D), tokens (1, 1, T, 1)) with a Transpose behind it to (1, D, 1, T).
What a token beyond the table gives is not defined, as in ONNX; the kernel does not check it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.graph.analysis import Graph
from tapc.graph.example import Example
from tapc.graph.rules import Rule, TorchStep, Within, register
from tapc.ir.channels import Bounds
from tapc.ir.lowering import Lowering
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.embedding import EmbeddingSpec
from tapc.kernels.packing import row_bytes
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.operators.common import as_words, check_ratios, clamp, factors, quick


@dataclass(frozen=True, eq=False)
class Embedding(Op):
    """Rows of a table that tokens choose.

    Attributes
    ----------
    table : ndarray of int8, shape (V, D)
    w_bits : {2, 4, 8}
    ratios : ndarray, shape (D,)
        Scale of each column over that of the result.
    low, high : int
        Clamp bounds.
    """

    table: NDArray[np.int8]
    w_bits: int
    ratios: Ratios
    low: int
    high: int

    @property
    def weight_bits(self) -> int:
        return self.w_bits

    def kind(self, spec: KernelSpec) -> str:
        return "embedding"

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratios, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y, tokens = program.tensors[self.output], x[0].reshape(len(x[0]), *program.tensors[self.output].shape[:2])
        m = arithmetic.multipliers(self.ratios, program.mode)
        codes = arithmetic.requantize(self.table.astype(np.int64), m, y.zero, self.low, self.high)
        found: Ints = codes[tokens]
        return found

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        y = program.tensors[self.output]
        tokens = np.arange(len(self.table)).repeat(y.shape[0] * y.shape[1]).reshape(-1, *y.shape[:2])
        codes = self.reference(program, [tokens])
        return Bounds(codes.min(axis=0), codes.max(axis=0))

    def with_bits(self, program: Program, weights: Mapping[str, int], changed: Callable[[Tensor], Tensor]) -> Self:
        y, bits = program.tensors[self.output], weights.get(self.name, self.w_bits)
        table, ratios = self.table, self.ratios
        if bits < self.w_bits:
            factor = ((1 << (self.w_bits - 1)) - 1) / ((1 << (bits - 1)) - 1)
            table, ratios = np.rint(table / factor).astype(np.int8), ratios * ratios.dtype.type(factor)
        new = changed(y)
        low, high = (new.low, new.high) if (self.low, self.high) == (y.low, y.high) else (self.low, self.high)
        return replace(self, table=table, w_bits=bits, ratios=ratios, low=low, high=high)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        y = program.tensors[self.output]
        own = quick(program, self.ratios, 1 << (self.w_bits - 1))
        spec = EmbeddingSpec(y.plane, self.w_bits, program.mode, own)
        table = Constant("w", -(-len(self.table) * spec.row // 4), lambda: as_words(packed(self.table, self.w_bits)))
        constants = {"table": table, "s": factors(self.ratios, program.mode)}
        tensors = {"x": self.inputs[0], "y": self.output}
        return [Step(self, spec, tensors, constants, clamp(y, self.low, self.high))]


def packed(table: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """Return rows of bytes, shape (V, bytes), of codes (V, D): the lowest bits of a byte are the first of its codes."""
    per_byte = 8 // bits
    wide = np.pad(table, ((0, 0), (0, row_bytes(table.shape[1], bits) * per_byte - table.shape[1]))).astype(np.int64)
    fields = (wide & ((1 << bits) - 1)).reshape(len(table), -1, per_byte) << (np.arange(per_byte) * bits)
    rows: NDArray[np.int8] = fields.sum(axis=2).astype(np.uint8).view(np.int8)
    return rows


def _lower(lowering: Lowering, node: onnx.NodeProto) -> None:
    codes, scales, bits = lowering.graph.dequantized_constant(node.input[0])

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratios = arithmetic_of(lowering.mode).ratios((scales,), y.scale)
        ratios = np.broadcast_to(ratios, codes.shape[1:]).copy()
        return Embedding(node.name, (node.input[1],), key, codes.astype(np.int8), bits, ratios, low, high)

    lowering.add(node, make)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch
    from torch.nn import functional

    def step(operands: list[Any]) -> Any:
        tokens, weight, _ = operands
        rows = functional.embedding(tokens[..., 0].long(), weight.t())
        # Tokens have no gradient; what lies behind them may be asked for its own.
        return rows.requires_grad_() if torch.is_grad_enabled() and not rows.requires_grad else rows

    return step


@samples("embedding", 1.0)
def _sample(s: Sampler) -> None:
    tokens, rows, features = s.pick(2, 3, 5, 12), s.pick(4, 30), s.pick(1, 3, 4, 7, 10, 16, 32)
    bits = s.pick(2, 4, 8)
    half = 1 << (bits - 1)
    x, y = s.tokens(tokens, rows), s.tensor((1, tokens, features), 8)
    table = s.rng.integers(-half, half, (rows, features)).astype(np.int8)
    # Some all below a quarter.
    ratios = s.rng.uniform(*((0.02, 0.24) if s.rng.random() < 0.3 else (0.2, 1.2)), features).astype(np.float32)
    s.add(Embedding(s.name, (x.name,), y.name, table, bits, ratios, y.low, y.high))


def _within(graph: Graph, node: onnx.NodeProto) -> Within:
    """Return the Transpose behind an embedding."""
    return [], graph.consumers[node.output[0]][:1]


def _example(e: Example, op: str) -> str:
    rows, features = e.pick(1, 2, 7, 30), e.pick(1, 2, 3, 8, 9, 17)
    table, tokens = e.constant(e.normal((rows, features), 1.0)), e.tokens(e.pick(1, 2, 7), rows)
    return e.node("Transpose", e.node(op, table, tokens), perm=[0, 3, 1, 2])


register(Rule(_lower, _torch, table=True, only_8_bits=True, within=_within, example=_example), "GatherND")
