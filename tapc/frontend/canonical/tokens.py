"""Transformers: tensors of tokens become maps, linear layers 1x1 convolutions, attention one fixed chain of operators.

A map (1, C, H, W) holds one token per pixel. Whatever an exporter does to shapes in between (heads split by Reshape,
Transpose, Split or Gather) is followed by index, see `views`. The canonical forms are

    LayerNormalization   Transpose(0, 2, 3, 1) -> LayerNormalization(axis=-1) -> Transpose(0, 3, 1, 2)
    scores               MatMul(Transpose(Reshape(q)), Reshape(k)): (1, heads, T, T), then Softmax(axis=-1)
    values               Reshape(MatMul(Reshape(v), Transpose(softmax))): a map again

with q, k and v from convolutions of their own, whatever layer computed them together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import (
    AttributeValue,
    attribute,
    constant,
    content,
    insert_before,
    operand,
    shape,
    source,
    unsupported,
)
from tapc.frontend.canonical.linear import parameters, set_parameters
from tapc.frontend.canonical.views import MOVES, View, moved, whole
from tapc.graph.rules import rules as operators

_POINTWISE: dict[str, AttributeValue] = {
    "kernel_shape": (1, 1),
    "strides": (1, 1),
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
    "group": 1,
}
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def canonical_tokens(graph: ir.Graph, opset: int) -> None:
    """Rewrite a graph that normalizes or multiplies activations; others stay as they are.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Edited in place, before its layers are brought to canonical form.
    opset : int
        Opset of the source.

    Raises
    ------
    UnsupportedError
        A product of activations that is not attention, or a normalization over another axis than the channels.
    """
    products = [node for node in graph if node.op_type == "MatMul" and content(operand(node, 1)) is None]
    if products or any(node.op_type == "LayerNormalization" for node in graph):
        _Tokens(graph, opset).run()


class _Tokens:
    """Follows the graph in order; every tensor that is not a map is known as a view of one."""

    def __init__(self, graph: ir.Graph, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.views: dict[ir.Value, View] = {}
        self.linear: set[ir.Value] = set()

    def run(self) -> None:
        rules = {
            "LayerNormalization": self._normalize,
            "MatMul": self._multiply,
            "Gemm": self._gemm,
            "Add": self._add,
            "Sub": self._add,
            "Mul": self._scale,
            "Div": self._scale,
            "Softmax": self._softmax,
            "ReduceMean": self._mean,
            **{name: self._activate for name, rule in operators().items() if rule.elementwise},
        }
        for node in list(self.graph):
            first = next((value for value in node.inputs if value is not None and content(value) is None), None)
            view = None if first is None else self.view(first)
            if view is None:
                continue
            if node.op_type in MOVES:
                for output, result in zip(node.outputs, moved(node, view, self.opset) or (), strict=False):
                    self.views[output] = result
            elif node.op_type in rules:
                rules[node.op_type](node, view)
        for value, view in list(self.views.items()):
            if view.is_map() and value is not view.base and (value.uses() or value.is_graph_output()):
                self._restore(value, view)
        _remove_unread(self.graph)
        self._check_followed()

    def _check_followed(self) -> None:
        """Name the first node that reads tokens and could not be followed; later errors would name another one."""
        for node in self.graph:
            if node.outputs[0] in self.views:  # it is there for one behind it
                continue
            for value in node.inputs:
                view = None if value is None else self.views.get(value)
                if view is None or view.is_map() or view.index.ndim < 3:
                    continue
                if node.op_type in MOVES:
                    raise unsupported(node, "its other inputs must be constant")
                reason = self._why(node, view)
                raise unsupported(node, f"reads tokens {list(view.index.shape)} and cannot be followed: {reason}")

    def _why(self, node: ir.Node, view: View) -> str:
        if node.op_type == "Softmax":
            return "only the softmax of attention scores over the keys is; a softmax that pools tokens is not supported"
        if node.op_type == "Concat":
            return "tokens cannot be joined with others, such as a class token"
        if node.op_type == "ReduceMean":
            return "only the mean over all tokens is supported"
        if view.factor != 1.0:
            return "they were scaled by a constant, which only scores may be"
        if not view.is_tokens():
            return "they are no longer (1, T, channels) with the pixels of a map in order"
        return "only LayerNormalization, linear layers, GELU, ReLU, Add, means and attention are"

    def _restore(self, value: ir.Value, view: View) -> None:
        """Let readers of a tensor read the map behind it."""
        result, node = view.base, value.producer()
        if view.index.ndim == 2 and node is not None:
            result = self.emit(node, "Flatten", [result], {"axis": 1}, view.index.shape, f"{node.name}.flat")
        ir.convenience.replace_all_uses_with(value, result, replace_graph_outputs=True)

    def view(self, value: ir.Value) -> View | None:
        """Return the map behind a tensor, which may be the tensor itself."""
        if value not in self.views and value.shape is not None and len(shape(value)) == 4:
            return whole(value)
        return self.views.get(value)

    def tokens(self, node: ir.Node, view: View) -> bool:
        """Whether a node works on tokens: not on a map, which needs no rule, nor on anything else."""
        plain = shape(node.outputs[0]) == shape(view.base) and view.index.shape == shape(view.base)
        return not plain and view.is_tokens() and view.factor == 1.0

    def emit(
        self, node: ir.Node, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, AttributeValue],
        extents: Sequence[int], name: str | None = None,
    ) -> ir.Value:  # fmt: skip
        return insert_before(node, op, inputs, attributes, extents, (node.name or "") if name is None else name)

    def same(self, node: ir.Node, view: View, result: ir.Value) -> None:
        """Record a result that holds in its map what the node's output holds in the order of its input."""
        self.views[node.outputs[0]] = View(result, view.index.reshape(shape(node.outputs[0])))

    def constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        return constant(self.graph, name, np.ascontiguousarray(array.astype(np.float32)))

    def _normalize(self, node: ir.Node, view: View) -> None:
        axis = int(attribute(node, "axis", -1)) % view.index.ndim
        if axis != view.index.ndim - 1 or not view.is_tokens() or view.factor != 1.0:
            raise unsupported(node, "only the normalization of each token over all of its channels is supported")
        n, c, h, w = shape(view.base)
        name = node.name or "norm"
        scale, shift = (content(operand(node, i)) for i in (1, 2))
        if scale is None:
            raise unsupported(node, "its scale must be constant")
        inputs = [
            self.emit(node, "Transpose", [view.base], {"perm": _TO_LAST}, (n, h, w, c), f"{name}.in"),
            self.constant(f"{name}.weight", scale.reshape(-1)),
            self.constant(f"{name}.bias", np.zeros(c) if shift is None else shift.reshape(-1)),
        ]
        attributes: dict[str, AttributeValue] = {"axis": -1, "epsilon": float(attribute(node, "epsilon", 1e-5))}
        inner = self.emit(node, "LayerNormalization", inputs, attributes, (n, h, w, c))
        back = self.emit(node, "Transpose", [inner], {"perm": _TO_FIRST}, (n, c, h, w), f"{name}.out")
        self.same(node, view, back)

    def _multiply(self, node: ir.Node, view: View) -> None:
        weights = content(operand(node, 1))
        if weights is not None:
            if self.tokens(node, view) and weights.ndim == 2:
                self._linear(node, view, weights, np.zeros(weights.shape[1]))
            return
        other = self.view(source(node, 1))
        if other is None:
            return
        keys, queries = other.heads(transposed=True), view.heads(transposed=False)
        if keys is not None and queries is not None and keys[1:] == queries[1:]:
            self._scores(node, view, other)
        elif other.heads(transposed=False) is not None and self._is_softmax(view):
            self._values(node, view, other)
        else:
            raise unsupported(node, f"multiplies activations, but not as attention does: {self._unlike(view, other)}")

    def _unlike(self, view: View, other: View) -> str:
        """Return what a product of activations lacks to be scores or values of attention."""
        left, right = list(view.index.shape), list(other.index.shape)
        outer = [shape_[0] for shape_ in (left, right) if len(shape_) > 3 and shape_[0] != 1]
        if outer:
            return f"{left} by {right} is attention within {outer[0]} windows; only over all tokens is supported"
        if self._is_softmax(view):
            return f"the second factor {right} does not hold heads of values, (heads, tokens, channels) of one layer"
        if view.heads(transposed=False) is None:
            return (
                f"the first factor {left} does not hold heads of queries, (heads, tokens, channels) of one linear layer"
            )
        return f"the second factor {right} does not hold the keys of as many heads, (heads, channels, tokens)"

    def _gemm(self, node: ir.Node, view: View) -> None:
        weights, given = content(operand(node, 1)), content(operand(node, 2))
        if not self.tokens(node, view) or weights is None or attribute(node, "transA", 0):
            return
        if operand(node, 2) is not None and given is None:
            return
        weights = weights.T if attribute(node, "transB", 0) else weights
        bias = np.zeros(weights.shape[1]) if given is None else np.broadcast_to(given.reshape(-1), weights.shape[1:])
        scale, shift = float(attribute(node, "alpha", 1.0)), float(attribute(node, "beta", 1.0))
        self._linear(node, view, weights * np.float32(scale), bias * np.float32(shift))

    def _linear(self, node: ir.Node, view: View, weights: NDArray[Any], bias: NDArray[Any]) -> None:
        n, _, h, w = shape(view.base)
        outputs = weights.shape[1]
        inputs = [
            view.base,
            self.constant(f"{node.name}.weight", weights.T[:, :, None, None]),
            self.constant(f"{node.name}.bias", bias),
        ]
        result = self.emit(node, "Conv", inputs, _POINTWISE, (n, outputs, h, w))
        self.linear.add(result)
        index = np.arange(outputs * h * w).reshape(outputs, h * w).T
        self.views[node.outputs[0]] = View(result, index.reshape(shape(node.outputs[0])))

    def _layer(self, view: View, node: ir.Node) -> ir.Node:
        before = view.base.producer()
        if before is None or before.op_type != "Conv" or attribute(before, "group", 1) != 1:
            raise unsupported(node, "attention needs queries, keys and values from linear layers")
        return before

    def _part(self, node: ir.Node, view: View, first: int, heads: int, width: int) -> ir.Value:
        """Compute some output channels of a layer alone, times the view's factor; (1, heads, width, T)."""
        layer = self._layer(view, node)
        weights, bias = parameters(layer)
        rows = slice(first, first + heads * width)
        n, c, h, w = shape(view.base)
        value = view.base
        if view.factor != 1.0 or heads * width != c:
            part = f"{layer.name}.{'qkv'[first // (heads * width)] if c == 3 * heads * width else first}"
            inputs = [
                source(layer),
                self.constant(f"{part}.weight", weights[rows] * np.float32(view.factor)),
                self.constant(f"{part}.bias", bias[rows] * np.float32(view.factor)),
            ]
            value = self.emit(node, "Conv", inputs, _POINTWISE, (n, heads * width, h, w), part)
        extents = (1, heads, width, h * w)
        target = constant(self.graph, f"{node.name}.heads", np.array(extents, np.int64))
        return self.emit(node, "Reshape", [value, target], {}, extents, f"{node.name}.heads")

    def _scores(self, node: ir.Node, view: View, other: View) -> None:
        queries, keys = view.heads(transposed=False), other.heads(transposed=True)
        assert queries is not None
        assert keys is not None
        q, k = self._part(node, view, *queries), self._part(node, other, *keys)
        (_, heads, width), t = queries, view.pixels
        rows = self.emit(node, "Transpose", [q], {"perm": (0, 1, 3, 2)}, (1, heads, t, width), f"{node.name}.rows")
        scores = self.emit(node, "MatMul", [rows, k], {}, (1, heads, t, t))
        self.views[node.outputs[0]] = View(scores, whole(scores).index.reshape(shape(node.outputs[0])))

    def _is_softmax(self, view: View) -> bool:
        before = view.base.producer()
        flat = view.index.reshape(-1)
        return before is not None and before.op_type == "Softmax" and np.array_equal(flat, np.arange(flat.size))

    def _values(self, node: ir.Node, view: View, other: View) -> None:
        found = other.heads(transposed=False)
        assert found is not None
        first, heads, width = found
        v = self._part(node, other, first, heads, width)
        t = other.pixels
        weights = self.emit(
            node, "Transpose", [view.base], {"perm": (0, 1, 3, 2)}, (1, heads, t, t), f"{node.name}.columns"
        )
        product = self.emit(node, "MatMul", [v, weights], {}, (1, heads, width, t))
        n, _, h, w = shape(other.base)
        extents = (n, heads * width, h, w)
        target = constant(self.graph, f"{node.name}.map", np.array(extents, np.int64))
        result = self.emit(node, "Reshape", [product, target], {}, extents, f"{node.name}.out")
        index = whole(result).index.reshape(heads, width, t).transpose(0, 2, 1)
        self.views[node.outputs[0]] = View(result, index.reshape(shape(node.outputs[0])))

    def _softmax(self, node: ir.Node, view: View) -> None:
        before, flat = view.base.producer(), view.index.reshape(-1)
        axis = int(attribute(node, "axis", -1)) % view.index.ndim
        if before is None or before.op_type != "MatMul":
            return
        if axis != view.index.ndim - 1 or not np.array_equal(flat, np.arange(flat.size)):
            raise unsupported(node, "only the softmax over the keys is supported")
        if view.factor != 1.0:  # scores that are scaled afterwards: scale the queries instead
            queries = before.inputs[0]
            while queries is not None and (step := queries.producer()) is not None and step.op_type != "Conv":
                queries = step.inputs[0]
            layer = None if queries is None else queries.producer()
            assert layer is not None
            weights, bias = parameters(layer)
            set_parameters(layer, weights * view.factor, bias * view.factor)
        extents = shape(view.base)
        self.same(node, view, self.emit(node, "Softmax", [view.base], {"axis": -1}, extents))

    def _activate(self, node: ir.Node, view: View) -> None:
        if self.tokens(node, view):
            attributes: dict[str, AttributeValue] = {name: item.value for name, item in node.attributes.items()}
            self.same(node, view, self.emit(node, node.op_type, [view.base], attributes, shape(view.base)))

    def _scale(self, node: ir.Node, view: View) -> None:
        index = next((i for i in (0, 1) if content(operand(node, i)) is not None), None)
        array = None if index is None else content(operand(node, index))
        if index is None or array is None or array.size != 1 or (node.op_type == "Div" and index == 0):
            return
        if source(node, 1 - index) not in self.views:  # a map: an ordinary scale and shift
            return
        factor = float(array.reshape(-1)[0])
        factor = 1 / factor if node.op_type == "Div" else factor
        self.views[node.outputs[0]] = View(view.base, view.index, view.factor * factor)

    def _add(self, node: ir.Node, view: View) -> None:
        fixed = next((i for i in (0, 1) if content(operand(node, i)) is not None), None)
        if not self.tokens(node, view):
            return
        extents = shape(view.base)
        if fixed is None:
            other = self.view(source(node, 1))
            if node.op_type != "Add" or other is None or not other.is_tokens() or other.factor != 1.0:
                raise unsupported(node, "joins tokens with something else than tokens")
            if shape(other.base) != extents:
                raise unsupported(node, f"joins maps of {list(extents)} and {list(shape(other.base))}")
            self.same(node, view, self.emit(node, "Add", [view.base, other.base], {}, extents))
            return
        array = content(operand(node, fixed))
        assert array is not None
        if node.op_type == "Sub":
            if fixed == 0:
                raise unsupported(node, "subtracts tokens from a constant")
            array = -array
        before, channels = view.base.producer(), extents[1]
        own = before is not None and view.base in self.linear and not tuple(view.base.uses())
        if array.size in (1, channels) and before is not None and own:
            weights, bias = parameters(before)
            set_parameters(before, weights, bias + np.broadcast_to(array.reshape(-1), bias.shape))
            self.same(node, view, view.base)
            return
        if array.size in (1, channels):
            terms = np.broadcast_to(array.reshape(-1), (channels,)).reshape(1, channels, 1, 1)
        else:
            full = np.broadcast_to(array, view.index.shape).reshape(-1)
            terms = np.zeros(full.size, array.dtype)
            terms[view.index.reshape(-1)] = full
            terms = terms.reshape(extents)
        name = node.name or "add"
        value = self.constant(f"{name}.constant", terms)
        self.same(node, view, self.emit(node, "Add", [view.base, value], {}, extents))

    def _mean(self, node: ir.Node, view: View) -> None:
        axes = content(operand(node, 1)) if operand(node, 1) is not None else attribute(node, "axes", ())
        rank = view.index.ndim
        given = sorted(int(axis) % rank for axis in np.asarray(axes if axes is not None else ()).reshape(-1))
        if not self.tokens(node, view) or given != list(range(1, rank - 1)):
            return
        n, c = shape(view.base)[:2]
        result = self.emit(node, "GlobalAveragePool", [view.base], {}, (n, c, 1, 1))
        self.views[node.outputs[0]] = View(result, np.arange(c).reshape(shape(node.outputs[0])))


def _remove_unread(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
