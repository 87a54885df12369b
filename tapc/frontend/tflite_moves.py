"""How each TFLite operator that moves elements, or puts others beside them, is spelled in ONNX."""

import math

import numpy as np

from tapc.frontend.tflite_converter import Converter, converts
from tapc.frontend.tflite_reader import Operator


@converts("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BROADCAST_TO")
def reshape(c: Converter, op: Operator) -> None:
    """Convert a change of shape; it is that of the output in the file."""
    if op.kind == "BROADCAST_TO":
        c.emit(op, c.builder.node("Expand", [c.value(op), c.builder.integers(*c.result(op))], c.name(op)))
    else:
        c.emit(op, c.builder.reshape(c.value(op), c.result(op), c.name(op)))


@converts("TRANSPOSE")
def transpose(c: Converter, op: Operator) -> None:
    """Convert a constant permutation."""
    c.emit(op, c.builder.node("Transpose", [c.value(op)], c.name(op), perm=c.integers(op, 1)))


@converts("CONCATENATION")
def concat(c: Converter, op: Operator) -> None:
    """Convert the joining of operands along an axis."""
    values = [c.value(op, position) for position in range(len(op.inputs))]
    c.emit(op, c.builder.node("Concat", values, c.name(op), axis=op.options["Axis"]))


@converts("PACK")
def pack(c: Converter, op: Operator) -> None:
    """Convert the joining along a new axis."""
    rank = len(c.result(op))
    axis = op.options["Axis"] % rank
    parts = [
        c.builder.node("Unsqueeze", [c.value(op, position), c.builder.integers(axis)])
        for position in range(len(op.inputs))
    ]
    c.emit(op, c.builder.node("Concat", parts, c.name(op), axis=axis))


@converts("UNPACK")
def unpack(c: Converter, op: Operator) -> None:
    """Convert the taking apart along an axis that disappears."""
    for position, index in enumerate(op.outputs):
        where = c.builder.constant(np.array(position, np.int64))
        c.done(index, c.builder.node("Gather", [c.value(op), where], axis=op.options["Axis"]))


@converts("SPLIT", "SPLIT_V")
def split(c: Converter, op: Operator) -> None:
    """Convert the cutting along an axis."""
    data, along = (1, 0) if op.kind == "SPLIT" else (0, 2)
    axis = c.integers(op, along)[0] % len(c.shape(op, data))
    start = 0
    for index in op.outputs:
        end = start + c.graph.tensors[index].shape[axis]
        parts = [c.builder.integers(value) for value in (start, end, axis)]
        c.done(index, c.builder.node("Slice", [c.value(op, data), *parts]))
        start = end


@converts("SLICE")
def slice_(c: Converter, op: Operator) -> None:
    """Convert a box of constant place; its size is that of the output in the file."""
    starts = c.integers(op, 1)
    ends = [start + extent for start, extent in zip(starts, c.result(op), strict=True)]
    parts = [c.builder.integers(*values) for values in (starts, ends, range(len(starts)))]
    c.emit(op, c.builder.node("Slice", [c.value(op), *parts], c.name(op)))


@converts("STRIDED_SLICE")
def strided_slice(c: Converter, op: Operator) -> None:
    """Convert a slice with steps, masks and axes that disappear."""
    if op.options["EllipsisMask"] or op.options["NewAxisMask"] or op.options.get("Offset"):
        raise c.unsupported(op, "an ellipsis, a new axis or ends that are offsets")
    begins, ends, steps = (c.integers(op, position) for position in (1, 2, 3))
    extents, rank = c.shape(op), len(begins)
    for axis in range(rank):
        step = steps[axis]
        if op.options["BeginMask"] >> axis & 1:
            begins[axis] = 0 if step > 0 else extents[axis] - 1
        if op.options["EndMask"] >> axis & 1:
            ends[axis] = extents[axis] if step > 0 else -(2**31)
        if op.options["ShrinkAxisMask"] >> axis & 1:
            begins[axis] %= extents[axis]
            ends[axis], steps[axis] = begins[axis] + 1, 1
    parts = [c.builder.integers(*values) for values in (begins, ends, range(rank), steps)]
    c.emit(op, c.builder.reshape(c.builder.node("Slice", [c.value(op), *parts], c.name(op)), c.result(op)))


@converts("GATHER")
def gather(c: Converter, op: Operator) -> None:
    """Convert a choice along an axis."""
    batch, axis = op.options["BatchDims"], op.options["Axis"]
    if batch and math.prod(c.shape(op, 1)[:batch]) > 1:
        raise c.unsupported(op, f"batch_dims {batch}")
    if not batch:
        c.emit(op, c.builder.node("Gather", [c.value(op), c.value(op, 1)], c.name(op), axis=axis))
        return
    places = c.builder.constant(c.constant(op, 1).reshape(-1).astype(np.int64))
    c.emit(op, c.builder.reshape(c.builder.node("Gather", [c.value(op), places], c.name(op), axis=axis), c.result(op)))


@converts("GATHER_ND")
def gather_nd(c: Converter, op: Operator) -> None:
    """Convert a choice of constant places along the first axes."""
    places, extents = c.constant(op, 1), c.shape(op)
    depth = places.shape[-1]
    rows = np.ravel_multi_index(tuple(places.reshape(-1, depth).T), extents[:depth])
    flat = c.builder.reshape(c.value(op), (math.prod(extents[:depth]), *extents[depth:]))
    node = c.builder.node("Gather", [flat, c.builder.integers(*rows.tolist())], c.name(op), axis=0)
    c.emit(op, c.builder.reshape(node, c.result(op)))


@converts("EMBEDDING_LOOKUP")
def lookup(c: Converter, op: Operator) -> None:
    """Convert a choice of rows."""
    c.emit(op, c.builder.node("Gather", [c.value(op, 1), c.value(op, 0)], c.name(op), axis=0))


@converts("TILE")
def tile(c: Converter, op: Operator) -> None:
    """Convert repetition."""
    c.emit(op, c.builder.node("Tile", [c.value(op), c.builder.integers(*c.integers(op, 1))], c.name(op)))


@converts("REVERSE_V2")
def reverse(c: Converter, op: Operator) -> None:
    """Convert the order from the end along axes."""
    axes = [axis % len(c.shape(op)) for axis in c.integers(op, 1)]
    count = len(axes)
    parts = [[-1] * count, [-(2**31)] * count, axes, [-1] * count]
    c.emit(op, c.builder.node("Slice", [c.value(op), *(c.builder.integers(*part) for part in parts)], c.name(op)))


@converts("PAD", "PADV2", "MIRROR_PAD")
def pad(c: Converter, op: Operator) -> None:
    """Convert constant padding, and padding by reflection, which leaves the edge out or repeats it."""
    if op.kind == "MIRROR_PAD" and op.options["Mode"] == 1:
        value = c.value(op)
        for axis, (before, behind) in enumerate(c.constant(op, 1).reshape(-1, 2).tolist()):
            own = np.arange(c.shape(op)[axis])
            if before or behind:
                places = np.concatenate([own[:before][::-1], own, own[len(own) - behind :][::-1]])
                value = c.builder.node("Gather", [value, c.builder.constant(places)], axis=axis)
        c.emit(op, value)
        return
    ends = c.builder.integers(*(int(value) for value in c.constant(op, 1).reshape(-1, 2).T.reshape(-1)))
    inputs, attributes = [c.value(op), ends], {}
    if op.kind == "PADV2":
        inputs.append(c.builder.constant(np.array(c.constant(op, 2), np.float32).reshape(())))
    if op.kind == "MIRROR_PAD":
        attributes["mode"] = "reflect"
    c.emit(op, c.builder.node("Pad", inputs, c.name(op), **attributes))


@converts("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def blocks(c: Converter, op: Operator) -> None:
    """Convert channels to blocks of pixels and back; the channels of a block's pixel lie together."""
    size = op.options["BlockSize"]
    n, height, width, channels = c.shape(op)
    if op.kind == "DEPTH_TO_SPACE":
        parts, order = (n, height, width, size, size, channels // size**2), [0, 1, 3, 2, 4, 5]
    else:
        parts, order = (n, height // size, size, width // size, size, channels), [0, 1, 3, 2, 4, 5]
    node = c.builder.node("Transpose", [c.builder.reshape(c.value(op), parts)], c.name(op), perm=order)
    c.emit(op, c.builder.reshape(node, c.result(op)))


@converts("SPACE_TO_BATCH_ND")
def space_to_batch(c: Converter, op: Operator) -> None:
    """Convert pixels to a batch of maps, each of every n-th row and column, after padding with zeros."""
    sizes, pads = c.integers(op, 1), c.constant(op, 2).reshape(-1, 2)
    extents, count = c.shape(op), len(sizes)
    value, rest = c.value(op), len(extents) - 1 - count
    if pads.any():
        ends = [[0, *pads[:, side].tolist(), *[0] * rest] for side in (0, 1)]
        value = c.builder.node("Pad", [value, c.builder.integers(*ends[0], *ends[1])], c.name(op))
    wide = [extent + int(pad.sum()) for extent, pad in zip(extents[1:], pads, strict=False)]
    parts = [part for extent, size in zip(wide, sizes, strict=True) for part in (extent // size, size)]
    value = c.builder.reshape(value, (extents[0], *parts, *extents[1 + count :]))
    order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2), *range(2 * count + 1, 2 * count + 1 + rest)]
    c.emit(op, c.builder.reshape(c.builder.node("Transpose", [value], perm=order), c.result(op)))


@converts("BATCH_TO_SPACE_ND")
def batch_to_space(c: Converter, op: Operator) -> None:
    """Convert what SPACE_TO_BATCH_ND makes back to one map, and cut its edges."""
    sizes, crops = c.integers(op, 1), c.constant(op, 2).reshape(-1, 2).tolist()
    extents, count = c.shape(op), len(sizes)
    images, rest = extents[0] // math.prod(sizes), len(extents) - 1 - count
    value = c.builder.reshape(c.value(op), (*sizes, images, *extents[1:]))
    places = [place for axis in range(count) for place in (count + 1 + axis, axis)]
    order = [count, *places, *range(2 * count + 1, 2 * count + 1 + rest)]
    wide = [extent * size for extent, size in zip(extents[1:], sizes, strict=False)]
    turned = c.builder.node("Transpose", [value], c.name(op), perm=order)
    value = c.builder.reshape(turned, (images, *wide, *extents[1 + count :]))
    ends = [extent - after for extent, (_, after) in zip(wide, crops, strict=True)]
    parts = [[before for before, _ in crops], ends, [*range(1, count + 1)]]
    c.emit(op, c.builder.node("Slice", [value, *(c.builder.integers(*part) for part in parts)]))
