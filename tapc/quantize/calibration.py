"""Calibration: what values every quantized tensor takes on sample inputs."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tapc.base.errors import DataError
from tapc.base.ports import sample_shape
from tapc.graph.analysis import Graph, Point, quantization_points
from tapc.quantize.runtime import Float, batched, batches, session

SAMPLES_PER_TENSOR = 1 << 16


class HasGraph(Protocol):
    """A model that carries its canonical float ONNX; `tapc.frontend.FloatModel` is one."""

    @property
    def onnx(self) -> onnx.ModelProto:
        """The canonical float ONNX."""


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """Values of one tensor over the calibration samples.

    Attributes
    ----------
    point : Point
        The quantization point.
    low, high : float
        Exact extremes.
    values : float32 (n,)
        Random sub-sample, sorted, at most about `SAMPLES_PER_TENSOR` values.
    """

    point: Point
    low: float
    high: float
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """What samples say about a network.

    Attributes
    ----------
    tensors : dict of str to TensorStatistics
        Per quantized tensor of the float graph, in execution order.
    samples : int
        Number of samples seen.
    pictures : bool
        They are pictures: few of them may be joined by mirrored and shifted copies.
    """

    tensors: dict[str, TensorStatistics]
    samples: int
    pictures: bool = False


def calibrate(model: HasGraph, x: Float, *, seed: int, pictures: bool = False) -> Calibration:
    """Run the float network on samples and keep the statistics of every quantized tensor.

    Parameters
    ----------
    model : FloatModel
        Canonical float ONNX in `model.onnx`.
    x : float32 (N, *input_shape[1:])
        Samples in the network's input units; rows (N, values) where there are several inputs.
    seed : int
        Chooses the sub-sample.
    pictures : bool
        The samples are pictures.

    Raises
    ------
    DataError
        No samples, a wrong shape, or NaN or infinite values in the samples or in any tensor.
    """
    graph = Graph(model.onnx)
    expected = sample_shape(graph.input_ports)
    if len(x) == 0:
        raise DataError("the calibration set is empty; give at least one sample, 256 are usual")
    if x.shape[1:] != expected:
        raise DataError(f"calibration samples have shape {x.shape[1:]}, the network takes {expected}")
    if not np.isfinite(x).all():
        bad = int(np.argmin(np.isfinite(x).reshape(len(x), -1).all(axis=1)))
        raise DataError(f"calibration sample {bad} holds NaN or infinite values; remove or repair it")
    points = {point.tensor: point for point in quantization_points(graph)}
    names = [name for name in points if name not in graph.inputs]
    exposed = batched(model.onnx)
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    runner = session(exposed, optimized=True)

    elements = {name: int(np.prod(graph.shape(name))) for name in points}
    per_sample = max(1, SAMPLES_PER_TENSOR // len(x))
    rng = np.random.default_rng(seed)
    low = dict.fromkeys(points, np.inf)
    high = dict.fromkeys(points, -np.inf)
    kept: dict[str, list[NDArray[np.float32]]] = {name: [] for name in points}
    for part in batches(np.ascontiguousarray(x, np.float32), 8 * sum(elements.values())):
        given = graph.feed(part)
        results = dict(zip(names, runner.run(names, given), strict=True)) | given
        for name, point in points.items():
            values = results[point.joined or name].reshape(-1)
            low[name] = min(low[name], float(values.min()))
            high[name] = max(high[name], float(values.max()))
            if not (np.isfinite(low[name]) and np.isfinite(high[name])):
                raise DataError(f"tensor {name!r} takes NaN or infinite values on the calibration samples")
            wanted = per_sample * len(part)
            if wanted < len(values):
                values = values[rng.integers(0, len(values), wanted)]
            kept[name].append(values)
    statistics = {
        name: TensorStatistics(point, low[name], high[name], np.sort(np.concatenate(kept[name])))
        for name, point in points.items()
    }
    return Calibration(statistics, len(x), pictures)
