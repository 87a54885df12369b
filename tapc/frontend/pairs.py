"""States of a source that does not say what it keeps: pairs of its inputs and outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import UsageError
from tapc.frontend.model import Imported, Runner
from tapc.graph.state import State, paired


def with_pairs(imported: Imported, pairs: Mapping[str, str]) -> Imported:
    """Return a network of which some inputs are outputs of the call before.

    Parameters
    ----------
    imported : Imported
        Of a static graph.
    pairs : mapping of str to str
        Input -> output.
    """
    if not pairs:
        return imported
    for own in imported.states:
        if own.input in pairs or own.output in pairs.values():
            raise UsageError(f"--state: {own.input!r} is a variable of the file, which is kept anyway")
    graph = onnx.ModelProto()
    graph.CopyFrom(imported.graph)
    before = _names(graph.graph.input), _names(graph.graph.output)
    paired(graph, dict(pairs))
    after = _names(graph.graph.input), _names(graph.graph.output)
    run, sizes = imported.run, _sizes(graph)
    if run is not None:
        run = _reordered(run, sizes, before, after)
    return replace(imported, graph=graph, run=run, states=(*imported.states, *(State(*pair) for pair in pairs.items())))


def _names(values: Any) -> list[str]:
    return [str(value.name) for value in values]


def _sizes(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: int(np.prod([dim.dim_value for dim in value.type.tensor_type.shape.dim]))
        for value in (*inferred.input, *inferred.output)
    }


def _reordered(
    run: Runner, sizes: Mapping[str, int], before: tuple[list[str], list[str]], after: tuple[list[str], list[str]]
) -> Runner:
    """Return a runner that takes and gives what another one does, in another order."""

    def each(x: NDArray[Any]) -> NDArray[Any]:
        given = _moved(x.reshape(len(x), -1), sizes, after[0], before[0])
        return _moved(run(given).reshape(len(x), -1), sizes, before[1], after[1])

    return each


def _moved(x: NDArray[Any], sizes: Mapping[str, int], old: Sequence[str], new: Sequence[str]) -> NDArray[Any]:
    ends = dict(zip(old, np.cumsum([sizes[name] for name in old]).tolist(), strict=True))
    return np.concatenate([x[:, ends[name] - sizes[name] : ends[name]] for name in new], axis=1)
