"""Attention: softmax(q k^T) v, from the two products and the softmax between them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of, softmax_form
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.example import Example
from tapc.graph.rules import Within
from tapc.ir.lowering import Lowering
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import Point, TfliteFile, write
from tapc.ir.tflite_product import exact_scales, product, relabelled, turned
from tapc.kernels.attention import AttentionSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.common import LARGEST, Scalars, check_ratios, clamp, factors, quick


@dataclass(frozen=True, eq=False)
class Scores:
    """What attention holds for a moment: the products of queries and keys, and their softmax.

    Attributes
    ----------
    score, weight : Tensor
        Quantization before and after the softmax.
    ratios : ndarray, shape (2,)
        Accumulator to score, and to result.
    table : ndarray of uint32
        Exponentials of score differences.
    levels : int
        1 / scale of `weight`.
    """

    score: Tensor
    weight: Tensor
    ratios: Ratios
    table: NDArray[np.uint32]
    levels: int

    def __str__(self) -> str:
        return f"[{self.score} then {self.weight}]"


@dataclass(frozen=True, eq=False)
class Attention(Op):
    """Softmax(q k^T) v; inputs are queries, keys and values, (H, W, heads * channels of a head)."""

    heads: int
    scores: Scores

    def macs(self, program: Program) -> int:
        height, width, channels = program.tensors[self.output].shape
        return 2 * (height * width) ** 2 * channels

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.scores.ratios, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y, scores = program.tensors[self.output], self.scores
        n, height, width, channels = x[0].shape
        split = (n, height * width, self.heads, channels // self.heads)
        q, k, v = (
            (codes - program.tensors[name].zero).reshape(split).astype(np.float64)
            for codes, name in zip(x, self.inputs, strict=True)
        )
        m = arithmetic.multipliers(scores.ratios, program.mode)
        first, second = m[:1], m[1:]
        acc = np.rint(np.einsum("nqhc,nkhc->nhqk", q, k, optimize=True)).astype(np.int64)
        codes = arithmetic.requantize(acc, first, scores.score.zero, scores.score.low, scores.score.high)
        weight = scores.weight
        form = softmax_form(program.mode, scores.levels, weight.zero)
        weights = arithmetic.softmax(codes, scores.table, scores.levels, weight.zero, weight.low, weight.high, form)
        sums = np.einsum("nhqk,nkhc->nqhc", (weights - weight.zero).astype(np.float64), v, optimize=True)
        acc = np.rint(sums).astype(np.int64).reshape(x[0].shape)
        return arithmetic.requantize(acc, second, y.zero, y.low, y.high)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        q, k, v, y = (program.tensors[name] for name in (*self.inputs, self.output))
        scores = self.scores
        form = softmax_form(program.mode, scores.levels, scores.weight.zero)
        # Codes less their zero points: products of a head's channels, and of weights and values of all tokens.
        terms = (q.shape[2] // self.heads, q.shape[0] * q.shape[1])
        ways = (quick(program, scores.ratios[i], terms[i] * LARGEST**2) for i in range(2))
        spec = AttentionSpec(q.plane, self.heads, scores.levels, program.mode, form, *ways)
        constants = {
            "s": factors(scores.ratios, program.mode),
            "table": Constant("t", len(scores.table), lambda: scores.table),
        }
        zeros = {"x_zero": q.zero, "k_zero": k.zero, "v_zero": v.zero, "score_zero": scores.score.zero}
        scalars: Scalars = {**zeros, "weight_zero": scores.weight.zero, **clamp(y, y.low, y.high)}
        tensors = dict(zip(("x", "k", "v", "y"), (*self.inputs, self.output), strict=True))
        # A query's own bytes are read before its result is written, head by head, so that whole queries must lie
        # between them; keys and values are needed to the end.
        distance = {self.inputs[0]: Overlap(0, spec.x.row)} if self.inputs[0] not in self.inputs[1:] else {}
        return [Step(self, spec, tensors, constants, scalars, distance)]


@write.register
def _write(op: Attention, file: TfliteFile) -> None:
    """Write the two products, with the softmax between them, head by head."""
    scores, tensors = op.scores, file.program.tensors
    if (scores.levels, scores.weight.zero) != (256, -128):
        raise UnsupportedError(f"operator {op.name!r}: TFLite's softmax has codes of 1/256 from -128 on")
    (height, width, channels), heads = tensors[op.output].shape, op.heads
    tokens, own = height * width, [tensors[name] for name in (*op.inputs, op.output)]
    first = exact_scales(own[0].scale, own[1].scale, scores.score.scale)
    second = exact_scales(scores.weight.scale, own[2].scale, own[3].scale)
    split, square = (tokens, heads, channels // heads), (heads, tokens, tokens)
    sides = []
    for name, tensor, scale in zip(op.inputs, own, (*first[:2], second[1]), strict=False):
        wide = file.between(split, Point(tensor.scale, tensor.zero))
        file.reshaped(file.tensor(name), wide, split)
        sides.append(turned(file, wide, split, (1, 0, 2), Point(scale, tensor.zero)))
    q, k, v = sides
    found = product(file, (q, k), square, Point(first[2], scores.score.zero), across=True)
    found = relabelled(file, found, square, Point(scores.score.scale, scores.score.zero))
    weights = file.between(square, Point(scores.weight.scale, scores.weight.zero))
    file.node("SOFTMAX", [found], weights, "SoftmaxOptions", 2, beta=1.0)
    weights = relabelled(file, weights, square, Point(second[0], scores.weight.zero))
    by_head, y = (heads, tokens, channels // heads), own[3]
    made = product(file, (weights, v), by_head, Point(second[2], y.zero), across=False)
    joined = turned(file, made, by_head, (1, 0, 2), Point(y.scale, y.zero))
    file.reshaped(joined, file.tensor(op.output), (height, width, channels))


def lower_attention(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Lower the two products of attention: the first is remembered until the second is met."""
    left, right = (lowering.graph.quantized(name) for name in node.input)
    weighted = lowering.weighted.get(right)
    if weighted is None:
        tensor, key, _, _ = lowering.result(node)
        heads = lowering.graph.shapes[node.output[0]][1]
        lowering.scores[key] = (left, right, heads, tensor)
        return
    (queries, keys, heads, score), weight = weighted
    q, k, v = (lowering.tensors[name] for name in (queries, keys, left))

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        own = arithmetic_of(lowering.mode)
        ratios = own.ratios((q.scale, k.scale), score.scale), own.ratios((weight.scale, v.scale), y.scale)
        levels = round(1 / weight.scale)
        form = softmax_form(lowering.mode, levels, weight.zero)
        table = arithmetic.softmax_table(score.scale, v.shape[0] * v.shape[1], form=form)
        scores = Scores(score, weight, np.array(ratios), table, levels)
        return Attention(node.name, (queries, keys, left), key, heads, scores)

    lowering.add(node, make)


def softmax_of_scores(lowering: Lowering, node: onnx.NodeProto) -> bool:
    """Remember a softmax over scores for the product that reads it; False for any other softmax."""
    scores = lowering.scores.get(lowering.graph.quantized(node.input[0]))
    if scores is None:
        return False
    tensor, key, _, _ = lowering.result(node)
    if round(1 / tensor.scale) != 1 / tensor.scale or tensor.scale < 1 / 256 or tensor.bits != 8:
        raise UnsupportedError(f"node {node.name!r}: the scale of a Softmax output must be 1/n, n <= 256")
    lowering.weighted[key] = (scores, tensor)
    return True


@samples("transformer", 2.0)
def _sample(s: Sampler) -> None:
    side, heads = s.pick(2, 3, 5, 8), s.pick(1, 2, 3)
    shape = (side, side, heads * s.pick(8, 16, 24, 32))
    q, k, v, y = (s.tensor(shape, 8) for _ in range(4))
    score, weight = replace(q, scale=0.05), replace(q, scale=1 / 256, zero=-128)
    # Both below a quarter, or one or both beyond.
    ratios = np.where(s.rng.random(2) < 0.2, s.rng.uniform(0.25, 1, 2), s.ratios(2)).astype(np.float32)
    scores = Scores(score, weight, ratios, arithmetic.softmax_table(0.05, side * side), 256)
    s.add(Attention(s.name, (q.name, k.name, v.name), y.name, heads, scores))


def attention_example(e: Example, op: str) -> str:
    """Return attention over maps that depend on the input."""
    heads, width, height, columns = e.pick(1, 2, 3), e.pick(1, 3, 4, 8, 9), e.pick(1, 2, 3, 5), e.pick(1, 2, 4)
    channels, tokens = heads * width, height * columns
    parts = []
    for transposed in (True, False, False):
        x = e.node("Reshape", e.map(channels, height, columns), e.constant(np.array([1, heads, width, tokens])))
        parts.append(e.node("Transpose", x, perm=[0, 1, 3, 2]) if transposed else x)
    weights = e.node("Softmax", e.node(op, parts[0], parts[1]), axis=-1)
    y = e.node(op, parts[2], e.node("Transpose", weights, perm=[0, 1, 3, 2]))
    return e.node("Reshape", y, e.constant(np.array([1, channels, height, columns])))


def attention_within(graph: Graph, node: onnx.NodeProto) -> Within:
    """Return what splits heads and turns them for a product, and the Reshape behind that with the values."""
    before = []
    for name in node.input:
        step = graph.producer.get(name)
        if step is not None and step.op_type == "Transpose":
            before.append(step)
            step = graph.producer.get(step.input[0])
        if step is not None and step.op_type == "Reshape":
            before.append(step)
    return before, [user for user in graph.consumers[node.output[0]] if user.op_type == "Reshape"]
