"""Operators that make each element of elements at the same place: of one activation, or of two that are broadcast."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import (
    AttributeValue,
    attribute,
    constant,
    content,
    is_quantized,
    operand,
    shape,
    unsupported,
)
from tapc.frontend.canonical.placed import Index, Placed, arrange, candidates, is_free, positions
from tapc.frontend.canonical.translator import Translator, boxed, inverse, translates
from tapc.graph.rules import rules


def unary(t: Translator, node: ir.Node) -> None:
    """Write a function of every element where the elements lie."""
    placed = t.of(node)
    base, index = t.natural(node, placed)
    attributes: dict[str, AttributeValue] = {name: item.value for name, item in node.attributes.items()}
    t.result(node, t.emit(node, node.op_type, [base], attributes, shape(base)), index)


@translates("Clip")
def clip(t: Translator, node: ir.Node) -> None:
    """Write a clamp; Relu where it is one."""
    low, high = _bound(node, 1, "min"), _bound(node, 2, "max")
    if low is not None and high is not None and low > high:
        raise unsupported(node, f"its bounds are empty: min {low} > max {high}")
    placed = t.of(node)
    if low is None and high is None:
        t.placed[node.outputs[0]] = placed
        return
    base, index = t.natural(node, placed)
    t.result(node, clamped(t, node, base, low, high), index)


def clamped(t: Translator, node: ir.Node, base: ir.Value, low: float | None, high: float | None) -> ir.Value:
    """Write Relu or Clip."""
    if low == 0.0 and high is None:
        return t.emit(node, "Relu", [base], {}, shape(base))
    name = node.name or "clip"
    bounds = [
        None if bound is None else constant(t.graph, f"{name}.{end}", np.array(bound, np.float32))
        for end, bound in (("min", low), ("max", high))
    ]
    return t.emit(node, "Clip", [base, *(bounds if bounds[1] is not None else bounds[:1])], {}, shape(base))


def _bound(node: ir.Node, index: int, name: str) -> float | None:
    value = operand(node, index)
    if value is None:
        number = attribute(node, name, None)
    else:
        array = content(value)
        if array is None:
            raise unsupported(node, f"its {name} must be a constant")
        number = float(array.reshape(-1)[0])
    limit = float(np.finfo(np.float32).max)
    return None if number is None or abs(number) >= limit else float(number)


@translates("Cast")
def cast(t: Translator, node: ir.Node) -> None:
    """Drop a change between kinds of numbers that keeps every value."""
    kinds = [value.dtype for value in (node.inputs[0], node.outputs[0]) if value is not None]
    if any(kind is None or not kind.is_floating_point() for kind in kinds) and kinds[0] != kinds[1]:
        placed = t.placed.get(node.inputs[0]) if node.inputs[0] is not None else None
        counted = placed is not None and _counts(placed.base)
        if not counted:
            raise unsupported(node, f"casts {kinds[0]} to {kinds[1]}; use float32 throughout")
    t.placed[node.outputs[0]] = t.of(node)


def _counts(base: ir.Value) -> bool:
    """Whether a tensor holds whole numbers already, as tokens and the place of a maximum are."""
    if base.dtype == ir.DataType.INT64:  # tokens
        return True
    producer = base.producer()
    before = None if producer is None or producer.op_type != "Cast" else producer.inputs[0]
    return before is not None and (maker := before.producer()) is not None and maker.op_type == "ArgMax"


@translates("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "Sum", "Mean")
def binary(t: Translator, node: ir.Node) -> None:
    """Write sums, products, minima and maxima of operands that are broadcast to the output."""
    values = [value for value in node.inputs if value is not None]
    if len(values) == 1:
        t.placed[node.outputs[0]] = t.of(node)
        return
    op = {"Sum": "Add", "Mean": "Add"}.get(node.op_type, node.op_type)
    if op == "Mod" or attribute(node, "consumed_inputs", None) or attribute(node, "broadcast", 0):
        raise unsupported(node, "the operators of opset 6 and older")
    extents = shape(node.outputs[0])
    first = _operand(t, values[0])
    for position, value in enumerate(values[1:], 1):
        last = position == len(values) - 1
        target = extents if last else np.broadcast_shapes(*(shape(v) for v in values[: position + 1]))
        first = _pair(t, node, op, first, _operand(t, value), target)
    if node.op_type == "Mean":
        first = _pair(t, node, "Mul", first, np.array(1 / len(values), np.float32), extents)
    assert isinstance(first, Placed)
    t.result(node, first.base, first.index)


Operand = Placed | NDArray[np.generic]


def _operand(t: Translator, value: ir.Value) -> Operand:
    array = content(value)
    return t.placed[value] if array is None else array


def _pair(t: Translator, node: ir.Node, op: str, a: Operand, b: Operand, extents: tuple[int, ...]) -> Operand:
    """Write one operator of two operands; return where its result lies."""
    elements = _frame(t, [one for one in (a, b) if isinstance(one, Placed)], extents)
    name = node.name or op.lower()
    if op == "Div" and isinstance(b, Placed):
        base, index = t.natural(node, b)
        b, op = Placed(t.emit(node, "Reciprocal", [base], {}, shape(base), f"{name}.reciprocal"), index), "Mul"
    elif op == "Div":
        if isinstance(a, Placed) and is_quantized(a.base):
            raise unsupported(node, "a division of integers has no integers to keep; compile it with --requantize")
        with np.errstate(divide="ignore"):
            b, op = (1 / np.asarray(b, np.float64)).astype(np.float32), "Mul"
        if not np.isfinite(b).all():
            raise unsupported(node, "divides by zero")
    if op == "Sub" and not isinstance(b, Placed) and not (isinstance(a, Placed) and is_quantized(a.base)):
        op, b = "Add", -b.astype(np.float32)
    if op in ("Min", "Max"):
        number = next((one for one in (a, b) if not isinstance(one, Placed) and np.size(one) == 1), None)
        other = next(one for one in (a, b) if isinstance(one, Placed))
        if number is not None and other.index.shape == extents:
            bound = float(np.asarray(number).reshape(-1)[0])
            base, index = t.natural(node, other)
            ends = (bound, None) if op == "Max" else (None, bound)
            return Placed(clamped(t, node, base, *ends), index)
    if op == "Pow" and not (isinstance(a, Placed) and not isinstance(b, Placed) and np.size(b) == 1):
        raise unsupported(node, "only powers with one constant exponent are supported")
    inputs = [_arranged(t, node, one, elements, extents, f"{name}.constant") for one in (a, b)]
    result = t.emit(node, op, inputs, {}, (1, *elements.shape))
    return Placed(result, inverse(elements, extents))


def _frame(t: Translator, active: list[Placed], extents: tuple[int, ...]) -> Index:
    """Return the output's elements as its canonical tensor has them: as an operand has them, where that is whole."""
    size = int(np.prod(extents))
    whole = [placed for placed in active if placed.index.size == size and placed.whole]
    for placed in sorted(whole, key=lambda p: len(shape(p.base)) != 4):
        elements = np.empty(size, np.int64)
        elements[placed.index.reshape(-1)] = np.arange(size)
        return elements.reshape(shape(placed.base)[1:])
    for placed in active:
        if placed.index.size == size and (box := boxed(placed)) is not None:
            return box[1]
    order = np.arange(size, dtype=np.int64).reshape(extents)
    if sum(extent != 1 for extent in extents) < 2 and len(extents) < 3:
        return order.reshape(-1)
    choices = candidates(extents)
    full = next((p for p in active if p.index.size == size), None)
    if full is not None:
        groups = next((g for g in choices if is_free(np.asarray(arrange(full.index, g)), full.base)), choices[0])
        return np.asarray(arrange(order, groups))
    return np.asarray(arrange(order, choices[0]))


def _arranged(
    t: Translator, node: ir.Node, one: Operand, elements: Index, extents: tuple[int, ...], name: str
) -> ir.Value:
    """Return an operand in the arrangement of the output, with an extent of 1 where it is repeated."""
    array = one.index if isinstance(one, Placed) else one
    full = np.broadcast_to(array, extents).reshape(-1)[elements]
    for axis in range(full.ndim):
        lead = full.take([0], axis)
        if full.shape[axis] > 1 and np.array_equal(np.broadcast_to(lead, full.shape), full):
            full = lead
    return t.arranged(node, one, full) if isinstance(one, Placed) else t.constant(name, full[None])


@translates("BatchNormalization")
def batch_normalization(t: Translator, node: ir.Node) -> None:
    """Keep it where its channels are those of the canonical tensor; otherwise write a product and a sum."""
    if attribute(node, "training_mode", 0):
        raise unsupported(node, "training mode; export the model in inference mode")
    placed = t.of(node)
    base, index = t.natural(node, placed)
    extents, own = index.shape, shape(base)
    count = t.fixed(node, 1).size
    if len(extents) < 2 or count != extents[1]:
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        between = "" if before is None else f" (the {before.op_type} {before.name!r} lies before it)"
        what = f"normalizes {list(extents)} with {count} values, which is no valid ONNX"
        raise unsupported(node, f"{what}: axis 1 holds the channels{between}")
    channel = np.arange(extents[1]).reshape(1, -1, *[1] * (len(extents) - 2))
    full = np.empty(index.size, np.int64)
    full[index.reshape(-1)] = np.broadcast_to(channel, extents).reshape(-1)
    arranged = full.reshape(own[1:])
    if own[1] == extents[1] and (arranged == np.arange(own[1]).reshape(-1, *[1] * (len(own) - 2))).all():
        inputs = [base, *node.inputs[1:5]]
        attributes: dict[str, AttributeValue] = {"epsilon": float(attribute(node, "epsilon", 1e-5))}
        t.result(node, t.emit(node, "BatchNormalization", inputs, attributes, own), index)
        return
    gamma, beta, mean, variance = (t.fixed(node, i).astype(np.float64) for i in range(1, 5))
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))
    found: Operand = Placed(base, index)
    for op, values in (("Mul", scale), ("Add", beta - mean * scale)):
        found = _pair(t, node, op, found, values.astype(np.float32).reshape(channel.shape), extents)
    assert isinstance(found, Placed)
    t.result(node, found.base, found.index)


@translates("PRelu")
def prelu(t: Translator, node: ir.Node) -> None:
    """Write it with one slope per channel."""
    placed, slope = t.of(node), t.fixed(node, 1)
    extents = placed.index.shape
    full = np.broadcast_to(slope, extents)
    varies = [
        axis for axis in range(len(extents)) if not np.array_equal(np.broadcast_to(full.take([0], axis), extents), full)
    ]
    if len(varies) > 1:
        _prelu_of_elements(t, node, placed, full)
        return
    if not varies and is_quantized(placed.base):  # integers multiply by the slope's code
        base, index = t.natural(node, placed)
        slopes = full.reshape(-1)[:1].reshape(1, 1, 1)
        given = t.constant(f"{node.name or 'prelu'}.slope", slopes)
        t.result(node, t.emit(node, "PRelu", [base, given], {}, shape(base)), index)
        return
    if not varies:
        base, index = t.natural(node, placed)
        attributes: dict[str, AttributeValue] = {"alpha": float(full.reshape(-1)[0])}
        t.result(node, t.emit(node, "LeakyRelu", [base], attributes, shape(base)), index)
        return
    groups = t.chosen(placed, candidates(extents, channels=varies))
    value = t.arranged(node, placed, arrange(placed.index, groups))
    slopes = np.asarray(arrange(full, groups))[:, :1, :1]
    result = t.emit(node, "PRelu", [value, t.constant(f"{node.name or 'prelu'}.slope", slopes)], {}, shape(value))
    elements = np.arange(placed.index.size, dtype=np.int64).reshape(extents)
    t.result(node, result, inverse(arrange(elements, groups), extents))


def _prelu_of_elements(t: Translator, node: ir.Node, placed: Placed, slopes: NDArray[np.generic]) -> None:
    """Write it with a slope per element: all are channels of one pixel, in the order in which they lie."""
    base, index = t.natural(node, placed)
    size = int(np.prod(shape(base)))
    order = np.argsort(positions(shape(base)[1:]), kind="stable")
    value = t.arranged(node, Placed(base, index), order.reshape(size, 1, 1))
    own = np.empty(size, np.float32)
    own[inverse(order, (size,))[index.reshape(-1)]] = slopes.reshape(-1)
    result = t.emit(
        node, "PRelu", [value, t.constant(f"{node.name or 'prelu'}.slope", own[:, None, None])], {}, (1, size, 1, 1)
    )
    t.result(node, result, inverse(order, (size,))[index])


def register_unary() -> None:
    """Let every operator of one element be translated."""
    for name, rule in rules().items():
        if rule.elementwise and name not in ("Clip", "Cast"):
            translates(name)(unary)
