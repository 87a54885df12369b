"""What a network loses at given bits: rounded both ways, run in onnxruntime, compared with the float network."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import spearmanr

from tapc.base.cache import digest
from tapc.base.errors import DataError
from tapc.data import Samples, load_samples
from tapc.data.choice import choose
from tapc.data.load import open_data
from tapc.data.masks import masks_of
from tapc.data.metrics import Metric
from tapc.data.metrics import measure as measured
from tapc.flow.balancing import balance, suited
from tapc.flow.losses.draw import Drawn
from tapc.flow.losses.sounds import machine_sounds
from tapc.flow.losses.table import ROUNDINGS, LossRow, Measured
from tapc.frontend import FloatModel, load
from tapc.frontend.identity import network_digest
from tapc.graph.analysis import Graph, analyse
from tapc.graph.network import Bits, Network
from tapc.quantize import Calibration, calibrate, evaluate
from tapc.quantize.losses import OutputLoss
from tapc.quantize.rounding import quick_method
from tapc.quantize.sensitivity import without_softmax
from tapc.quantize.together import rounded_quickly, up_to

Array = NDArray[np.float32]
MetricName = Literal["top1", "agreement", "anomaly", "binary", "regression", "auc", "miou", "map", "none"]

SOUNDS = "synthesized machine sounds"


@dataclass(frozen=True)
class Source:
    """A network and its data, by name.

    Attributes
    ----------
    name : str
        The network's name in the benchmark.
    model : str
        What `tapc.frontend.load` takes.
    data : Path or None
        Labelled samples; None for an autoencoder's, which are synthesized. A training set serves calibration and a test
        set the measurement; a single set is divided by a permutation.
    calibration, rounding, test : int
        Samples that scales and scores are taken from; the first of them, that gptq sees; samples that are measured.
    weights : Path or None
        As for `tapc.frontend.load`.
    seed : int
        Of the draw of samples and of calibration.
    answers : bool
        In place of the data's labels those that the float network gives.
    """

    name: str
    model: str
    data: Path | None
    calibration: int
    rounding: int
    test: int
    weights: Path | None = None
    seed: int = 0
    answers: bool = False


@dataclass(frozen=True, eq=False)
class Setup:
    """A network ready to be measured: equalized for 4-bit weights and calibrated.

    Attributes
    ----------
    source : Source
    model_sha256 : str
        Of the canonical float ONNX before equalization.
    model : FloatModel
    network : Network
    calibration : Calibration
    samples, test : Samples
    identity : str
        See `tapc.frontend.identity`.
    """

    source: Source
    model_sha256: str
    model: FloatModel
    network: Network
    calibration: Calibration
    samples: Samples
    test: Samples
    identity: str = ""

    @property
    def metric(self) -> MetricName:
        """How the network is judged."""
        if self.test.y is None:
            return "anomaly"
        if self.source.answers:
            return "agreement"
        return "top1" if self.judge is None else self.judge.name

    @cached_property
    def judge(self) -> Metric | None:
        """What labels measure that are no classes, or classes of one output; None where the largest output is right."""
        if self.test.y is None or self.source.answers:
            return None
        found = choose("auto", self.test, self.logits)
        if found.name == "none":
            raise DataError(f"{self.test.source}: there is no accuracy to measure: {found.reason}")
        return None if found.classes else found

    def portable(self) -> "Setup":
        """Return it without the source's own runtime, which cannot be sent to another process."""
        return replace(self, model=replace(self.model, run=None))

    @cached_property
    def logits(self) -> onnx.ModelProto:
        """The float network up to its scores."""
        return without_softmax(self.model.onnx)

    @cached_property
    def exact(self) -> Array:
        """What the float network gives for the test samples."""
        return evaluate(self.logits, self.test.x, optimized=True)

    @property
    def content(self) -> list[Any]:
        """Everything that losses depend on, apart from the bits and the code; partial results are found by it."""
        source = self.source
        return [self.model_sha256, self.data_sha256, source.calibration, source.rounding, source.seed]

    @property
    def digest(self) -> str:
        """Identify the content."""
        return digest(self.content)

    @cached_property
    def data_sha256(self) -> str:
        """Identify all samples and labels as the network takes them."""
        arrays = [a for s in (self.samples, self.test) for a in (s.x, s.y) if a is not None]
        state = hashlib.sha256()
        for array in arrays:
            state.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
        return state.hexdigest()


def prepare(source: Source) -> Setup:
    """Load, equalize and calibrate a network as `tapc compile` does.

    Raises
    ------
    DataError
        Model or data are missing or do not fit, or the data has no labels.
    """
    return setup_of(source, load(source.model, weights=source.weights, seed=source.seed, keep=False))


def setup_of(source: Source, loaded: FloatModel) -> Setup:
    """Equalize and calibrate a network that is loaded already.

    Raises
    ------
    DataError
        The data is missing or does not fit, or has no labels.
    """
    samples, test = _divided(source, loaded)
    if source.answers:
        scores = evaluate(without_softmax(loaded.onnx), test.x, optimized=True).reshape(len(test.x), -1)
        test = replace(test, y=scores.argmax(axis=1))
    model = balance(loaded, samples.x)
    network = analyse(model.onnx, source.name)
    calibration = calibrate(model, samples.x, seed=source.seed, pictures=samples.pictures)
    digest = hashlib.sha256(loaded.onnx.SerializeToString(deterministic=True)).hexdigest()
    identity = network_digest(loaded.onnx)
    return Setup(source, digest, model, network, calibration, samples, test, identity)


def _divided(source: Source, model: FloatModel) -> tuple[Samples, Samples]:
    """Return samples to calibrate on and others to measure."""
    count, test = source.calibration, source.test
    if source.data is None:
        sounds = machine_sounds(count + test, source.seed)
        return Samples(sounds[:count], None, SOUNDS), Samples(sounds[count:], None, SOUNDS)
    shape, scale, seed = model.input_shape, model.units, source.seed
    data = open_data(source.data, shape, seed, masks_of(model.onnx))
    if not data.chosen("test")[1]:
        drawn = load_samples(data, shape, pixel_scale=scale, count=count, split="calibration", seed=seed)
        rest = load_samples(data, shape, pixel_scale=scale, count=test, split="test", seed=seed)
    else:
        whole = load_samples(data, shape, pixel_scale=scale, count=None, split="all", seed=seed)
        count = min(count, len(whole.x) // 2)
        order = np.random.default_rng(seed).permutation(len(whole.x))
        drawn, rest = _taken(whole, order[:count]), _taken(whole, np.sort(order[count : count + test]))
    if rest.y is None and not source.answers:
        raise DataError(f"{source.data}: has no labels")
    return drawn, rest


def _taken(samples: Samples, which: NDArray[np.intp]) -> Samples:
    return replace(samples, x=samples.x[which], y=None if samples.y is None else samples.y[which])


def bits_of(network: Network, drawn: Drawn) -> Bits:
    """Return a configuration's bits by layer name and group index."""
    names = [layer.name for layer in network.layers]
    return Bits(dict(zip(names, map(int, drawn.weights), strict=True)), dict(enumerate(map(int, drawn.activations))))


def measure(setup: Setup, drawn: Drawn) -> LossRow:
    """Equalize for the bits, round by each method, run.

    Learned refinements are left out: gptq is the quick form that `tapc compile` compares candidates with.
    """
    network = setup.network
    figures = losses(setup, bits_of(network, drawn), ROUNDINGS)
    total = sum(layer.parameters for layer in network.layers)
    weight_bits = sum(layer.parameters * int(b) for layer, b in zip(network.layers, drawn.weights, strict=True))
    return LossRow(
        drawn.kind, drawn.size, drawn.weights, drawn.activations, round(weight_bits / total, 6), weight_bits / 8,
        figures["nearest"], figures["gptq"],
    )  # fmt: skip


def losses(setup: Setup, bits: Bits, roundings: Sequence[str]) -> dict[str, Measured]:
    """Return what a network loses at some bits, by rounding method."""
    x, source = setup.samples.x, setup.source
    model, calibration = suited(setup.model, setup.calibration, x, bits, source.seed)
    figures: dict[str, Measured] = {}
    for rounding in roundings:
        method = quick_method(rounding)
        seen = np.ascontiguousarray(x[: min(method.samples, source.rounding)])
        quantized = rounded_quickly(model, setup.network, bits, calibration, seen, method)
        figures[rounding] = compared(setup, evaluate(up_to(quantized, setup.logits), setup.test.x, optimized=False))
    return figures


_mine: Setup | None = None


def start_process(source: Source) -> None:
    """Prepare a network in a process that `in_processes` starts."""
    global _mine
    _mine = prepare(source)


def in_this_process() -> Setup:
    """Return what `start_process` prepared."""
    assert _mine is not None
    return _mine


def compared(setup: Setup, found: Array) -> Measured:
    """Return the figures of outputs (N, ...) for the test samples."""
    loss = OutputLoss(Graph(setup.logits).output_ports, setup.exact)(found)
    y = setup.test.y
    if y is None:
        return Measured(_short(loss), _short(anomaly_agreement(setup.test.x, setup.exact, found)), None, None)
    if setup.judge is not None:
        score = measured(setup.judge, found, setup.test).headline
        return Measured(_short(loss), _short((score or 0.0) / 100), None, None)
    exact, logits = (a.reshape(len(y), -1).astype(np.float64) for a in (setup.exact, found))
    return Measured(
        _short(loss),
        _short(right(found, y) / len(y)),
        _short(cross_entropy(logits, y)),
        _short(divergence(exact, logits)),
    )


def float_metric(setup: Setup) -> float:
    """Return the float network's figure of the metric."""
    return compared(setup, setup.exact).metric


def cross_entropy(logits: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy in nats of logits (N, classes) and labels (N,)."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(y)), y].mean())


def right(scores: Array | NDArray[np.int64], y: NDArray[np.int64]) -> int:
    """Return how many of the largest outputs (N, classes) are the label (N,); ties go to the first class."""
    return int((scores.reshape(len(y), -1).argmax(axis=1) == y).sum())


def divergence(exact: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Return the mean divergence in nats of the classes of logits `found` from those of `exact`, both (N, classes)."""
    p, q = log_softmax(exact, axis=1), log_softmax(found, axis=1)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def anomaly_agreement(x: Array, exact: Array, found: Array) -> float:
    """Return Spearman's correlation of the samples' reconstruction errors by two networks; 0 where one is constant."""
    ours, theirs = (np.square((y - x).reshape(len(x), -1)).mean(axis=1) for y in (found, exact))
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return 0.0
    return float(spearmanr(ours, theirs).statistic)


def _short(value: float) -> float:
    return float(f"{value:.5g}")
