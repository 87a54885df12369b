"""Compare the canonical graph with the runtime of the source it came from."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.base.ports import Port, Ports, joined, sample_shape, split
from tapc.frontend.boundary import first_line
from tapc.frontend.model import Runner, one_by_one
from tapc.graph.interface import input_ports, output_ports
from tapc.graph.rules import rule

ROUNDING = 1e-4
"""Difference to the source runtime, relative to the largest output, that rounding in float32 explains; more is told."""
TOLERANCE = 1e-3
"""Relative difference that is refused."""
_RANDOM_INPUTS = 4


def arranged(inputs: Ports, outputs: Ports, run: Runner | None) -> Runner | None:
    """Return a source's runner that takes and gives canonical tensors; None where there is none."""
    if run is None:
        return None

    def each(x: NDArray[Any]) -> NDArray[Any]:
        parts = [port.restored(part) for port, part in _parts(inputs, x)]
        given = joined(parts if len(parts) == 1 else [part.reshape(len(x), -1) for part in parts])
        return joined([port.canonical(part) for port, part in _parts(outputs, run(given).reshape(len(x), -1))])

    return each


def _parts(ports: Ports, x: NDArray[Any]) -> list[tuple[Port, NDArray[Any]]]:
    rows, ends = x.reshape(len(x), -1), np.cumsum([port.size for port in ports]).tolist()
    return [(port, rows[:, end - port.size : end]) for port, end in zip(ports, ends, strict=True)]


def onnx_runner(
    model: onnx.ModelProto,
    batch: int = 1,
    held: Mapping[str, NDArray[Any]] | None = None,
    file: onnx.ModelProto | None = None,
) -> Runner:
    """Return a function that runs an ONNX model in onnxruntime on one CPU thread.

    The first call raises DataError if onnxruntime refuses the model.

    Parameters
    ----------
    model : onnx.ModelProto
    batch : int
        Its fixed batch: so many samples are given at once, the last of them more than once where there are fewer.
    held : mapping of str to ndarray, optional
        Inputs of `file` that are none of a sample's.
    file : onnx.ModelProto, optional
        What runs in place of `model`, which has the shapes: a network with branches as it is in its file. onnxruntime
        crashes at some that a constant chooses, and refuses others that fixed shapes would make invalid.
    """
    constants = {*(tensor.name for tensor in model.graph.initializer), *(held or {})}
    values = [value for value in model.graph.input if value.name not in constants]
    shapes = [tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values]
    # A state of batch 1 may have another first axis.
    extents = [shape if batch == 1 else shape[1:] for shape in shapes]
    ports = tuple(Port(value.name, (1, *own)) for value, own in zip(values, extents, strict=True))
    types = {value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in values}

    @functools.cache
    def session() -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            content = (model if file is None else file).SerializeToString()
            return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise DataError(f"onnxruntime cannot run the model: {first_line(error)}") from error

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(x)
        whole = np.concatenate([x, np.repeat(x[-1:], batch - count, axis=0)]) if count < batch else x
        feed = {name: value.astype(types[name], copy=False) for name, value in split(ports, whole).items()}
        if batch == 1:
            feed = {name: value.reshape(own) for (name, value), own in zip(feed.items(), shapes, strict=True)}
        try:
            found = session().run(None, {**feed, **({} if held is None or file is None else held)})
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"onnxruntime cannot run the model: {first_line(error)}") from error
        # A source of batch 1 may have outputs whose first axis is none.
        values = [np.asarray(value) for value in found]
        return (
            joined([value[:count] if batch > 1 else value for value in values])
            if len(values) == 1
            else joined([(value[:count] if batch > 1 else value).reshape(count, -1) for value in values])
        )

    def together(x: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([run(x[start : start + batch]) for start in range(0, len(x), batch)])

    return one_by_one(run) if batch == 1 else together


def source_error(
    canonical: onnx.ModelProto, reference: Runner, samples: NDArray[np.float32] | None, seed: int
) -> float:
    """Measure the largest difference between a canonical graph and its source.

    Parameters
    ----------
    canonical : onnx.ModelProto
        Canonical graph, run in onnxruntime.
    reference : Callable
        The source's own runtime.
    samples : float32 array of shape (N, *input_shape[1:]) or None
        Real inputs, tried after four random ones that are uniform in [0, 1).
    seed : int
        Seed of the random inputs.

    Returns
    -------
    float
        Largest difference over all inputs, relative to the largest absolute value of the same output, or to that which
        the operator may give that ends in it, as 1 of a sigmoid; of several outputs the largest.

    Raises
    ------
    DataError
        The difference exceeds `TOLERANCE` of the largest output, or samples have the wrong shape or are not finite.
    """
    ports, outputs = input_ports(canonical), output_ports(canonical)
    inputs, shape = _random(ports, seed), sample_shape(ports)
    if samples is not None:
        if samples.shape[1:] != shape:
            raise DataError(f"samples have shape {samples.shape}; the network's input is {(1, *shape)}")
        if not np.isfinite(samples).all():
            raise DataError("samples hold NaN or infinite values")
        inputs = np.concatenate([inputs, samples.astype(np.float32)])
    run = onnx_runner(canonical)
    errors, largest = dict.fromkeys((port.name for port in outputs), 0.0), own_ranges(canonical, outputs)
    for x in inputs:
        expected, got = reference(x[None]), run(x[None])
        if expected.shape != got.shape:
            raise DataError(f"the source computes an output of shape {expected.shape}, its ONNX graph {got.shape}")
        if not np.isfinite(expected).all():
            raise DataError("the source network's output is not finite on inputs in [0, 1)")
        exact = split(outputs, expected)
        for name, value in split(outputs, got).items():
            errors[name] = max(errors[name], float(np.abs(exact[name] - value).max()))
            largest[name] = max(largest[name], float(np.abs(exact[name]).max()))
    for name, error in errors.items():
        if relative(error, largest[name]) > TOLERANCE:
            where = f" at output {name!r}" if len(outputs) > 1 else ""
            raise DataError(
                f"the canonical graph differs from its source by {error:.3g}{where} where the largest output is "
                f"{largest[name]:.3g}; export the model in inference mode, without control flow that depends on the "
                "data"
            )
    return max(relative(error, largest[name]) for name, error in errors.items())


def own_ranges(canonical: onnx.ModelProto, outputs: Ports) -> dict[str, float]:
    """Return the largest values that the outputs' own operators may give; 0 where these have no fixed range."""
    made, found = {name: node for node in canonical.graph.node for name in node.output}, {}
    for port in outputs:
        node = made.get(port.name)
        while node is not None and (rule(node).arranges or rule(node).flattens):
            node = made.get(node.input[0])
        ends = None if node is None else rule(node).output
        found[port.name] = 0.0 if ends is None else max(map(abs, ends))
    return found


def relative(error: float, largest: float) -> float:
    """Return an absolute difference as a share of the largest value; of values that are all 0, infinity or 0."""
    return error / largest if largest else np.inf if error else 0.0


def _random(ports: Ports, seed: int) -> NDArray[np.float32]:
    """Return a few random inputs, uniform in [0, 1), tokens among those that there are."""
    generator = np.random.default_rng(seed)
    return joined(
        [
            generator.integers(0, port.tokens, (_RANDOM_INPUTS, *port.shape[1:])).astype(np.float32)
            if port.tokens
            else generator.random((_RANDOM_INPUTS, *port.shape[1:]), np.float32)
            for port in ports
        ]
    )
