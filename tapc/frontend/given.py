"""Given quantization on its way through canonicalization.

A quantizer is an operator of its own in the float graph: a function of every element that gives what it takes, which no
pass folds into its neighbours. Canonical, the graph is rid of these marks again, and what they bear belongs to the
tensors before them; one that stands behind another of other parameters stays, as the change of scale that it is. Layers
are recognized by their values, since canonicalization only moves weights that lie between quantizers.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tapc.base.errors import UnsupportedError
from tapc.graph.given import Given, GivenLayer, GivenPoint
from tapc.graph.rules import nodes_where, rule, rules

_MARK = "LeakyRelu"
_NAME = re.compile(r"given_mark(\d+)")


def mark_name(number: int) -> str:
    """Return the name of a mark's node."""
    return f"given_mark{number}"


def mark_node(number: int, source: str, result: str) -> onnx.NodeProto:
    """Return the mark of a quantizer; its name is the key of `Given.points`."""
    return onnx.helper.make_node(_MARK, [source], [result], name=mark_name(number), alpha=1.0)


def is_mark(op_type: str, name: str | None) -> bool:
    """Whether a node is a mark."""
    return op_type == _MARK and _NAME.fullmatch(name or "") is not None


def _is_mark(node: onnx.NodeProto) -> bool:
    return is_mark(node.op_type, node.name)


def without_marks(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph of any form without marks."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node in result.graph.node:
        if _is_mark(node):
            node.op_type, node.name = "Identity", ""
            del node.attribute[:]
    return result


def float_inside(model: onnx.ModelProto, given: Given) -> bool:
    """Whether a canonical graph is a float network: it has layers, none of integers, and marks at its ends alone."""
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    layers = nodes_where(model.graph.node, lambda own: own.weighted)
    marks = [node for node in model.graph.node if _is_mark(node)]
    return bool(layers) and not given.layers and all({node.input[0], node.output[0]} & ends for node in marks)


def resolve(model: onnx.ModelProto, given: Given) -> tuple[onnx.ModelProto, Given]:
    """Take the marks out of a canonical graph.

    Parameters
    ----------
    model : onnx.ModelProto
        Canonical, with marks.
    given : Given
        Points by the names of their marks, layers by any name.

    Returns
    -------
    onnx.ModelProto
        Without marks, but for those that change a scale.
    Given
        Points by tensor and layers by node of that graph.

    Raises
    ------
    UnsupportedError
        A layer of which the integers are not to be found: something was folded into it.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    outputs = {value.name for value in result.graph.output}
    uses: dict[str, int] = {}
    for node in result.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    alias: dict[str, str] = {}
    points: dict[str, GivenPoint] = {}
    moved: dict[str, GivenPoint] = {}
    kept: list[onnx.NodeProto] = []
    for node in result.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = alias.get(name, name)
        source, own = node.input[0], given.points.get(node.name) if _is_mark(node) else None
        before = points.get(source, moved.get(source))
        if own is None or before not in (None, own):
            kept.append(node)
            if own is not None:
                points[node.output[0]] = own
            elif before is not None and rule(node).repeats:
                moved[node.output[0]] = before
            continue
        points.setdefault(source, own)
        if node.output[0] in outputs:
            _rename(kept, source, node.output[0], points)
            alias = {name: node.output[0] if to == source else to for name, to in alias.items()}
            alias[source] = node.output[0]
        else:
            alias[node.output[0]] = source
    del result.graph.node[:]
    result.graph.node.extend(kept)
    for node in result.graph.node:
        if rule(node).global_pool and node.output[0] in points and points[node.output[0]].windowed:
            _as_window(node, model)
    del result.graph.value_info[:]
    result = onnx.shape_inference.infer_shapes(result, strict_mode=True)
    return result, replace(given, points=points, layers=_layers(result, given))


def _as_window(node: onnx.NodeProto, model: onnx.ModelProto) -> None:
    """Spell a pooling over the whole map with its window."""
    values = {value.name: value for value in (*model.graph.value_info, *model.graph.input)}
    source = next(n.input[0] for n in model.graph.node if n.name == node.name)
    extents = [dim.dim_value for dim in values[source].type.tensor_type.shape.dim][2:]
    node.op_type = "AveragePool"
    ones, zeros = [1, 1], [0, 0, 0, 0]
    for key, value in (("kernel_shape", extents), ("strides", ones), ("pads", zeros)):
        node.attribute.append(onnx.helper.make_attribute(key, value))


def _rename(nodes: list[onnx.NodeProto], old: str, new: str, points: dict[str, GivenPoint]) -> None:
    """Give a tensor the name of the network's output that it is."""
    if all(old not in node.output for node in nodes):
        raise UnsupportedError(f"output {new!r} is the network's input; there is nothing to compile")
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    points[new] = points.pop(old)


def _layers(model: onnx.ModelProto, given: Given) -> dict[str, GivenLayer]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, GivenLayer] = {}
    used: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in rules() or not rule(node).weighted or node.input[1] not in constants:
            continue
        weights, bias = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        for key, layer in _candidates(node.name, weights, given, used):
            own = _matched(weights, bias, layer)
            if own is not None:
                found[node.name] = own
                used.add(key)
                break
        else:
            raise UnsupportedError(
                f"layer {node.name!r}: the source holds no integers for its weights: they are real values there, or an "
                "operator without a quantizer of its own was folded into it; compile it with --requantize"
            )
    return found


def _candidates(
    name: str, weights: NDArray[np.float32], given: Given, used: set[str]
) -> Iterator[tuple[str, GivenLayer]]:
    """Yield layers, those of the same values first, in the source's order."""
    values = np.sort(weights.reshape(-1))
    alike = []
    for key, layer in given.layers.items():
        if layer.codes.size == weights.size and np.array_equal(np.sort(layer.weights().reshape(-1)), values):
            alike.append((key, layer))
    yield from sorted(alike, key=lambda item: (item[0] in used, item[1].name != name))
    yield from ((key, layer) for key, layer in given.layers.items() if (key, layer) not in alike)


def _matched(weights: NDArray[np.float32], bias: NDArray[np.float32], layer: GivenLayer) -> GivenLayer | None:
    """Return a layer's integers in the order of canonical weights and bias; None where they are not its."""
    outputs = layer.codes.shape[0]
    scales = np.broadcast_to(layer.scales, outputs)
    half = 1 << (layer.bits - 1)
    rows = weights.reshape(len(weights), -1)
    codes = np.empty(rows.shape, layer.codes.dtype)
    chosen = np.empty(len(rows), np.int64)
    # Parts of a transposed convolution have as many values in all, but shorter rows.
    same = layer.codes.size == weights.size and len(rows) == outputs
    own = np.sort(layer.codes.reshape(len(scales), -1), axis=1) if same else None
    for index, row in enumerate(rows):
        order = [index, *range(len(scales))] if index < len(scales) else range(len(scales))
        for source in order:
            if layer.real_bias is not None and layer.real_bias[source] != bias[index]:
                continue
            whole = np.rint(row / scales[source])
            if np.abs(whole).max(initial=0) > half or not np.array_equal(
                (whole * scales[source]).astype(np.float32), row
            ):
                continue
            if own is not None and not np.array_equal(np.sort(whole), own[source]):
                continue
            codes[index], chosen[index] = whole, source
            break
        else:
            return None
    return replace(
        layer,
        codes=codes.reshape(weights.shape),
        scales=layer.scales if len(layer.scales) == 1 else scales[chosen],
        bias=None if layer.bias is None else layer.bias[chosen],
        real_bias=bias,
    )
