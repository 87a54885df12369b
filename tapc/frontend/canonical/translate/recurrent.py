"""LSTM, GRU and RNN: the product of the input for all steps is a layer; the loop over the steps is behind it."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.frontend.canonical.edit import AttributeValue, attribute, constant, content, operand, shape, unsupported
from tapc.frontend.canonical.translate.layers import POINTWISE
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
    value = t.arranged(node, placed, index[:, 0].T.reshape(inputs, 1, steps))
    maps = []
    for place, reverse in enumerate(directions):
        name = node.name or node.op_type.lower()
        name = f"{name}.reverse" if reverse and len(directions) > 1 else name
        linear = bool(attribute(node, "linear_before_reset", 0))
        kind = activations[place * len(_USUAL[node.op_type])]
        maps.append(
            write_loop(
                t, node, name, value, weights[place], hidden[place], biases[place],
                reverse=reverse, linear=linear and node.op_type == "GRU", activation=kind,
            )
        )  # fmt: skip
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


def write_loop(
    t: Translator, node: ir.Node, name: str, value: ir.Value, weights: Array, hidden: Array, bias: Array,
    *, reverse: bool = False, linear: bool = False, activation: str = "Tanh", kind: str = "",
) -> ir.Value:  # fmt: skip
    """Write a recurrent layer of one direction.

    Parameters
    ----------
    t : Translator
    node : onnx_ir.Node
    name : str
    value : onnx_ir.Value
        (1, inputs, 1, T).
    weights, hidden : ndarray, shape (gates * units, inputs) and (gates * units, units)
        As ONNX orders them.
    bias : ndarray, shape (2 * gates * units,)
        Of the input and of the hidden state.
    reverse : bool
    linear : bool
        A GRU multiplies its reset gate with the product of the hidden state.
    activation : {"Tanh", "Relu"}
        Of an RNN.
    kind : str
        LSTM, GRU or RNN; by default that of the node.

    Returns
    -------
    onnx_ir.Value
        (1, units, 1, T).
    """
    kind, (rows, units), steps = kind or node.op_type, hidden.shape, shape(value)[3]
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
        if known is None:
            raise unsupported(node, f"its {what} {state.name!r} is computed; it must be constant")
        if np.any(known):
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
