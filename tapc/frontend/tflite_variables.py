"""Variables of TFLite files: what is read before it is assigned in a call lives from one call to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.tflite_reader import Operator, Tensor, TfliteGraph, Variable

STATE = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


def initial_values(tensors: tuple[Tensor, ...], operators: tuple[Operator, ...]) -> dict[str, NDArray[Any]]:
    """Return what a file's initializer assigns to its variables: constants of any shape.

    Raises
    ------
    UnsupportedError
        It computes something.
    """
    handles: dict[int, str] = {}
    found = {}
    for op in operators:
        if op.kind == "VAR_HANDLE":
            handles[op.outputs[0]] = name_of(op)
        elif op.kind == "ASSIGN_VARIABLE":
            own = tensors[op.inputs[1]]
            found[handles[op.inputs[0]]] = np.zeros(own.shape, np.float32) if own.data is None else own.data
        else:
            raise UnsupportedError(f"the initializer of the variables computes {op.kind}; only constants are supported")
    return found


def name_of(op: Operator) -> str:
    """Return the name of a VAR_HANDLE's variable."""
    return "/".join(str(op.options[key] or "") for key in ("Container", "SharedName")).strip("/")


def without_variables(graph: TfliteGraph, initial: Mapping[str, NDArray[Any]]) -> TfliteGraph:
    """Return a graph whose variables are tensors that it reads and others that it writes.

    Parameters
    ----------
    graph : TfliteGraph
        With operators of variables.
    initial : mapping of str to ndarray
        Variable -> its real values in the first call.

    Raises
    ------
    UnsupportedError
        A variable that never changes, or of which the type or scale does.
    """
    handles: dict[int, str] = {}
    first: dict[str, int] = {}
    now: dict[str, int] = {}
    same: dict[int, int] = {}
    kept = []
    for op in graph.operators:
        if op.kind == "VAR_HANDLE":
            handles[op.outputs[0]] = name_of(op)
        elif op.kind == "READ_VARIABLE":
            name = _handle(op, handles)
            if name in now:
                same[op.outputs[0]] = now[name]
            else:
                first[name] = now[name] = op.outputs[0]
        elif op.kind == "ASSIGN_VARIABLE":
            name = _handle(op, handles)
            now[name] = same.get(op.inputs[1], op.inputs[1])
        elif op.kind != "CALL_ONCE":
            kept.append(replace(op, inputs=tuple(same.get(index, index) for index in op.inputs)))
    for name, index in first.items():
        before, after = graph.tensors[index], graph.tensors[now[name]]
        if index == now[name]:
            if name in initial:
                raise UnsupportedError(f"variable {name!r} is read and never assigned: it is a constant; fold it")
            raise UnsupportedError(
                f"variable {name!r} is read, but the file gives it no value, and LiteRT cannot run it either; use "
                "TFLiteConverter.from_keras_model(model), or from_concrete_functions([function]) without the model"
            )
        if (before.shape, before.type, before.quantization) != (after.shape, after.type, after.quantization):
            raise UnsupportedError(
                f"variable {name!r} is read as {before.type} of shape {before.shape} and assigned {after.type} of "
                f"shape {after.shape}, or at another scale; convert the model with one type and scale for it"
            )
    outputs = tuple(same.get(index, index) for index in graph.outputs)
    seen = _seen(kept, outputs, {name: (index, now[name]) for name, index in first.items()})
    variables = tuple(
        Variable(name, index, now[name], _initial(name, graph, index, initial))
        for name, index in first.items()
        if name in seen
    )
    return replace(graph, operators=tuple(kept), outputs=outputs, variables=variables)


def _seen(operators: Sequence[Operator], outputs: Sequence[int], pairs: Mapping[str, tuple[int, int]]) -> set[str]:
    """Return the variables that outputs depend on; others, such as the state of a random generator, are left out."""
    needed, seen = set(outputs), set[str]()
    while True:
        for op in reversed(operators):
            if needed.intersection(op.outputs):
                needed.update(op.inputs)
        found = {name for name, (before, _) in pairs.items() if before in needed} - seen
        if not found:
            return seen
        seen |= found
        needed |= {pairs[name][1] for name in found}


def _handle(op: Operator, handles: Mapping[int, str]) -> str:
    if op.inputs[0] not in handles:
        raise DataError(f"operator {op.index} ({op.kind}) has a variable that no VAR_HANDLE names")
    return handles[op.inputs[0]]


def _initial(name: str, graph: TfliteGraph, index: int, initial: Mapping[str, NDArray[Any]]) -> tuple[float, ...]:
    values = initial.get(name)
    if values is None:
        return (0.0,)
    if values.size != np.prod(graph.tensors[index].shape):
        raise DataError(f"variable {name!r} has shape {graph.tensors[index].shape}, its initializer {values.shape}")
    flat = values.reshape(-1).astype(np.float32)
    if not np.isfinite(flat).all():
        raise DataError(f"variable {name!r} begins with NaN or infinite values")
    return (float(flat[0]),) if (flat == flat[0]).all() else tuple(flat.tolist())
