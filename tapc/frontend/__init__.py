"""Any supported source -> one canonical float ONNX graph, checked against the source's own runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc import zoo
from tapc.base import worker
from tapc.base.detector import described
from tapc.base.errors import UnsupportedError, UsageError
from tapc.base.ports import Ports
from tapc.base.precheck import CALLABLE, NETWORKS, check_source
from tapc.frontend.boundary import reading
from tapc.frontend.detectors import name_detector
from tapc.frontend.given import float_inside, resolve, without_marks
from tapc.frontend.model import FloatModel, Imported, Reference
from tapc.frontend.onnx_constants import parsed_constants
from tapc.frontend.pairs import with_pairs
from tapc.frontend.verify import arranged, source_error
from tapc.graph.interface import input_ports, output_ports
from tapc.graph.state import State, check_states, parsed, set_states

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FloatModel", "Reference", "load", "source_error"]


def load(
    source: "str | Path | nn.Module",
    *,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    samples: NDArray[Any] | None = None,
    seed: int = 0,
    keep: bool = True,
    state: Mapping[str, str] | Sequence[str] = (),
    constant: Mapping[str, float] | Sequence[str] = (),
) -> FloatModel:
    """Load a network and check the canonical graph against the source's own runtime.

    Parameters
    ----------
    source : str, pathlib.Path or torch.nn.Module
        Zoo name, `file.py:callable`, `file.onnx`, `file.tflite`, or a module object.
    weights : pathlib.Path or None
        Weights for a torch module: safetensors or a torch state dict.
    input_shape : tuple of int or None
        (1, C, H, W) or (1, features); needed where the source does not tell it.
    samples : float32 array of shape (N, *input_shape[1:]) or None
        Real inputs in canonical layout that are compared besides random ones; rows (N, values) of several inputs.
    seed : int
        Seed of the random inputs and of a callable's random weights.
    keep : bool
        Of a network that is quantized already, scales and integers are kept; without it, it is read as a float network,
        as one is that has quantizers at its ends alone.
    state : mapping of str to str, or sequence of str
        What the network keeps between calls: input -> output that it is in the next call, or texts INPUT=OUTPUT.
        Variables of TFLite files are kept anyway.
    constant : mapping of str to float, or sequence of str
        Inputs of an ONNX file that always hold one number, such as a sampling rate, or texts INPUT=VALUE. Branches (If)
        that they choose are followed.

    Returns
    -------
    FloatModel
        The canonical graph and what is known about it.

    Raises
    ------
    UsageError
        Unknown source, or options that do not apply to it.
    UnsupportedError
        Operator, attribute, dynamic shape or quantized network that tapc does not lower.
    DataError
        Missing or corrupt file, NaN weights, or a graph that does not compute what the source computes.
    """
    from tapc.frontend.canonical import canonical_form  # onnx-ir takes a second, which not everyone here needs

    pairs = dict(state) if isinstance(state, Mapping) else parsed((state,) if isinstance(state, str) else state)
    held = dict(constant) if isinstance(constant, Mapping) else (constant,) if isinstance(constant, str) else constant
    constants = held if isinstance(held, dict) else parsed_constants(held)
    name = str(source) if isinstance(source, str | Path) else type(source).__name__
    if constants and Path(name).suffix.lower() != ".onnx":
        raise UsageError("--constant is for inputs of ONNX files")
    with reading(name):  # no reader foresees everything that a file may hold
        if isinstance(source, str | Path):
            imported = _read(name, weights, input_shape, seed, pairs, constants)
        else:
            imported = _read_module(source, weights, input_shape, pairs)
        given, source_graph = (imported.given if keep else None), imported.graph
        if given is None and imported.given is not None:
            source_graph = without_marks(source_graph)
        own = {kept.input: kept.output for kept in imported.states}
        canonical = canonical_form(source_graph, channels_last=imported.channels_last, pairs=own)
        if given is not None and float_inside(canonical.onnx, given):
            given = None
            bare = without_marks(source_graph)
            canonical = canonical_form(bare, channels_last=imported.channels_last, pairs=own)
        graph, run = canonical.onnx, arranged(canonical.inputs, canonical.outputs, imported.run)
        if given is not None:
            if given.obstacle:
                raise UnsupportedError(f"{given.obstacle}, or compile it with --requantize")
            graph, given = resolve(graph, given)
        set_states(graph, [_arranged(kept, canonical.inputs) for kept in imported.states])
        check_states(graph)
        name_detector(graph, imported.detector or described(imported.graph))
        inputs, outputs = input_ports(graph), output_ports(graph)
        if imported.channels_last and input_shape is not None and tuple(input_shape) != inputs[0].shape:
            raise UsageError(f"its input has shape {inputs[0].shape}, not {tuple(input_shape)}")
        for port in (*inputs, *outputs):
            if 0 in port.shape:
                raise UnsupportedError(f"{name}: {port.name!r} has shape {port.shape}, which holds nothing")
        error = source_error(graph, run, samples, seed) if run is not None else None
    return FloatModel(
        name=imported.name,
        onnx=graph,
        inputs=inputs,
        outputs=outputs,
        source=name,
        source_error=error,
        pixel_scale=imported.pixel_scale,
        labels=imported.labels,
        provenance=imported.provenance,
        run=run,
        mean=imported.mean,
        std=imported.std,
        dataset=imported.dataset,
        given=given,
    )


def _arranged(kept: State, ports: Ports) -> State:
    """Return a state whose initial values lie as the canonical input does."""
    port = next(port for port in ports if port.name == kept.input)
    if len(kept.initial) != port.size:
        return kept
    return replace(kept, initial=tuple(port.canonical(np.array(kept.initial, np.float32)[None]).reshape(-1).tolist()))


def _read_module(
    module: "nn.Module", weights: Path | None, input_shape: tuple[int, ...] | None, pairs: dict[str, str]
) -> Imported:
    """Read a module object."""
    from tapc.frontend.torch_source import import_module

    name = type(module).__name__
    if not hasattr(module, "state_dict"):
        raise UsageError(f"cannot compile an object of type {name}; give a name, a file or a torch.nn.Module")
    shape = input_shape or getattr(module, "input_shape", None)
    if shape is None:
        raise UsageError(f"{name}: the input shape is unknown; pass input_shape=(1, C, H, W)")
    if weights is not None:
        zoo.load_weights(module, weights)
    return with_pairs(import_module(module, shape, name, f"torch module {name}", pairs), pairs)


def _read(
    source: str,
    weights: Path | None,
    input_shape: tuple[int, ...] | None,
    seed: int,
    pairs: dict[str, str],
    constants: Mapping[str, float],
) -> Imported:
    """Choose the importer; each is imported only when it is needed, because their runtimes are large."""
    known = {entry.name: entry for entry in zoo.models()}
    if source in known:
        if pairs:
            raise UsageError(f"--state: the zoo model {source} keeps nothing between calls")
        imported = _read_zoo(known[source], weights)
        given = _shape(imported.graph.graph.input[0])
        if input_shape is not None and tuple(input_shape) != given:
            raise UsageError(f"the zoo model {source} has input shape {given} with these weights, not {input_shape}")
        return imported
    path = Path(source)
    if weights is not None and path.suffix.lower() in NETWORKS:
        raise UsageError(f"{source} carries its own weights; --weights is for zoo models and torch modules")
    check_source(source, zoo.names())
    if CALLABLE.fullmatch(source):
        from tapc.frontend.torch_source import read_callable

        return with_pairs(read_callable(source, weights, input_shape, seed, pairs), pairs)
    if path.suffix.lower() == ".onnx":
        from tapc.frontend.onnx_source import read_onnx

        return read_onnx(path, input_shape, pairs, constants)
    from tapc.frontend.tflite_source import read_tflite

    return with_pairs(read_tflite(path), pairs)


def _read_zoo(entry: zoo.ZooEntry, weights: Path | None) -> Imported:
    """Read a zoo network where torch is; see `tapc.base.worker`."""
    there = worker.current()
    if there is None:
        from tapc.frontend.torch_source import read_zoo

        return read_zoo(entry, weights)
    imported: Imported
    imported, key = there.call("tapc.frontend.torch_source:hold_zoo", entry.name, weights)
    return replace(imported, run=partial(there.call, "tapc.frontend.torch_source:run_held", key))


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
