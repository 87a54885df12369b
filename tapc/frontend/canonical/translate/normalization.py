"""Normalizations over channels, groups or whole maps."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import AttributeValue, attribute, content, operand, shape, unsupported
from tapc.frontend.canonical.placed import Index, Placed, arrange, candidates, is_free
from tapc.frontend.canonical.translator import Translator, inverse, translates

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@translates("LayerNormalization", "RMSNormalization")
def layer(t: Translator, node: ir.Node) -> None:
    """Normalize over the last axes, with a scale and a shift of each of their elements."""
    placed = t.of(node)
    rank = placed.index.ndim
    axis = int(attribute(node, "axis", -1)) % rank
    scale, shift = (content(operand(node, i)) for i in (1, 2))
    if scale is None or (operand(node, 2) is not None and shift is None):
        raise unsupported(node, "its scale must be constant")
    own = placed.index.shape[axis:]
    gain = np.broadcast_to(scale, own).reshape(-1)
    offset = np.zeros(gain.size) if shift is None else np.broadcast_to(shift, own).reshape(-1)
    t.result(node, *_over(t, node, placed, tuple(range(axis, rank)), gain, offset, node.op_type))


def _over(
    t: Translator, node: ir.Node, placed: Placed, axes: tuple[int, ...], gain: NDArray[np.generic],
    offset: NDArray[np.generic], op: str,
) -> tuple[ir.Value, Index]:  # fmt: skip
    extents = placed.index.shape
    base = shape(placed.base)
    kept = Placed(placed.base, placed.index)
    channels = int(np.prod([extents[axis] for axis in axes], dtype=np.int64))
    rows = placed.index.reshape(-1, channels) if axes[-1] == len(extents) - 1 else None
    wanted = None
    if rows is not None and len(base) == 4 and base[1] == channels and rows.size == int(np.prod(base)):
        wanted = rows.T.reshape(base[1:])
    if wanted is not None and is_free(wanted, placed.base):
        elements = np.arange(rows.size).reshape(-1, channels).T.reshape(base[1:])  # type: ignore[union-attr]
    else:
        groups = t.chosen(kept, candidates(extents, channels=axes))
        wanted = np.asarray(arrange(placed.index, groups))
        elements = np.asarray(arrange(np.arange(placed.index.size, dtype=np.int64).reshape(extents), groups))
    value = t.arranged(node, placed, wanted)
    n, c, h, w = shape(value)
    name = node.name or "norm"
    inner = t.emit(node, "Transpose", [value], {"perm": _TO_LAST}, (n, h, w, c), f"{name}.in")
    inputs = [inner, t.constant(f"{name}.weight", gain)]
    if op == "LayerNormalization":
        inputs.append(t.constant(f"{name}.bias", offset))
    attributes: dict[str, AttributeValue] = {"axis": -1, "epsilon": float(attribute(node, "epsilon", 1e-5))}
    result = t.emit(node, op, inputs, attributes, (n, h, w, c))
    back = t.emit(node, "Transpose", [result], {"perm": _TO_FIRST}, (n, c, h, w), f"{name}.out")
    return back, inverse(elements, extents)


@translates("InstanceNormalization", "GroupNormalization")
def groups(t: Translator, node: ir.Node) -> None:
    """Normalize each group of channels over itself and its pixels; the scale and shift per channel follow."""
    placed = t.of(node)
    extents = placed.index.shape
    channels = extents[1]
    count = channels if node.op_type == "InstanceNormalization" else int(attribute(node, "num_groups", 1))
    scale, shift = (t.fixed(node, i).astype(np.float32).reshape(-1) for i in (1, 2))
    if channels % count:
        raise unsupported(node, f"{channels} channels in {count} groups")
    if scale.size == count != channels:
        scale, shift = np.repeat(scale, channels // count), np.repeat(shift, channels // count)
    split = Placed(placed.base, placed.index.reshape(count, -1))
    size = split.index.shape[1]
    base, index = _over(t, node, split, (1,), np.ones(size), np.zeros(size), "LayerNormalization")
    spatial = (1,) * (4 - len(extents)) + extents[2:] if len(extents) in (3, 4) else (1, int(np.prod(extents[2:])))
    map_ = t.arranged(node, Placed(base, index), index.reshape(channels, *spatial))
    for op, values in (("Mul", scale), ("Add", shift)):
        name = f"{node.name}.{op.lower()}"
        map_ = t.emit(node, op, [map_, t.constant(name, values.reshape(1, -1, 1, 1))], {}, shape(map_), name)
    t.result(node, map_, np.arange(index.size))


@translates("LpNormalization")
def length(t: Translator, node: ir.Node) -> None:
    """Divide by the length along an axis."""
    placed = t.of(node)
    extents = placed.index.shape
    axis = int(attribute(node, "axis", -1)) % len(extents)
    if attribute(node, "p", 2) != 2:
        raise unsupported(node, f"p={attribute(node, 'p', 2)}; only 2 is supported")
    choices = candidates(extents, channels=(axis,))
    chosen = t.chosen(placed, choices)
    value = t.arranged(node, placed, arrange(placed.index, chosen))
    result = t.emit(node, "LpNormalization", [value], {"axis": 1, "p": 2}, shape(value))
    elements = np.arange(placed.index.size, dtype=np.int64).reshape(extents)
    t.result(node, result, inverse(arrange(elements, chosen), extents))
