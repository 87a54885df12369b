"""Layers with constant weights: convolutions of one or two dimensions, transposed ones, and products by a matrix."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.frontend.canonical.edit import AttributeValue, attribute, content, operand, shape, unsupported
from tapc.frontend.canonical.placed import Placed, arrange, candidates, is_free
from tapc.frontend.canonical.translate.batched import product
from tapc.frontend.canonical.translator import Translator, inverse, translates
from tapc.frontend.canonical.windows import Windows, windows

Array = NDArray[Any]
POINTWISE: dict[str, AttributeValue] = {
    "kernel_shape": (1, 1),
    "strides": (1, 1),
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
    "group": 1,
}


def _bias(t: Translator, node: ir.Node, outputs: int) -> Array:
    if operand(node, 2) is None:
        return np.zeros(outputs, np.float32)
    bias = t.fixed(node, 2).reshape(-1)
    if bias.size not in (1, outputs):
        raise DataError(f"node {node.name!r} ({node.op_type}): {bias.size} biases for {outputs} outputs")
    return np.broadcast_to(bias, (outputs,))


def parts(
    t: Translator, node: ir.Node, weights: Array, bias: Array, rows: NDArray[np.int64] | None = None, name: str = ""
) -> list[ir.Value]:
    """Add a layer's weights and bias; remember which rows of the source's constants they are."""
    stem = name or node.name
    values = [t.constant(f"{stem}.weight", weights), t.constant(f"{stem}.bias", bias)]
    chosen = np.arange(len(weights)) if rows is None else rows
    for value, index in zip(values, (1, 2), strict=True):
        given = operand(node, index)
        if given is not None and given.name is not None:
            t.rows[value] = (given.name, chosen)
    return values


@translates("Conv")
def conv(t: Translator, node: ir.Node) -> None:
    """Write a 2-D convolution; one dimension becomes a map of height 1."""
    placed, weights = t.of(node), t.fixed(node, 1)
    outputs, group = weights.shape[0], int(attribute(node, "group", 1))
    extents = placed.index.shape
    channels = extents[1]
    if group < 1 or outputs < 1 or outputs % group or channels != weights.shape[1] * group:
        raise DataError(
            f"node {node.name!r} (Conv): weights {list(weights.shape)} in {group} groups do not fit an input of "
            f"{channels} channels; the file is damaged, export it again"
        )
    w = windows(node, extents, weights.shape[2:], batch=True)
    weights = weights.reshape(outputs, -1, *w.kernel)
    if extents[0] > 1:
        _of_many(t, node, placed, weights, w)
        return
    value = t.arranged(node, placed, placed.index.reshape(channels, *w.image))
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": w.kernel, "strides": w.strides, "pads": w.pads, "dilations": w.dilations, "group": group,
    }  # fmt: skip
    target = (1, outputs, *w.two(shape(node.outputs[0])[2:]))
    result = t.emit(node, "Conv", [value, *parts(t, node, weights, _bias(t, node, outputs))], attributes, target)
    t.result(node, result, np.arange(int(np.prod(target))))


def _of_many(t: Translator, node: ir.Node, placed: Placed, weights: Array, w: Windows) -> None:
    """Write a convolution of several maps as a dilated one of a map where they alternate, as they do in what TensorFlow
    cuts apart for a dilated convolution.
    """  # fmt: skip
    if w.strides != (1, 1):
        raise unsupported(node, f"strides {list(w.strides)} over a batch of {placed.index.shape[0]} maps")
    outputs, group = weights.shape[0], int(attribute(node, "group", 1))
    count, channels = placed.index.shape[:2]
    maps = placed.index.reshape(count, channels, *w.image)

    def alternating(rows: int, columns: int, of: NDArray[np.int64]) -> NDArray[np.int64]:
        depth, height, width = of.shape[1:]
        apart = of.reshape(rows, columns, depth, height, width).transpose(2, 3, 0, 4, 1)
        return apart.reshape(depth, height * rows, width * columns)

    steps = [(n, count // n) for n in range(1, count + 1) if count % n == 0]
    found = (own for own in steps if _even(alternating(*own, maps)))
    rows, columns = next(found, steps[0])
    value = t.arranged(node, placed, alternating(rows, columns, maps))
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": w.kernel, "strides": (1, 1),
        "pads": tuple(pad * step for pad, step in zip(w.pads, (rows, columns) * 2, strict=True)),
        "dilations": (w.dilations[0] * rows, w.dilations[1] * columns), "group": group,
    }  # fmt: skip
    made = (count, outputs, *w.two(shape(node.outputs[0])[2:]))
    target = (1, outputs, made[2] * rows, made[3] * columns)
    result = t.emit(node, "Conv", [value, *parts(t, node, weights, _bias(t, node, outputs))], attributes, target)
    elements = np.arange(int(np.prod(made)), dtype=np.int64).reshape(made)
    t.result(node, result, inverse(alternating(rows, columns, elements), made))


def _even(index: NDArray[np.int64]) -> bool:
    """Whether each axis of a map goes through a tensor in steps of one length."""
    steps = [np.diff(index, axis=axis) for axis in range(index.ndim)]
    return all(bool((step == step.flat[0]).all()) for step in steps if step.size)


@translates("ConvTranspose")
def transposed(t: Translator, node: ir.Node) -> None:
    """Write a convolution that computes each phase of the result as channels of its own; a move interleaves them.

    Output position o = s * i + k - pad: for each o modulo s, every s-th tap counts. See Shi et al., "Is the
    deconvolution layer the same as a convolutional layer?", arXiv 1609.07009.
    """
    placed, weights = t.of(node), t.fixed(node, 1)
    group, extents = int(attribute(node, "group", 1)), placed.index.shape
    w = windows(node, extents, weights.shape[2:], transposed=True)
    inputs, per_group = weights.shape[:2]
    outputs = per_group * group
    if extents[1] != inputs or group < 1 or inputs % group:
        raise DataError(f"node {node.name!r}: weights {list(weights.shape)} do not fit {extents[1]} channels")
    out = w.two(shape(node.outputs[0])[2:])
    phases, pads = _phases(weights.reshape(inputs, per_group, *w.kernel), group, w)
    value = t.arranged(node, placed, placed.index.reshape(inputs, *w.image))
    (sh, sw), (taps_h, taps_w) = w.strides, phases.shape[2:]
    high, wide = (-(-(extent + first) // step) for extent, first, step in zip(out, w.pads[:2], w.strides, strict=True))
    below = high - (w.image[0] + pads[0] - taps_h + 1), wide - (w.image[1] + pads[1] - taps_w + 1)
    cut = [max(-amount, 0) for amount in below]
    window = (pads[0], pads[1], max(below[0], 0), max(below[1], 0))
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": (taps_h, taps_w), "strides": (1, 1), "pads": window, "dilations": (1, 1), "group": group,
    }  # fmt: skip
    rows = np.repeat(np.arange(outputs).reshape(group, 1, per_group), sh * sw, axis=1).reshape(-1)
    made = (1, outputs * sh * sw, high + cut[0], wide + cut[1])
    bias = _bias(t, node, outputs)
    result = t.emit(node, "Conv", [value, *parts(t, node, phases, bias[rows], rows)], attributes, made)
    index = np.arange(int(np.prod(made))).reshape(group, sh, sw, per_group, *made[2:])
    index = index.transpose(0, 3, 4, 1, 5, 2).reshape(outputs, made[2] * sh, made[3] * sw)
    top, left = w.pads[:2]
    t.result(node, result, index[:, top : top + out[0], left : left + out[1]])


def _phases(weights: Array, group: int, w: Windows) -> tuple[Array, tuple[int, int]]:
    """Return weights (group * phases * outputs per group, inputs per group, taps, taps), and zeros before the image."""
    inputs, per_group, height, width = weights.shape
    if w.dilations != (1, 1):
        spread = np.zeros((inputs, per_group, *((k - 1) * d + 1 for k, d in zip(w.kernel, w.dilations, strict=True))))
        spread[:, :, :: w.dilations[0], :: w.dilations[1]] = weights
        weights = spread.astype(np.float32)
        height, width = weights.shape[2:]
    (sh, sw) = w.strides
    taps = -(-height // sh), -(-width // sw)
    full = np.zeros((inputs, per_group, taps[0] * sh, taps[1] * sw), np.float32)
    full[:, :, :height, :width] = weights
    # Tap k of phase r is weight k * s + r and reads position i - k: a convolution has its taps the other way around.
    split = full.reshape(group, inputs // group, per_group, taps[0], sh, taps[1], sw)[:, :, :, ::-1, :, ::-1]
    phases = split.transpose(0, 4, 6, 2, 1, 3, 5)
    return phases.reshape(-1, inputs // group, *taps), (taps[0] - 1, taps[1] - 1)


@translates("MatMul")
def matmul(t: Translator, node: ir.Node) -> None:
    """Write a product by a constant matrix, on either side, as a layer."""
    if node in t.deferred:
        return
    left, right = (content(operand(node, index)) for index in (0, 1))
    if left is None and right is None:
        product(t, node)
    elif right is not None:
        if right.ndim > 2 and int(np.prod(right.shape[:-2])) == 1:
            right = right.reshape(right.shape[-2:])
        if right.ndim > 2:
            _matrices(t, node, t.of(node), right)
            return
        right = right[:, None] if right.ndim == 1 else right
        linear(t, node, t.of(node), right, np.zeros(right.shape[1], np.float32))
    else:
        assert left is not None
        if left.ndim != 2 and int(np.prod(left.shape[:-2])) == 1:
            left = left.reshape(-1, left.shape[-1])
        placed = t.of(node, 1)
        turned = Placed(placed.base, placed.index.swapaxes(-1, -2)) if placed.index.ndim > 1 else placed
        if left.ndim > 2:
            _matrices(t, node, turned, left.swapaxes(-1, -2), turn=placed.index.ndim > 1)
            return
        linear(t, node, turned, left.T, np.zeros(len(left), np.float32), turn=placed.index.ndim > 1)


def _matrices(t: Translator, node: ir.Node, placed: Placed, weights: Array, *, turn: bool = False) -> None:
    """Write products by a batch of matrices (..., inputs, outputs) as a layer of as many groups; see `linear`."""
    index = placed.index[None] if placed.index.ndim == 1 else placed.index
    (inputs, outputs), rows = weights.shape[-2:], index.shape[-2]
    if index.shape[-1] != inputs:
        raise DataError(f"node {node.name!r}: weights {list(weights.shape)} do not fit {list(index.shape)}")
    batch = np.broadcast_shapes(index.shape[:-2], weights.shape[:-2])
    count = int(np.prod(batch))
    maps = np.broadcast_to(index, (*batch, rows, inputs)).reshape(count, rows, inputs)
    chosen = np.arange(weights.size // (inputs * outputs)).reshape(*weights.shape[:-2], 1, 1)
    own = np.broadcast_to(chosen, (*batch, 1, 1)).reshape(count)
    full = weights.reshape(-1, inputs, outputs)[own].transpose(0, 2, 1).reshape(count * outputs, inputs)
    value = t.arranged(node, placed, maps.transpose(0, 2, 1).reshape(count * inputs, 1, rows))
    made = parts(t, node, full[:, :, None, None], np.zeros(count * outputs, np.float32))
    result = t.emit(node, "Conv", [value, *made], {**POINTWISE, "group": count}, (1, count * outputs, 1, rows))
    where = np.arange(count * outputs * rows).reshape(*batch, outputs, rows)
    t.result(node, result, (where if turn else where.swapaxes(-1, -2)).reshape(shape(node.outputs[0])))


@translates("Gemm")
def gemm(t: Translator, node: ir.Node) -> None:
    """Write a dense layer."""
    weights = t.fixed(node, 1).astype(np.float32) * np.float32(attribute(node, "alpha", 1.0))
    weights = weights.T if attribute(node, "transB", 0) else weights
    outputs = weights.shape[1]
    bias = np.zeros((1, outputs), np.float32)
    if operand(node, 2) is not None:
        bias = t.fixed(node, 2).astype(np.float32) * np.float32(attribute(node, "beta", 1.0))
    placed = t.of(node)
    if attribute(node, "transA", 0):
        placed = Placed(placed.base, placed.index.T)
    if bias.size not in (1, outputs):
        raise unsupported(node, f"its bias of shape {list(bias.shape)} is not one value per output")
    linear(t, node, placed, weights, np.broadcast_to(bias.reshape(-1), (outputs,)))


def linear(t: Translator, node: ir.Node, placed: Placed, weights: Array, bias: Array, *, turn: bool = False) -> None:
    """Write x @ weights + bias: a dense layer for one row, a 1x1 convolution for more.

    Parameters
    ----------
    t : Translator
    node : onnx_ir.Node
    placed : Placed
        (..., inputs).
    weights : ndarray, shape (inputs, outputs)
    bias : ndarray, shape (outputs,)
    turn : bool
        The output has its last two axes swapped.
    """
    if 0 in weights.shape:
        raise DataError(f"node {node.name!r} ({node.op_type}): weights of shape {list(weights.shape)} are empty")
    inputs, outputs = weights.shape
    index, target = placed.index, shape(node.outputs[0])
    if index.shape[-1] != inputs:
        raise DataError(f"node {node.name!r}: weights {list(weights.shape)} do not fit {list(index.shape)}")
    count = index.size // inputs
    if count == 1:
        flat = index.reshape(-1)
        value, columns = _vector(t, node, placed, flat)
        attributes: dict[str, AttributeValue] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
        made = parts(t, node, weights.T[:, columns], bias)
        t.result(node, t.emit(node, "Gemm", [value, *made], attributes, (1, outputs)), np.arange(outputs))
        return
    rank = index.ndim
    choices = candidates(index.shape, channels=(rank - 1,))
    own = shape(placed.base)
    rows = index.reshape(count, inputs)
    wanted = rows.T.reshape(inputs, *own[2:]) if len(own) == 4 and int(np.prod(own[2:])) == count else None
    if wanted is None or not is_free(wanted, placed.base):
        groups = t.chosen(placed, choices)
        wanted = np.asarray(arrange(index, groups))
        order = np.asarray(arrange(np.arange(count).reshape(*index.shape[:-1], 1), groups)).reshape(-1)
    else:
        order = np.arange(count)
    value = t.arranged(node, placed, wanted)
    extents = (1, outputs, *wanted.shape[1:])
    made = parts(t, node, weights.T[:, :, None, None], bias)
    result = t.emit(node, "Conv", [value, *made], POINTWISE, extents)
    where = np.empty((count, outputs), np.int64)
    where[order] = np.arange(outputs * count).reshape(outputs, count).T
    final = where.reshape(*index.shape[:-1], outputs)
    t.result(node, result, (final.swapaxes(-1, -2) if turn else final).reshape(target))


def _vector(t: Translator, node: ir.Node, placed: Placed, flat: NDArray[np.int64]) -> tuple[ir.Value, Any]:
    """Return a vector of features, and the order of the weights' columns that reads it."""
    size = int(np.prod(shape(placed.base)))
    if placed.whole and flat.size == size:  # the columns move instead of the features
        return t.arranged(node, placed, np.arange(size)), np.asarray(inverse(flat, (size,)))
    return t.arranged(node, placed, flat), slice(None)
