"""LSTM, GRU and RNN: the product of the input for all steps is a layer; the loop over the steps is behind it."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.frontend.canonical.edit import AttributeValue, attribute, constant, content, operand, shape, unsupported
from tapc.frontend.canonical.translate.layers import POINTWISE
from tapc.frontend.canonical.translate.recurrent_step import StepWriter, Weights
from tapc.frontend.canonical.translator import Translator, translates

Array = NDArray[Any]
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_STATES = {5: "initial hidden state", 6: "initial cell state"}


@translates("LSTM", "GRU", "RNN")
def recurrent(t: Translator, node: ir.Node) -> None:
    """Write a layer for the input and a loop for each direction."""
    placed = t.of(node)
    batch_first = bool(attribute(node, "layout", 0))
    index = placed.index.swapaxes(0, 1) if batch_first else placed.index  # (T, N, inputs)
    steps, batch, inputs = index.shape
    if batch != 1:
        raise unsupported(node, f"a batch of {batch} sequences; only one is computed at a time")
    directions = _DIRECTIONS[str(attribute(node, "direction", "forward"))]
    weights, hidden = (t.fixed(node, place).astype(np.float32) for place in (1, 2))
    units, gates = hidden.shape[2], _GATES[node.op_type]
    own = (len(directions), gates * units)
    if weights.shape != (*own, inputs) or hidden.shape != (*own, units):
        raise DataError(f"node {node.name!r}: weights {weights.shape} and {hidden.shape} do not fit {inputs} inputs")
    given = content(operand(node, 3))
    if operand(node, 3) is not None and given is None:
        raise unsupported(node, "its bias must be constant")
    biases = np.zeros((len(directions), 2 * gates * units), np.float32) if given is None else given.astype(np.float32)
    activations = _check(node, steps, len(directions))
    linear = bool(attribute(node, "linear_before_reset", 0)) and node.op_type == "GRU"
    layers = [
        Weights(node.op_type, weights[d], hidden[d], biases[d], linear, activations[d * len(_USUAL[node.op_type])])
        for d in range(len(directions))
    ]
    names = [f"{node.name}.reverse" if reverse and len(directions) > 1 else str(node.name) for reverse in directions]
    if any(_computed(operand(node, place)) for place in _STATES):
        _one_step(t, node, names, layers, batch_first=batch_first)
        return
    value = t.arranged(node, placed, index[:, 0].T.reshape(inputs, 1, steps))
    maps = [
        write_loop(t, node, name, value, own, reverse=reverse)
        for name, own, reverse in zip(names, layers, directions, strict=True)
    ]
    base = maps[0]
    if len(maps) > 1:
        base = t.emit(node, "Concat", maps, {"axis": 1}, (1, 2 * units, 1, steps), f"{node.name}.both")
    elements = np.arange(len(maps) * units * steps).reshape(len(maps), units, steps)
    whole = elements.transpose(2, 0, 1)[:, :, None]  # (T, directions, N, units)
    last = np.stack([elements[place, :, 0 if reverse else -1] for place, reverse in enumerate(directions)])[:, None]
    results = (whole.transpose(2, 0, 1, 3), last.transpose(1, 0, 2)) if batch_first else (whole, last)
    for place, found in enumerate(results[: len(node.outputs)]):
        if node.outputs[place].uses() or node.outputs[place].is_graph_output():
            t.result(node, base, found, place)
    if len(node.outputs) > 2 and (node.outputs[2].uses() or node.outputs[2].is_graph_output()):
        raise unsupported(node, f"its cell state {node.outputs[2].name!r} is read; it is kept within the layer")


def _computed(value: ir.Value | None) -> bool:
    return value is not None and content(value) is None


def _one_step(t: Translator, node: ir.Node, names: list[str], layers: list[Weights], *, batch_first: bool) -> None:
    """Write one step from states that are computed, or come with every call."""
    placed, units = t.of(node), layers[0].hidden.shape[1]
    index = placed.index.reshape(-1)
    if index.size != layers[0].input.shape[1]:
        raise unsupported(
            node, f"its initial state is computed, and it has {placed.index.size // layers[0].input.shape[1]} steps; "
            "export it for one step of each call"
        )  # fmt: skip
    x = t.arranged(node, placed, index)
    found: list[tuple[ir.Value, ir.Value | None]] = []
    for place, (name, own) in enumerate(zip(names, layers, strict=True)):
        states: list[ir.Value | None] = []
        for position in _STATES:
            value = operand(node, position)
            if value is None or (position == 6 and own.kind != "LSTM") or not _computed(value):
                states.append(None)
                continue
            given = t.of(node, position)
            rows = given.index[0] if batch_first else given.index[:, 0]
            states.append(t.arranged(node, given, rows[place]))
        found.append(StepWriter(t, node, name, own).write(x, *states))
    hidden, cells = [h for h, _ in found], [c for _, c in found if c is not None]
    for output, values in enumerate((hidden, hidden, cells)):
        if output >= len(node.outputs) or not values:
            continue
        base = values[0]
        if len(values) > 1:
            extents = (1, len(values) * units)
            base = t.emit(node, "Concat", values, {"axis": 1}, extents, f"{node.name}.both{output}")
        t.result(node, base, np.arange(len(values) * units), output)


def write_loop(t: Translator, node: ir.Node, name: str, value: ir.Value, own: Weights, *, reverse: bool) -> ir.Value:
    """Write a recurrent layer of one direction.

    Parameters
    ----------
    t : Translator
    node : onnx_ir.Node
    name : str
    value : onnx_ir.Value
        (1, inputs, 1, T).
    own : Weights
    reverse : bool
        The last step comes first.

    Returns
    -------
    onnx_ir.Value
        (1, units, 1, T).
    """
    kind, (rows, units), steps = own.kind, own.hidden.shape, shape(value)[3]
    weights, hidden, bias, linear, activation = own.input, own.hidden, own.bias, own.linear, own.activation
    split = np.zeros(2 * rows, np.float32)
    added = bias[:rows] + bias[rows:]
    if linear and bias[rows + 2 * units :].any():  # it stands within the product
        split[rows + 2 * units :] = bias[rows + 2 * units :]
        added = added - split[rows:]
    made = [t.constant(f"{name}.input.weight", weights[:, :, None, None]), t.constant(f"{name}.input.bias", added)]
    gates = t.emit(node, "Conv", [value, *made], POINTWISE, (1, rows, 1, steps), f"{name}.input")
    target = constant(t.graph, f"{name}.shape", np.array([1, rows, steps], np.int64))
    flat = t.emit(node, "Reshape", [gates, target], {}, (1, rows, steps), f"{name}.flat")
    turned = t.emit(node, "Transpose", [flat], {"perm": (2, 0, 1)}, (steps, 1, rows), f"{name}.steps")
    identity = t.constant(f"{name}.identity", np.eye(rows, dtype=np.float32)[None])
    inputs = [turned, identity, t.constant(f"{name}.weight", hidden[None])]
    if split.any():
        inputs.append(t.constant(f"{name}.bias", split[None]))
    attributes: dict[str, AttributeValue] = {"hidden_size": units, "direction": "reverse" if reverse else "forward"}
    if kind == "GRU":
        attributes["linear_before_reset"] = int(linear)
    if kind == "RNN":
        attributes["activations"] = (activation,)  # type: ignore[assignment]
    found = t.emit(node, kind, inputs, attributes, (steps, 1, 1, units), name)
    return t.emit(node, "Transpose", [found], {"perm": (2, 3, 1, 0)}, (1, units, 1, steps), f"{name}.map")


def _check(node: ir.Node, steps: int, directions: int) -> tuple[str, ...]:
    """Return the activations of each direction; raise UnsupportedError for what no loop computes."""
    kind = node.op_type
    lengths = operand(node, 4)
    if lengths is not None:
        known = content(lengths)
        if known is None or (known != steps).any():
            raise unsupported(node, "sequences of different lengths; only whole ones are computed")
    for place, what in _STATES.items():
        state = operand(node, place)
        if state is None or (place == 6 and kind != "LSTM"):
            continue
        known = content(state)
        if known is not None and np.any(known):
            raise unsupported(node, f"its {what} {state.name!r} is not zero")
    if kind == "LSTM" and (peephole := operand(node, 7)) is not None:
        known = content(peephole)
        if known is None or np.any(known):
            raise unsupported(node, "it has peepholes, weights from the cell state to the gates")
    if attribute(node, "clip", 0.0):
        raise unsupported(node, f"it clips its gates to {attribute(node, 'clip', 0.0):g}")
    if attribute(node, "input_forget", 0):
        raise unsupported(node, "its input gate is coupled to the forget gate (input_forget)")
    usual = _USUAL[kind] * directions
    activations = tuple(str(name) for name in attribute(node, "activations", usual)) or usual
    allowed = [tuple(name.lower() for name in usual)]
    if kind == "RNN":
        allowed = [(one, two)[:directions] for one in ("tanh", "relu") for two in ("tanh", "relu")]
    if tuple(name.lower() for name in activations) not in allowed:
        raise unsupported(
            node, f"it has activations {', '.join(activations)}; a layer of this kind has {', '.join(usual)}"
        )
    return tuple(name.capitalize() for name in activations)
