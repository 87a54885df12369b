"""Padding and pooling: explicit pads, folded Pad nodes, global pools."""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tapc.base.errors import DataError
from tapc.frontend.canonical.edit import (
    attribute,
    constant,
    content,
    insert_before,
    operand,
    replace,
    rewrite,
    shape,
    sole_consumer,
    source,
    unsupported,
)

_WIDEST_PAD = 4096


def padding(node: ir.Node, kernel: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Return a window operator's pads (top, left, bottom, right) with auto_pad resolved."""
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = attribute(node, "pads", (0, 0, 0, 0))
        if min(pads) < 0:
            raise unsupported(node, f"negative pads {list(pads)}")
        if max(pads) > _WIDEST_PAD:
            raise unsupported(node, f"pads {list(pads)}; up to {_WIDEST_PAD} are supported")
        return tuple(pads)
    if mode == "VALID":
        return (0, 0, 0, 0)
    before, after = [], []
    for extent, window, stride in zip(shape(source(node))[2:], kernel, strides, strict=True):
        total = max((math.ceil(extent / stride) - 1) * stride + window - extent, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return (*before, *after)


def steps(node: ir.Node, pads: Sequence[int]) -> tuple[int, ...]:
    """Return a window operator's strides, no longer than the padded map: a single window takes no step.

    Raises
    ------
    DataError
        Strides that are not positive.
    """
    strides = attribute(node, "strides", (1, 1))
    if min(strides) < 1:
        raise DataError(f"node {node.name!r} ({node.op_type}): strides {list(strides)} are not positive")
    extents = shape(source(node))[2:]
    return tuple(min(strides[axis], extents[axis] + pads[axis] + pads[axis + 2]) for axis in (0, 1))


def canonical_pools(graph: ir.Graph) -> None:
    """Rewrite pools and spatial means: explicit pads, no ceil_mode; a pool over the whole image becomes global.

    Raises
    ------
    UnsupportedError
        1-D or 3-D pooling, dilation, ceil_mode that adds a row, used indices, a mean over other axes.
    """
    for node in list(graph):
        if node.op_type in ("MaxPool", "AveragePool"):
            _pool(node)
        elif node.op_type == "ReduceMean":
            _mean(node)
        elif node.op_type == "GlobalAveragePool" and len(shape(source(node))) != 4:
            raise unsupported(node, f"pools a {list(shape(source(node)))} tensor; only 2-D pooling is supported")


def _pool(node: ir.Node) -> None:
    value = source(node)
    kernel = attribute(node, "kernel_shape", ())
    if len(kernel) != 2 or len(shape(value)) != 4:
        raise unsupported(node, f"kernel {list(kernel)} on {list(shape(value))}; only 2-D pooling is supported")
    if any(d != 1 for d in attribute(node, "dilations", (1, 1))):
        raise unsupported(node, "dilated pooling is not supported")
    if len(node.outputs) > 1 and node.outputs[1].uses():
        raise unsupported(node, "the indices output is not supported")
    pads = padding(node, kernel, attribute(node, "strides", (1, 1)))
    strides = steps(node, pads)
    if any(pad >= window for pad, window in zip(pads, (*kernel, *kernel), strict=True)):
        raise unsupported(node, f"pads {list(pads)} reach a whole window of kernel {list(kernel)}")
    image, out = shape(value)[2:], shape(node.outputs[0])[2:]
    if 0 in out:
        raise unsupported(node, f"its result {list(out)} is empty")
    floor = tuple((image[i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in (0, 1))
    if floor != out:
        raise unsupported(node, f"ceil_mode=1 gives {list(out)} instead of {list(floor)}; pad explicitly instead")
    if len(node.outputs) > 1:
        node.resize_outputs(1)
    if node.op_type == "AveragePool" and tuple(kernel) == image and not any(pads):
        rewrite(node, "GlobalAveragePool", [value], {})
        return
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if node.op_type == "AveragePool":
        attributes["count_include_pad"] = attribute(node, "count_include_pad", 0)
    rewrite(node, node.op_type, [value], attributes)


def _mean(node: ir.Node) -> None:
    value = source(node)
    rank = len(shape(value))
    given = content(operand(node, 1))
    axes = attribute(node, "axes", None) if given is None else tuple(int(axis) for axis in given)
    if axes is None or rank != 4 or sorted(axis % rank for axis in axes) != [2, 3]:
        chosen = "all axes" if axes is None else f"axes {list(axes)}"
        raise unsupported(node, f"a mean over {chosen} of {list(shape(value))}; only over height and width (NCHW)")
    pooled = insert_before(node, "GlobalAveragePool", [value], {}, (*shape(value)[:2], 1, 1), node.name or "")
    if attribute(node, "keepdims", 1):
        replace(node, pooled)
    else:
        rewrite(node, "Flatten", [pooled], {"axis": 1}).name = ""


def fold_pads(graph: ir.Graph) -> None:
    """Merge constant zero padding of height and width into the Conv that follows; make other Pads explicit.

    Raises
    ------
    UnsupportedError
        Reflected or non-zero padding, padding of batch or channels, cropping.
    """
    for node in list(graph):
        if node.op_type == "Pad":
            _pad(graph, node)


def _pad(graph: ir.Graph, node: ir.Node) -> None:
    value = source(node)
    top, left, bottom, right = _spatial_pads(node, len(shape(value)))
    if not any((top, left, bottom, right)):
        replace(node, value)
        return
    after = sole_consumer(node.outputs[0])
    if after is not None and after.op_type == "Conv":
        inner = attribute(after, "pads", (0, 0, 0, 0))
        total = [a + b for a, b in zip(inner, (top, left, bottom, right), strict=True)]
        after.attributes["pads"] = ir.AttrInt64s("pads", total)
        replace(node, value)
        return
    pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    name = node.name or "pad"
    inputs = [value, constant(graph, f"{name}.pads", pads), constant(graph, f"{name}.value", np.array(0, np.float32))]
    rewrite(node, "Pad", inputs, {"mode": "constant"})


def _spatial_pads(node: ir.Node, rank: int) -> tuple[int, int, int, int]:
    mode = attribute(node, "mode", "constant")
    if mode != "constant":
        raise unsupported(node, f"mode {mode!r}; only constant padding is supported")
    given = content(operand(node, 1))
    pads = attribute(node, "pads", None) if given is None else tuple(int(pad) for pad in given)
    if pads is None:
        raise unsupported(node, "its pads must be constant")
    fill = content(operand(node, 2))
    number = attribute(node, "value", 0.0) if fill is None else float(fill.reshape(-1)[0])
    if operand(node, 2) is not None and fill is None:
        raise unsupported(node, "its padding value must be constant")
    selected = content(operand(node, 3))
    axes = range(rank) if selected is None else [int(axis) % rank for axis in selected]
    full = {axis: (pads[i], pads[i + len(pads) // 2]) for i, axis in enumerate(axes)}
    if min(pads) < 0:
        raise unsupported(node, f"negative pads {list(pads)}: cropping is not supported")
    if rank != 4 or any(any(ends) for axis, ends in full.items() if axis < 2):
        raise unsupported(node, f"pads {list(pads)}; only height and width of a 4-D tensor can be padded")
    if number != 0.0 and any(pads):
        raise unsupported(node, f"padding value {number}; only 0 is supported")
    (top, bottom), (left, right) = full.get(2, (0, 0)), full.get(3, (0, 0))
    return top, left, bottom, right
