"""Whether a network still computes what its source computes: asked after every transformation, on samples."""

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError, MismatchError
from tapc.base.ports import split
from tapc.frontend import FloatModel, Reference
from tapc.frontend.verify import ROUNDING, TOLERANCE, own_ranges, relative
from tapc.graph.analysis import analyse
from tapc.quantize.runtime import Float, evaluate

_LEAST_SAMPLES = 8
_MACS = 4_000_000_000
"""Work that one comparison may take: all calibration samples of small networks, some of large ones."""


def source_outputs(model: FloatModel, x: Float) -> Float:
    """Return what the source network itself gives, in its own runtime.

    Parameters
    ----------
    model : FloatModel
        Where the source's runtime is missing (see `FloatModel.provenance`), its graph is run instead.
    x : float32 (N, *input_shape[1:])

    Returns
    -------
    float32 (N, ...)
    """
    if model.run is None:
        return evaluate(model.onnx, x, optimized=True)
    return np.asarray(model.run(np.ascontiguousarray(x, np.float32)), np.float32)


def check_on(model: FloatModel, x: Float) -> FloatModel:
    """Compare a network with its source on samples, and keep what the source gives for later comparisons.

    Parameters
    ----------
    model : FloatModel
        As it was loaded.
    x : float32 (N, *input_shape[1:])
        Samples; as many of them are taken as `affordable` says.

    Raises
    ------
    DataError
        They differ by more than rounding, or the source's outputs are not finite.
    """
    taken = np.ascontiguousarray(x[affordable(model, len(x))], np.float32)
    if len(taken) > 1 and np.array_equal(taken, np.broadcast_to(taken[:1], taken.shape)):
        raise DataError(
            f"all {len(taken)} calibration samples are the same, so the network shows nothing; check the data: "
            "the wrong column, a scale of 0, an empty recording?"
        )
    y = source_outputs(model, taken)
    if not np.isfinite(y).all():
        raise DataError("the network's output is NaN or infinite for some of the samples; check the samples' units")
    found = replace(model, reference=Reference(taken, y))
    if model.run is None:
        return found
    assert found.reference is not None
    error, worst, largest = _difference(found, found.reference)
    if error > TOLERANCE:
        raise DataError(
            f"canonicalization: the graph differs from its source by {worst:.3g} on the samples, where the largest "
            f"output is {largest:.3g}; export the model in inference mode, without control flow that depends on it"
        )
    return replace(found, source_error=max(error, model.source_error or 0.0))


def unmoved(model: FloatModel) -> tuple[str, ...]:
    """Return a warning where the source gives one and the same output for all samples that `check_on` was given."""
    known = model.reference
    if known is None or len(known.y) < 2 or (known.y != known.y[0]).any():
        return ()
    return (
        f"the network gives the same output for all {len(known.y)} calibration samples: it does not react to them; "
        "check that they are its inputs, in its units",
    )


def imprecise(model: FloatModel) -> tuple[str, ...]:
    """Return a warning where the graph differs from its source by more than rounding explains, yet is not refused."""
    if model.source_error is None or model.source_error <= ROUNDING:
        return ()
    return (
        f"the float graph differs from its source by {model.source_error:.1e} of the largest output, more than the "
        f"{ROUNDING:.0e} that rounding explains: the network is ill-conditioned, or its source computes with less "
        "precision",
    )


def transformed(model: FloatModel, graph: onnx.ModelProto, stage: str, x: Float) -> FloatModel:
    """Return a network with another graph, which must compute the same.

    Parameters
    ----------
    model : FloatModel
    graph : onnx.ModelProto
    stage : str
        What made the graph, for the error.
    x : float32 (N, *input_shape[1:])
        Samples to compare on where `check_on` has not been called.

    Raises
    ------
    MismatchError
        The graph does not compute what the source does.
    """
    model = model if model.reference is not None else check_on(model, x)
    assert model.reference is not None
    return check_same(replace(model, onnx=graph), model.reference, stage)


def check_same(model: FloatModel, reference: Reference, stage: str) -> FloatModel:
    """Compare a network with what its source gave; return it with the larger error.

    Raises
    ------
    MismatchError
        They differ by more than rounding: names the stage.
    """
    error, worst, largest = _difference(model, reference)
    if error > TOLERANCE:
        raise MismatchError(
            f"{stage} changed what the network computes, by {worst:.3g} where the largest output is {largest:.3g}, a "
            "fault of tapc" + ("; --no-equalize avoids it" if stage == "equalization" else "")
        )
    return replace(model, source_error=None if model.source_error is None else max(error, model.source_error))


def affordable(model: FloatModel, samples: int) -> NDArray[np.int64]:
    """Return which samples a comparison may take, spread evenly over all: at least 8, all of them where it is cheap."""
    macs = sum(layer.macs for layer in analyse(model.onnx, model.name).layers)
    macs += sum(port.size for port in (*model.inputs, *model.outputs))
    count = min(samples, max(_LEAST_SAMPLES, _MACS // macs))
    return np.linspace(0, samples - 1, count).round().astype(np.int64)


def _difference(model: FloatModel, reference: Reference) -> tuple[float, float, float]:
    """Return the worst output's largest difference: relative to its largest value, absolute, and that value."""
    got = evaluate(model.onnx, reference.x, optimized=True)
    if got.shape != reference.y.shape:
        raise DataError(f"the source gives outputs of shape {reference.y.shape}, its graph {got.shape}")
    exact, ranges = split(model.outputs, reference.y), own_ranges(model.onnx, model.outputs)
    found = []
    for name, value in split(model.outputs, got).items():
        difference = np.abs(value - exact[name])
        error = float(difference.max()) if np.isfinite(difference).all() else float("inf")
        found.append((error, max(ranges[name], float(np.abs(exact[name]).max()))))
    worst, largest = max(found, key=lambda entry: relative(*entry))
    return relative(worst, largest), worst, largest
