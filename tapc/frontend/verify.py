"""Compare the canonical graph with the runtime of the source it came from."""

import functools
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.frontend.boundary import first_line
from tapc.frontend.model import Runner, one_by_one

TOLERANCE = 1e-3
"""Largest difference to the source runtime, relative to the largest output, that is rounding."""
_RANDOM_INPUTS = 4


def onnx_runner(model: onnx.ModelProto, input_name: str) -> Runner:
    """Return a function that runs a float ONNX model in onnxruntime on one CPU thread.

    The first call raises DataError if onnxruntime refuses the model.
    """

    @functools.cache
    def session() -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise DataError(f"onnxruntime cannot run the model: {first_line(error)}") from error

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return np.asarray(session().run(None, {input_name: x})[0])
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"onnxruntime cannot run the model: {first_line(error)}") from error

    return one_by_one(run)


def source_error(
    canonical: onnx.ModelProto, reference: Runner, samples: NDArray[np.float32] | None, seed: int
) -> float:
    """Measure the largest absolute difference between a canonical graph and its source.

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
        Largest absolute difference over all inputs and outputs.

    Raises
    ------
    DataError
        The difference exceeds `TOLERANCE` of the largest output, or samples have the wrong shape or are not finite.
    """
    value = canonical.graph.input[0]
    shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    inputs = np.random.default_rng(seed).random((_RANDOM_INPUTS, *shape[1:]), np.float32)
    if samples is not None:
        if samples.shape[1:] != shape[1:]:
            raise DataError(f"samples have shape {samples.shape}; the network's input is {shape}")
        if not np.isfinite(samples).all():
            raise DataError("samples hold NaN or infinite values")
        inputs = np.concatenate([inputs, samples.astype(np.float32)])
    run = onnx_runner(canonical, value.name)
    error = largest = 0.0
    for x in inputs:
        expected, got = reference(x[None]), run(x[None])
        if expected.shape != got.shape:
            raise DataError(f"the source computes an output of shape {expected.shape}, its ONNX graph {got.shape}")
        if not np.isfinite(expected).all():
            raise DataError("the source network's output is not finite on inputs in [0, 1)")
        error = max(error, float(np.abs(expected - got).max()))
        largest = max(largest, float(np.abs(expected).max()))
    if error > TOLERANCE * largest:
        raise DataError(
            f"the canonical graph differs from its source by {error:.3g} where the largest output is {largest:.3g}; "
            "export the model in inference mode, without control flow that depends on the data"
        )
    return error
