"""Poolings, means, sums and maxima over any axes, the place of a maximum, softmax, and normalizations."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tapc.frontend.canonical.edit import AttributeValue, attribute, constant, content, operand, shape, unsupported
from tapc.frontend.canonical.placed import Groups, Index, Placed, arrange, candidates
from tapc.frontend.canonical.translator import Translator, inverse, translates
from tapc.frontend.canonical.windows import windows


@translates("MaxPool", "AveragePool")
def pool(t: Translator, node: ir.Node) -> None:
    """Write a pooling; over the whole map it becomes global, a longer last window gets pads."""
    placed, kernel = t.of(node), attribute(node, "kernel_shape", ())
    extents = placed.index.shape
    w = windows(node, extents, kernel)
    if len(node.outputs) > 1 and node.outputs[1].uses():
        raise unsupported(node, "the indices output is not supported")
    if w.dilations != (1, 1) and node.op_type == "AveragePool":
        raise unsupported(node, "dilated average pooling")
    out = w.two(shape(node.outputs[0])[2:])
    pads = list(w.pads)
    for axis in (0, 1):  # ceil_mode: the last window reaches beyond the pads
        reach = (w.kernel[axis] - 1) * w.dilations[axis] + 1
        missing = (out[axis] - 1) * w.strides[axis] + reach - w.image[axis] - pads[axis] - pads[axis + 2]
        if missing > 0:
            if node.op_type == "AveragePool" and attribute(node, "count_include_pad", 0) and any(w.pads):
                raise unsupported(node, "ceil_mode=1 together with count_include_pad=1; pad explicitly instead")
            pads[axis + 2] += missing
    if any(pad >= (w.kernel[i % 2] - 1) * w.dilations[i % 2] + 1 for i, pad in enumerate(pads)):
        raise unsupported(node, f"pads {pads} reach a whole window of kernel {list(w.kernel)}")
    value = t.arranged(node, placed, placed.index.reshape(extents[1], *w.image))
    target = (1, extents[1], *out)
    if node.op_type == "AveragePool" and w.kernel == w.image and not any(pads):
        result = t.emit(node, "GlobalAveragePool", [value], {}, target)
    else:
        attributes: dict[str, AttributeValue] = {"kernel_shape": w.kernel, "strides": w.strides, "pads": tuple(pads)}
        if node.op_type == "AveragePool":
            attributes["count_include_pad"] = attribute(node, "count_include_pad", 0) if any(w.pads) else 0
        elif w.dilations != (1, 1):
            attributes["dilations"] = w.dilations
        result = t.emit(node, node.op_type, [value], attributes, target)
    t.result(node, result, np.arange(int(np.prod(target))))


def _axes(node: ir.Node, rank: int, opset: int) -> list[int]:
    given = content(operand(node, 1))
    if operand(node, 1) is not None and given is None:
        raise unsupported(node, "its axes must be constant")
    axes = attribute(node, "axes", None) if given is None else tuple(int(axis) for axis in given.reshape(-1))
    if not axes:
        return [] if attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    return sorted(int(axis) % rank for axis in axes)


@translates("GlobalAveragePool", "GlobalMaxPool")
def whole(t: Translator, node: ir.Node) -> None:
    """Reduce a map to a pixel."""
    rank = t.of(node).index.ndim
    kind = "mean" if node.op_type == "GlobalAveragePool" else "max"
    base, index = reduced(t, node, t.of(node), range(2, rank), kind)
    t.result(node, base, index)


@translates(
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"
)
def reduce(t: Translator, node: ir.Node) -> None:
    """Reduce over axes."""
    placed, kind = t.of(node), node.op_type
    extents = placed.index.shape
    axes = [axis for axis in _axes(node, len(extents), t.opset) if extents[axis] != 1]
    if kind == "ReduceLogSumExp":
        raise unsupported(node, "the logarithm of a sum of exponentials is not supported")
    before = {"ReduceMin": "Neg", "ReduceL1": "Abs"}.get(kind)
    if before is not None:
        placed = _applied(t, node, placed, before)
    if kind in ("ReduceL2", "ReduceSumSquare"):
        base, index = t.natural(node, placed)
        placed = Placed(t.emit(node, "Mul", [base, base], {}, shape(base), f"{node.name}.square"), index)
    what = {"ReduceMax": "max", "ReduceMin": "max", "ReduceMean": "mean"}.get(kind, "sum")
    found = Placed(*reduced(t, node, placed, axes, what))
    if kind == "ReduceMin":
        found = _applied(t, node, found, "Neg")
    if kind == "ReduceL2":
        found = _applied(t, node, found, "Sqrt")
    t.result(node, found.base, found.index.reshape(shape(node.outputs[0])))


def _applied(t: Translator, node: ir.Node, placed: Placed, op: str) -> Placed:
    base, index = t.natural(node, placed)
    return Placed(t.emit(node, op, [base], {}, shape(base), f"{node.name}.{op.lower()}"), index)


def reduced(t: Translator, node: ir.Node, placed: Placed, axes: Sequence[int], kind: str) -> tuple[ir.Value, Index]:
    """Write a mean, sum or maximum; return where the elements lie, with extents of 1 at the axes."""
    extents = placed.index.shape
    kept = [axis for axis in range(len(extents)) if axis not in axes and extents[axis] != 1]
    gone = [axis for axis in axes if extents[axis] != 1]
    out = tuple(1 if axis in axes else extent for axis, extent in enumerate(extents))
    if not gone:
        base, index = t.natural(node, placed)
        return base, index.reshape(out)
    groups_of = np.arange(int(np.prod(out)), dtype=np.int64).reshape(out)
    there = _on_map(placed, np.broadcast_to(groups_of, extents))
    if there is not None:
        base, spatial, labels = there
    else:
        split = t.chosen(placed, _shapes(kept, gone))
        base = t.arranged(node, placed, arrange(placed.index, split))
        spatial = tuple(axis for axis in (0, 1) if split[axis + 1] == tuple(gone))
        labels = np.asarray(arrange(np.broadcast_to(groups_of, extents), split), np.int64).take([0], 1 + spatial[0])
    own = shape(base)
    target = tuple(1 if axis - 2 in spatial and axis > 1 else extent for axis, extent in enumerate(own))
    kernel = tuple(own[2 + axis] if axis in spatial else 1 for axis in (0, 1))
    if kind == "mean" and target[2:] == (1, 1):
        result = t.emit(node, "GlobalAveragePool", [base], {}, target)
    elif kind == "max":
        attributes: dict[str, AttributeValue] = {"kernel_shape": kernel, "strides": (1, 1), "pads": (0, 0, 0, 0)}
        result = t.emit(node, "MaxPool", [base], attributes, target)
    else:
        over = constant(t.graph, f"{node.name}.axes", np.array([2 + axis for axis in spatial], np.int64))
        result = t.emit(node, "ReduceMean" if kind == "mean" else "ReduceSum", [base, over], {"keepdims": 1}, target)
    return result, inverse(labels, out)


def _shapes(kept: list[int], gone: list[int]) -> list[Groups]:
    """Return arrangements in which H or W or both are what is reduced."""
    found: list[Groups] = [(tuple(kept), (), tuple(gone)), (tuple(kept), tuple(gone), ())]
    for cut in range(1, len(kept)):
        for c, other in ((kept[cut:], kept[:cut]), (kept[:cut], kept[cut:])):
            found += [(tuple(c), tuple(other), tuple(gone)), (tuple(c), tuple(gone), tuple(other))]
    return found


def _on_map(placed: Placed, labels: Index) -> tuple[ir.Value, tuple[int, ...], Index] | None:
    """Return (tensor, spatial axes that are reduced, labels of what is left) where a map is reduced as it lies."""
    own = shape(placed.base)
    if len(own) != 4 or not placed.whole:
        return None
    full = np.empty(labels.size, np.int64)
    full[placed.index.reshape(-1)] = labels.reshape(-1)
    arranged = full.reshape(own[1:])
    for spatial in ((0, 1), (0,), (1,)):
        lead = arranged
        for axis in spatial:
            lead = lead.take([0], 1 + axis)
        if np.array_equal(np.broadcast_to(lead, arranged.shape), arranged) and len(np.unique(lead)) == lead.size:
            return placed.base, spatial, lead
    return None


@translates("ArgMax")
def argmax(t: Translator, node: ir.Node) -> None:
    """Write the place of the maximum along an axis; the first of several."""
    placed = t.of(node)
    extents = placed.index.shape
    axis = int(attribute(node, "axis", 0)) % len(extents)
    if attribute(node, "select_last_index", 0):
        raise unsupported(node, "select_last_index=1")
    t.result(node, *_place(t, node, placed, axis))


def _place(t: Translator, node: ir.Node, placed: Placed, axis: int) -> tuple[ir.Value, Index]:
    extents = placed.index.shape
    if extents[axis] > 256:
        raise unsupported(node, f"the place among {extents[axis]} elements; up to 256 fit a code of 8 bits")
    groups = t.chosen(placed, candidates(extents, channels=(axis,)))
    value = t.arranged(node, placed, arrange(placed.index, groups))
    own = (1, 1, *shape(value)[2:])
    place = t.emit(node, "ArgMax", [value], {"axis": 1, "keepdims": 1}, own)
    place.type = ir.TensorType(ir.DataType.INT64)
    result = t.emit(node, "Cast", [place], {"to": int(ir.DataType.FLOAT)}, own, f"{node.name}.place")
    out = tuple(1 if i == axis else extent for i, extent in enumerate(extents))
    elements = np.arange(int(np.prod(out)), dtype=np.int64).reshape(out)
    return result, inverse(np.asarray(arrange(elements, (groups[0], groups[1], groups[2]))), out)


@translates("TopK")
def top(t: Translator, node: ir.Node) -> None:
    """Write the greatest element and its place."""
    placed = t.of(node)
    extents = placed.index.shape
    axis = int(attribute(node, "axis", -1)) % len(extents)
    count = int(np.asarray(t.fixed(node, 1)).reshape(-1)[0]) if len(node.inputs) > 1 else int(attribute(node, "k", 1))
    if count != 1 or not attribute(node, "largest", 1):
        raise unsupported(node, f"the {count} first; only the greatest is supported")
    if node.outputs[0].uses() or node.outputs[0].is_graph_output():
        t.result(node, *reduced(t, node, placed, [axis], "max"))
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        t.result(node, *_place(t, node, placed, axis), output=1)


@translates("Softmax", "LogSoftmax")
def softmax(t: Translator, node: ir.Node) -> None:
    """Write a softmax over the channels, whatever axis these were."""
    placed = t.of(node)
    extents = placed.index.shape
    axis = int(attribute(node, "axis", -1 if t.opset >= 13 else 1)) % len(extents)
    channels = (axis,) if t.opset >= 13 else tuple(range(axis, len(extents)))
    classes = int(np.prod([extents[a] for a in channels], dtype=np.int64))
    if (classes == placed.index.size and len(shape(placed.base)) == 2) or (
        len(extents) == 2 and classes == placed.index.size
    ):
        value = t.arranged(node, placed, placed.index.reshape(-1))
        result = t.emit(node, node.op_type, [value], {"axis": -1}, (1, classes))
        t.result(node, result, np.arange(classes))
        return
    groups = t.chosen(placed, candidates(extents, channels=channels))
    value = t.arranged(node, placed, arrange(placed.index, groups))
    if shape(value)[2:] == (1, 1):
        value = t.arranged(node, Placed(value, np.arange(classes)), np.arange(classes))
        result = t.emit(node, node.op_type, [value], {"axis": -1}, (1, classes))
    else:
        result = t.emit(node, node.op_type, [value], {"axis": 1}, shape(value))
    elements = np.arange(placed.index.size, dtype=np.int64).reshape(extents)
    t.result(node, result, inverse(arrange(elements, groups), extents))
