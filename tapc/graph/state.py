"""Tensors that a network keeps between calls: pairs of an input and an output of its graph.

A canonical or QDQ graph has them behind its other inputs and outputs, each pair at the same place, and says so in its
metadata. What the output is after one call, the input is in the next one.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError, UnsupportedError, UsageError
from tapc.base.ports import Ports
from tapc.graph.interface import input_ports, output_ports

_KEY = "tapc.states"


@dataclass(frozen=True)
class State:
    """A tensor that is kept between calls.

    Attributes
    ----------
    input, output : str
        Where the graph reads it and where it writes it.
    initial : tuple of float
        Its elements in the first call, in the order of the input's; one value serves all.
    """

    input: str
    output: str
    initial: tuple[float, ...] = (0.0,)


States = tuple[State, ...]


def states(model: onnx.ModelProto) -> States:
    """Return what a canonical or QDQ graph keeps between calls.

    Raises
    ------
    DataError
        Its metadata are damaged.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == _KEY), None)
    if text is None:
        return ()
    try:
        found = tuple(
            State(str(own["input"]), str(own["output"]), tuple(map(float, own["initial"]))) for own in json.loads(text)
        )
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [value.name for value in model.graph.input if value.name not in constants]
        ends = inputs[-len(found) :], [value.name for value in model.graph.output][-len(found) :]
        if not found or len(inputs) <= len(found) or len(model.graph.output) <= len(found):
            raise ValueError("no states, or nothing besides")
        if ends != ([own.input for own in found], [own.output for own in found]):
            raise ValueError("the states are not the last inputs and outputs")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the metadata {_KEY} of the graph are damaged: {error}") from error
    return found


def set_states(model: onnx.ModelProto, kept: Iterable[State]) -> None:
    """Write into a graph's metadata what it keeps between calls."""
    others = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != _KEY]
    rows = [{"input": own.input, "output": own.output, "initial": own.initial} for own in kept]
    onnx.helper.set_model_props(model, dict(others) | ({_KEY: json.dumps(rows)} if rows else {}))


def given_inputs(model: onnx.ModelProto) -> Ports:
    """Return the inputs that are given with every call; states are none."""
    kept = {own.input for own in states(model)}
    return tuple(port for port in input_ports(model) if port.name not in kept)


def own_outputs(model: onnx.ModelProto) -> Ports:
    """Return the outputs that a caller reads; states are none."""
    kept = {own.output for own in states(model)}
    return tuple(port for port in output_ports(model) if port.name not in kept)


def initial_rows(model: onnx.ModelProto, count: int) -> NDArray[np.float32]:
    """Return what the states of so many sequences begin with, (count, values)."""
    sizes = {port.name: port.size for port in input_ports(model)}
    parts = [np.broadcast_to(np.array(own.initial, np.float32), (sizes[own.input],)) for own in states(model)]
    return np.tile(np.concatenate(parts), (count, 1))


def parsed(texts: Sequence[str]) -> dict[str, str]:
    """Return pairs of names that are written INPUT=OUTPUT.

    Raises
    ------
    UsageError
        Something else, or a name in two pairs.
    """
    found: dict[str, str] = {}
    for text in texts:
        source, _, target = text.partition("=")
        if not source or not target:
            raise UsageError(f"--state {text}: give an input and the output that it is in the next call, INPUT=OUTPUT")
        if source in found or target in found.values():
            raise UsageError(f"--state {text}: {source if source in found else target!r} is in two pairs")
        found[source] = target
    return found


def paired(model: onnx.ModelProto, pairs: dict[str, str]) -> None:
    """Put the states of a source's graph behind its other inputs and outputs, in place.

    Parameters
    ----------
    model : onnx.ModelProto
        Of any operators.
    pairs : dict of str to str
        Input -> output.

    Raises
    ------
    UsageError
        A name that the network has not.
    UnsupportedError
        Nothing is left to be given, or to be read.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    for what, values, names in (
        ("input", inputs, list(pairs)),
        ("output", list(model.graph.output), [*pairs.values()]),
    ):
        known = [value.name for value in values]
        for name in names:
            if name not in known:
                raise UsageError(f"--state: the network has no {what} {name!r}; it has {', '.join(map(repr, known))}")
        if len(names) == len(known):
            raise UnsupportedError(
                f"every {what} of the network is a state ({', '.join(names)}); it needs one more, "
                + ("of what comes with every call" if what == "input" else "that tells what it found")
            )
    for field, names in ((model.graph.input, list(pairs)), (model.graph.output, list(pairs.values()))):
        by_name = {value.name: value for value in field}
        order = [value for value in field if value.name not in names] + [by_name[name] for name in names]
        copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in order]
        del field[:]
        field.extend(copies)


def check_states(model: onnx.ModelProto) -> None:
    """Refuse states whose two sides differ.

    Raises
    ------
    UnsupportedError
        Shapes that differ, or tokens.
    """
    inputs, outputs = ({port.name: port for port in ports} for ports in (input_ports(model), output_ports(model)))
    for own in states(model):
        source, target = inputs[own.input], outputs[own.output]
        shapes = [port.source or port.shape for port in (source, target)]
        bare = [[extent for extent in shape if extent != 1] for shape in shapes]
        if bare[0] != bare[1]:
            raise UnsupportedError(
                f"state {own.input!r} has shape {shapes[0]}, and {own.output!r}, which it is to become, {shapes[1]}"
            )
        if source.tokens:
            raise UnsupportedError(f"state {own.input!r} holds integers; states are kept as values of 8 bits")
        if len(own.initial) not in (1, source.size):
            raise UnsupportedError(f"state {own.input!r} begins with {len(own.initial)} values; it has {source.size}")
