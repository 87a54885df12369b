"""Products of activations: attention where the pattern is whole, else one product after the other."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tapc.frontend.canonical.edit import attribute, constant, content, operand, shape, sole_consumer
from tapc.frontend.canonical.placed import Index, Placed
from tapc.frontend.canonical.translator import Translator

ROWS, COLUMNS, BACK = (0, 2, 3, 1), (0, 2, 1, 3), (0, 3, 1, 2)


def product(t: Translator, node: ir.Node) -> None:
    """Write a product of two activations; that of queries and keys waits for the product that reads it."""
    chain = _following(node)
    if chain is not None:
        t.deferred |= set(chain.nodes)
        return
    batched(t, node)


def batched(t: Translator, node: ir.Node) -> None:
    """Write (B, M, K) by (B, K, N) as a MatMul between transposes, see `tapc.operators.matmul`."""
    left, right = t.of(node, 0), t.of(node, 1)
    a = left.index[None] if left.index.ndim == 1 else left.index
    b = right.index[:, None] if right.index.ndim == 1 else right.index
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, (*batch, *a.shape[-2:])).reshape(-1, *a.shape[-2:])
    b = np.broadcast_to(b, (*batch, *b.shape[-2:])).reshape(-1, *b.shape[-2:])
    (count, m, k), n = a.shape, b.shape[2]
    name = node.name or "matmul"
    first = t.arranged(node, left, a.transpose(2, 0, 1))
    second = t.arranged(node, right, b.transpose(1, 0, 2))
    rows = t.emit(node, "Transpose", [first], {"perm": ROWS}, (1, count, m, k), f"{name}.rows")
    columns = t.emit(node, "Transpose", [second], {"perm": COLUMNS}, (1, count, k, n), f"{name}.columns")
    inner = t.emit(node, "MatMul", [rows, columns], {}, (1, count, m, n))
    result = t.emit(node, "Transpose", [inner], {"perm": BACK}, (1, n, count, m), f"{name}.out")
    index = np.arange(count * m * n).reshape(n, count, m).transpose(1, 2, 0)
    t.result(node, result, index.reshape(shape(node.outputs[0])))


@dataclass(frozen=True)
class _Chain:
    """The nodes of one attention: scores, factors, softmax, and the product with the values."""

    nodes: tuple[ir.Node, ...]
    factor: float


def _following(scores: ir.Node) -> _Chain | None:
    """Return the chain that begins with a product of activations, where it is that of attention."""
    nodes, factor, value = [scores], 1.0, scores.outputs[0]
    while (node := sole_consumer(value)) is not None:
        nodes.append(node)
        if node.op_type in ("Mul", "Div"):
            other = next((content(v) for v in node.inputs if v is not value), None)
            if other is None or other.size != 1 or (node.op_type == "Div" and node.inputs[0] is not value):
                return None
            number = float(other.reshape(-1)[0])
            factor *= 1 / number if node.op_type == "Div" else number
        elif node.op_type == "Softmax":
            rank = len(shape(value))
            last = sole_consumer(node.outputs[0])
            while last is not None and last.op_type in ("Identity", "Dropout"):
                nodes.append(last)
                last = sole_consumer(last.outputs[0])
            axis = int(attribute(node, "axis", -1))
            if last is None or last.op_type != "MatMul" or last.inputs[0] is not nodes[-1].outputs[0]:
                return None
            if axis % rank != rank - 1 or content(operand(last, 1)) is not None:
                return None
            return _Chain((*nodes, last), factor)
        elif node.op_type not in ("Identity", "Dropout"):
            return None
        value = node.outputs[0]
    return None


def attention(t: Translator, last: ir.Node) -> bool:
    """Write deferred attention once its values are known; False where this node ends none."""
    softmax = last.inputs[0]
    scores = None if softmax is None or last.op_type != "MatMul" else softmax.producer()
    while scores is not None and scores.op_type != "MatMul":
        value = next((v for v in scores.inputs if v is not None and content(v) is None), None)
        scores = None if value is None else value.producer()
    if scores is None or scores not in t.deferred or last is scores:
        return False
    chain = _following(scores)
    if chain is None or chain.nodes[-1] is not last:
        return False
    queries, keys, values = t.of(scores, 0), t.of(scores, 1), t.of(last, 1)
    parts = _heads(queries.index), _heads(keys.index.swapaxes(-1, -2)), _heads(values.index)
    if any(part is None for part in parts) or len({part.shape for part in parts if part is not None}) > 1:
        for node in chain.nodes:
            t.deferred.discard(node)
        _one_by_one(t, chain)
        return True
    _fused(t, chain, (queries, keys, values), tuple(part for part in parts if part is not None))
    return True


def _heads(index: Index) -> Index | None:
    """Return (heads, tokens, width) of a tensor with these last axes and no batch."""
    while index.ndim > 3 and index.shape[0] == 1:
        index = index[0]
    index = index[None] if index.ndim == 2 else index
    return index if index.ndim == 3 else None


def _one_by_one(t: Translator, chain: _Chain) -> None:
    """Translate the nodes of a chain as any others."""
    from tapc.frontend.canonical.translator import translated

    for node in chain.nodes:
        if node.op_type == "MatMul":
            batched(t, node)
        else:
            translated()[node.op_type](t, node)


def _fused(t: Translator, chain: _Chain, placed: tuple[Placed, ...], parts: tuple[Index, ...]) -> None:
    scores, last = chain.nodes[0], chain.nodes[-1]
    softmax = next(node for node in chain.nodes if node.op_type == "Softmax")
    heads, tokens, width = parts[0].shape
    sides = [shape(one.base)[2:] for one in placed]
    side = next((own for own in sides if len(own) == 2 and int(np.prod(own)) == tokens), (1, tokens))
    maps = []
    for one, part in zip(placed, parts, strict=True):
        wanted = part.transpose(0, 2, 1).reshape(heads * width, *side)
        maps.append(t.arranged(last, one, wanted))
    if chain.factor != 1.0:
        factor = t.constant(f"{scores.name}.factor", np.full((1, 1, 1, 1), chain.factor, np.float32))
        maps[0] = t.emit(last, "Mul", [maps[0], factor], {}, shape(maps[0]), f"{scores.name}.factor")
    extents = (1, heads, width, tokens)
    q, k, v = (
        t.emit(last, "Reshape", [value, _target(t, f"{scores.name}.{part}", extents)], {}, extents,
               f"{scores.name}.{part}.heads")
        for value, part in zip(maps, "qkv", strict=True)
    )  # fmt: skip
    rows = t.emit(last, "Transpose", [q], {"perm": (0, 1, 3, 2)}, (1, heads, tokens, width), f"{scores.name}.rows")
    products = t.emit(last, "MatMul", [rows, k], {}, (1, heads, tokens, tokens), scores.name)
    weights = t.emit(last, "Softmax", [products], {"axis": -1}, (1, heads, tokens, tokens), softmax.name)
    columns = t.emit(
        last, "Transpose", [weights], {"perm": (0, 1, 3, 2)}, (1, heads, tokens, tokens), f"{last.name}.columns"
    )
    inner = t.emit(last, "MatMul", [v, columns], {}, extents, last.name)
    whole = (1, heads * width, *side)
    result = t.emit(last, "Reshape", [inner, _target(t, f"{last.name}.map", whole)], {}, whole, f"{last.name}.out")
    index = np.arange(heads * width * tokens).reshape(heads, width, tokens).transpose(0, 2, 1)
    t.result(last, result, index.reshape(shape(last.outputs[0])))


def _target(t: Translator, name: str, extents: tuple[int, ...]) -> ir.Value:
    return constant(t.graph, name, np.array(extents, np.int64))
