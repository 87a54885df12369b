"""Scoring one network with one proxy, beside the errors that it predicts: `tapc proxies score`."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapc.base.options import Source
from tapc.base.progress import Stages
from tapc.data import load_samples
from tapc.flow.inputs import open_model
from tapc.flow.losses.ranking import spearman
from tapc.graph.analysis import analyse
from tapc.proxy import get_proxy
from tapc.quantize import calibrate, layer_distortion
from tapc.quantize.sensitivity import proxy_context
from tapc.search.given import default_data


@dataclass(frozen=True)
class LayerScore:
    """A layer's normalized score, its measured single-layer error, and their ranks from 1, the largest first."""

    name: str
    score: float
    error: float
    score_rank: int
    error_rank: int


@dataclass(frozen=True)
class ModelScores:
    """A proxy's scores of a network.

    Attributes
    ----------
    proxy, model : str
    layers : tuple of LayerScore
    rho : float
        Spearman correlation of scores and errors.
    seconds : float
        That scoring took, statistics included.
    """

    proxy: str
    model: str
    layers: tuple[LayerScore, ...]
    rho: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def score_model(
    name: str,
    model: str,
    *,
    data: str | None = None,
    source: Source | None = None,
    calibration: int = 256,
    low_bits: int = 2,
    seed: int = 0,
    stages: Stages | None = None,
) -> ModelScores:
    """Score a network's layers, and measure what each layer's error is.

    Raises
    ------
    TapcError
        Unknown proxy or model, no data, or a proxy that breaks its contract.
    """
    stages = stages or Stages()
    proxy = get_proxy(name)
    with stages.stage("import"):
        loaded = open_model(model, source or Source(), seed)
    path = Path(data) if data is not None else default_data(model)
    x = load_samples(
        path, loaded.input_shape, pixel_scale=loaded.units, count=calibration, split="calibration", seed=seed
    ).x
    with stages.stage("calibrate"):
        network = analyse(loaded.onnx, loaded.name)
        statistics = calibrate(loaded, x, seed=seed)
        distortion = layer_distortion(loaded, network, statistics, x)
        context = proxy_context(loaded, network, statistics, x, distortion, low_bits, seed)
    with stages.stage("score"):
        start = time.perf_counter()
        scores = proxy.score(context)
        seconds = time.perf_counter() - start
    with stages.stage("measure errors"):
        assert context.output_error is not None
        errors = {layer.name: context.output_error(layer.name, low_bits) for layer in network.layers}
    names = [layer.name for layer in network.layers]
    ranks = [_ranks({n: values[n] for n in names}) for values in (scores, errors)]
    layers = tuple(LayerScore(n, scores[n], errors[n], ranks[0][n], ranks[1][n]) for n in names)
    correlation = spearman(np.array([scores[n] for n in names]), np.array([errors[n] for n in names]))
    return ModelScores(name, loaded.name, layers, correlation, seconds)


def _ranks(values: dict[str, float]) -> dict[str, int]:
    order = sorted(values, key=lambda name: -values[name])
    return {name: position + 1 for position, name in enumerate(order)}
