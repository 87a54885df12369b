"""Concat and Pad: what puts elements beside others."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import attribute, constant, content, operand, shape, unsupported
from tapc.frontend.canonical.placed import Groups, Placed, arrange, candidates, is_free
from tapc.frontend.canonical.translate.views import moved
from tapc.frontend.canonical.translator import Translator, inverse, translates


@translates("Concat")
def concat(t: Translator, node: ir.Node) -> None:
    """Join activations along an axis; constants beside a single activation become padding and an addition."""
    rank = len(shape(node.outputs[0]))
    axis = int(attribute(node, "axis", 1)) % rank
    parts = [(value, content(value)) for value in node.inputs if value is not None and 0 not in shape(value)]
    active = [t.placed[value] for value, array in parts if array is None]
    if len(active) == len(parts):
        if all(placed.base is active[0].base for placed in active):
            index = np.concatenate([placed.index for placed in active], axis)
            t.placed[node.outputs[0]] = Placed(active[0].base, index)
        else:
            _join(t, node, active, axis)
    elif len(active) == 1:
        _with_constants(t, node, active[0], [array for _, array in parts], axis)
    else:
        raise unsupported(node, f"joins constants with {len(active)} activations; only one beside constants can be")


def _join(t: Translator, node: ir.Node, parts: list[Placed], axis: int) -> None:
    extents = shape(node.outputs[0])
    elements = np.arange(int(np.prod(extents)), dtype=np.int64).reshape(extents)
    if sum(extent != 1 for extent in extents) <= 1 and len(extents) < 3:
        values = [t.arranged(node, placed, placed.index.reshape(-1)) for placed in parts]
        result = t.emit(node, "Concat", values, {"axis": 1}, (1, elements.size))
        t.result(node, result, elements)
        return

    def moved_by(groups: Groups) -> int:
        return sum(p.index.size for p in parts if not is_free(np.asarray(arrange(p.index, groups)), p.base))

    groups = min(candidates(extents, alone=axis), key=moved_by)
    values = [t.arranged(node, placed, arrange(placed.index, groups)) for placed in parts]
    target = arrange(elements, groups)
    along = 1 + groups.index((axis,))
    result = t.emit(node, "Concat", values, {"axis": along}, (1, *target.shape))
    t.result(node, result, inverse(target, extents))


def _with_constants(
    t: Translator, node: ir.Node, placed: Placed, arrays: Sequence[NDArray[np.generic] | None], axis: int
) -> None:
    """Pad the one activation with zeros, and add the constants there."""
    own = next(i for i, array in enumerate(arrays) if array is None)
    before, after = (
        sum(array.shape[axis] for array in side if array is not None) for side in (arrays[:own], arrays[own + 1 :])
    )
    base, groups = _padded(t, node, placed, {axis: (before, after)}, 0.0)
    extents = shape(node.outputs[0])
    zeros = np.zeros(placed.index.shape, np.float32)
    full = np.concatenate([zeros if array is None else array for array in arrays], axis).astype(np.float32)
    if full.any():
        name = f"{node.name or 'concat'}.constant"
        value = t.constant(name, arrange(full, groups)[None])
        base = t.emit(node, "Add", [base, value], {}, shape(base), name)
    elements = np.arange(full.size, dtype=np.int64).reshape(extents)
    t.result(node, base, inverse(arrange(elements, groups), extents))


def _padded(
    t: Translator, node: ir.Node, placed: Placed, ends: dict[int, tuple[int, int]], value: float
) -> tuple[ir.Value, Groups]:
    """Write a Pad; return its result and the axes of the source that are its C, H and W."""
    source = placed.index.shape
    axes = [axis for axis, extent in enumerate(source) if extent != 1 or axis in ends]
    found = [g for g in _arrangements(source, axes) if all(any(part == (axis,) for part in g) for axis in ends)]
    if not found:
        raise unsupported(node, f"pads axes {sorted(ends)} of {list(source)}")
    groups = t.chosen(placed, found)
    inner = t.arranged(node, placed, arrange(placed.index, groups))
    pads = [ends.get(part[0], (0, 0)) if len(part) == 1 else (0, 0) for part in groups]
    target = [extent + sum(pad) for extent, pad in zip(shape(inner)[1:], pads, strict=True)]
    name = node.name or "pad"
    amounts = np.array([0, *(pad[0] for pad in pads), 0, *(pad[1] for pad in pads)], np.int64)
    inputs = [
        inner,
        constant(t.graph, f"{name}.pads", amounts),
        t.constant(f"{name}.value", np.array(value, np.float32)),
    ]
    return t.emit(node, "Pad", inputs, {"mode": "constant"}, (1, *target)), groups


def _arrangements(extents: Sequence[int], axes: Sequence[int]) -> list[Groups]:
    """Return arrangements of these axes, which may have extents of 1."""
    shown = [2 if axis in axes else 1 for axis in range(len(extents))]
    return candidates(shown)


@translates("Pad")
def pad(t: Translator, node: ir.Node) -> None:
    """Pad with a constant; other modes repeat elements, which is a move."""
    placed, mode = t.of(node), attribute(node, "mode", "constant")
    rank = placed.index.ndim
    if mode != "constant":
        t.placed[node.outputs[0]] = Placed(placed.base, moved(node, placed.index, t.opset)[0])
        return
    given = content(operand(node, 1))
    pads = attribute(node, "pads", None) if given is None else tuple(int(amount) for amount in given)
    if pads is None:
        raise unsupported(node, "its pads must be constant")
    fill = content(operand(node, 2))
    if operand(node, 2) is not None and fill is None:
        raise unsupported(node, "its padding value must be constant")
    number = float(attribute(node, "value", 0.0)) if fill is None else float(fill.reshape(-1)[0])
    selected = content(operand(node, 3))
    axes = range(rank) if selected is None else [int(axis) % rank for axis in selected]
    ends = {axis: (pads[i], pads[i + len(pads) // 2]) for i, axis in enumerate(axes)}
    ends = {axis: pair for axis, pair in ends.items() if any(pair)}
    if max((abs(amount) for pair in ends.values() for amount in pair), default=0) > 4096:
        raise unsupported(node, f"pads {list(pads)}; up to 4096 are supported")
    index = placed.index
    for axis, (low, high) in ends.items():  # negative pads cut
        index = np.take(index, range(max(-low, 0), index.shape[axis] - max(-high, 0)), axis)
    placed = Placed(placed.base, index)
    ends = {axis: (max(low, 0), max(high, 0)) for axis, (low, high) in ends.items() if max(low, high) > 0}
    extents = shape(node.outputs[0])
    if not ends:
        t.placed[node.outputs[0]] = Placed(placed.base, index.reshape(extents))
        return
    base, groups = _padded(t, node, placed, ends, number)
    elements = np.arange(int(np.prod(extents)), dtype=np.int64).reshape(extents)
    t.result(node, base, inverse(arrange(elements, groups), extents))
