"""QDQ ONNX -> integer operators of transformers: normalization, Gelu, attention, sums with constants."""

import math

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.errors import UnsupportedError
from tapc.lower.lowering import Lowering
from tapc.lower.program import AddConstant, Attention, LayerNorm, Lookup, Op, Scores, Tensor


def layer_norm(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Lower a LayerNormalization over channels."""
    source = lowering.graph.quantized(node.input[0])
    gain, offset = (lowering.graph.constant(name).astype(np.float32) for name in node.input[1:3])
    epsilon = next((float(a.f) for a in node.attribute if a.name == "epsilon"), 1e-5)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        scale = np.float32(y.scale)
        return LayerNorm(node.name, (source,), key, gain / scale, offset / scale, epsilon)

    lowering.add(node, make)


def gelu(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Lower a Gelu to a table."""
    x, source = lowering.source(node), lowering.graph.quantized(node.input[0])
    approximate = next((a.s for a in node.attribute if a.name == "approximate"), b"none") == b"tanh"

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        values = (np.arange(-128, 128) - x.zero) * np.float64(np.float32(x.scale))
        codes = np.rint(_gelu(values, approximate) / np.float64(np.float32(y.scale))) + y.zero
        return Lookup(node.name, (source,), key, np.clip(codes, y.low, y.high).astype(np.int8))

    lowering.add(node, make)


def _gelu(x: NDArray[np.float64], approximate: bool) -> NDArray[np.float64]:
    if approximate:
        inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        inner = np.array([math.erf(v / math.sqrt(2)) for v in x])
    result: NDArray[np.float64] = x / 2 * (1 + inner)
    return result


def product(lowering: Lowering, node: onnx.NodeProto) -> None:
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
        f32 = np.float32
        ratios = f32(q.scale) * f32(k.scale) / f32(score.scale), f32(weight.scale) * f32(v.scale) / f32(y.scale)
        table = arithmetic.softmax_table(score.scale, v.shape[0] * v.shape[1])
        scores = Scores(score, weight, np.array(ratios, f32), table, round(1 / weight.scale))
        return Attention(node.name, (queries, keys, left), key, heads, scores)

    lowering.add(node, make)


def attention_softmax(lowering: Lowering, node: onnx.NodeProto) -> bool:
    """Remember a softmax over scores for the product that reads it; False for any other softmax."""
    scores = lowering.scores.get(lowering.graph.quantized(node.input[0]))
    if scores is None:
        return False
    tensor, key, _, _ = lowering.result(node)
    if round(1 / tensor.scale) != 1 / tensor.scale or tensor.scale < 1 / 256 or tensor.bits != 8:
        raise UnsupportedError(f"node {node.name!r}: the scale of a Softmax output must be 1/n, n <= 256")
    lowering.weighted[key] = (scores, tensor)
    return True


def add_constant(lowering: Lowering, node: onnx.NodeProto) -> bool:
    """Lower the addition of a constant map; False where both operands are activations."""
    graph = lowering.graph
    constants = [name for name in node.input if graph.producer[name].input[0] in graph.constants]
    if not constants:
        return False
    other = next(name for name in node.input if name not in constants)
    codes, scales, _ = graph.dequantized_constant(constants[0])
    source, scale = graph.quantized(other), float(scales[0])

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        values = codes[0].transpose(1, 2, 0).astype(np.int8)
        return AddConstant(node.name, (source,), key, values, scale, low, high)

    lowering.add(node, make)
    return True
