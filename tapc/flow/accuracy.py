"""Accuracy of integer networks over seeds: each draws its own calibration samples, the rest are tested."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tapc.allocate.problem import HIGH_BITS, LOW_BITS
from tapc.base.errors import DataError, UsageError
from tapc.base.options import Options
from tapc.base.progress import Advance
from tapc.data import Samples
from tapc.data.metrics import Metric, agreement, measure
from tapc.flow.balancing import balance, suited
from tapc.flow.decide import Evidence, decide
from tapc.flow.fidelity import check_on, source_outputs
from tapc.flow.groups import in_groups
from tapc.flow.sequences import load_steps, metric_of
from tapc.frontend import FloatModel
from tapc.graph.analysis import analyse
from tapc.graph.network import Bits, Network
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.quantize import (
    Calibration,
    QuantizedModel,
    calibrate,
    evaluate,
    quantize,
    uniform_bits,
)
from tapc.quantize.runtime import Float

_ROOM = 1 << 30
_SETTING = re.compile(r"(?P<kind>[wm])(?P<weights>\d+(\.\d+)?)(a(?P<activations>[48])|(?P<ram>r4))")


@dataclass(frozen=True)
class Setting:
    """Which bits a network gets.

    Attributes
    ----------
    name : str
        `w4a8` for one width everywhere, `m3a8` for an average of 3 weight bits that the allocation distributes, `m4r4`
        for activations of 4 or 8 bits as well, with no more peak RAM than if all had 4.
    weights : float
    activations : tuple of int
        Widths on offer.
    mixed : bool
    """

    name: str
    weights: float
    activations: tuple[int, ...]
    mixed: bool


def parse_setting(text: str) -> Setting:
    """Read a setting; UsageError for anything else."""
    match = _SETTING.fullmatch(text)
    weights = 0.0 if match is None else float(match["weights"])
    mixed = match is not None and match["kind"] == "m"
    uniform = not mixed and match is not None and match["ram"] is None
    if match is None or not (2 <= weights <= 8) or not (mixed or (uniform and weights in (2, 4, 8))):
        raise UsageError(
            f"{text!r} is no setting: write w2a8, w4a8, w8a4 ... for one width, m3a8, m4.5a8 ... for an average, m4r4 "
            "... for activations of 4 or 8 bits in the RAM of 4"
        )
    return Setting(text, weights, (LOW_BITS, HIGH_BITS) if match["ram"] else (int(match["activations"]),), mixed)


@dataclass(frozen=True, eq=False)
class Trial:
    """A network calibrated with the samples of one seed.

    Attributes
    ----------
    seed : int
    model : FloatModel
        Equalized unless that was not wanted.
    network : Network
    calibration : Calibration
    x : float32 (N, ...)
        Calibration samples.
    test : Samples
    logits : float32 (N, ...)
        What the source network gives for the test samples, in its own runtime.
    metric : Metric
        What they measure.
    """

    seed: int
    model: FloatModel
    network: Network
    calibration: Calibration
    x: Float
    test: Samples
    logits: Float
    metric: Metric


def trials(
    model: FloatModel,
    data: Path,
    *,
    seeds: int,
    calibration: int,
    first: int = 0,
    tested: int | None = None,
    test_data: Path | None = None,
    equalize: bool = True,
    metric: str = "auto",
) -> Iterator[Trial]:
    """Calibrate a network once per seed.

    Parameters
    ----------
    model : FloatModel
    data : Path
        Labelled samples; a single set is divided anew for each seed.
    seeds : int
        How many.
    calibration : int
        Most calibration samples, and of a single set at most half.
    first : int
        The first seed.
    tested : int, optional
        Most test samples; all where None.
    test_data : Path, optional
        Test samples, all of this file.
    equalize : bool
        Balance channel ranges.
    metric : str
        What is measured; see `tapc.data.choice.choose`.

    Raises
    ------
    DataError
        Samples without labels, or missing files.
    """
    for seed in range(first, first + seeds):
        common = {"units": model.units, "seed": seed, "reserve": calibration}
        known = load_steps(data, model.onnx, count=calibration, split="calibration", **common)  # type: ignore[arg-type]
        x = known.x
        test = load_steps(
            test_data or data, model.onnx, count=tested, split="all" if test_data else "test", **common,  # type: ignore[arg-type]
        )  # fmt: skip
        if test.y is None:
            raise DataError(
                f"{test.source}: the samples have no labels ({test.unlabelled}), so there is no accuracy to measure"
            )
        measured = metric_of(metric, test, model.onnx)
        if measured.name == "none":
            raise DataError(f"{test.source}: there is no accuracy to measure: {measured.reason}")
        checked = check_on(model, x)
        used = balance(checked, x) if equalize else checked
        network = analyse(used.onnx, used.name)
        logits = source_outputs(model, test.x)
        yield Trial(
            seed, used, network, calibrate(used, x, seed=seed, pictures=known.pictures), x, test, logits, measured
        )


def evidence_of(
    trial: Trial, proxy: str, rounding: str, pin: str = "none", overrides: Path | None = None,
    score_exponent: float = 1.0, granularity: str = "layer",
) -> Evidence:  # fmt: skip
    """Return what the settings of a trial are chosen by; nothing is measured before it is needed."""
    options = Options(
        proxy=proxy, rounding=rounding, seed=trial.seed, pin_first=pin in ("first", "both"),
        pin_last=pin in ("last", "both"), overrides=overrides, no_patches=True,
        score_exponent=score_exponent, granularity=granularity,
    )  # fmt: skip
    return Evidence(trial.model, trial.network, trial.calibration, trial.x, options)


def with_bits(trial: Trial, evidence: Evidence, setting: Setting, board: Board, target: Target) -> tuple[Trial, Bits]:
    """Return the bits of a setting, and the trial with the network that has them; budgets of the board play no part.

    Of mixed settings by channel layers become parts where the network loses less with them.
    """
    options = evidence.options
    if setting.mixed:
        options = replace(options, abits=setting.activations, target_bits=setting.weights)
    elif options.pin_first or options.pin_last or options.overrides is not None:
        options = replace(options, wbits=(int(setting.weights),), abits=setting.activations)
    else:
        return trial, uniform_bits(evidence.network, int(setting.weights), setting.activations[0])
    memory = tuple(region.model_copy(update={"size": _ROOM}) for region in board.memory)
    roomy = board.model_copy(update={"memory": memory})
    if len(setting.activations) > 1:
        options = replace(options, ram=evidence.least_ram(roomy, target, options))
    if setting.mixed and options.granularity == "channel":
        evidence = in_groups(evidence, roomy, target, options).evidence
        trial = replace(trial, model=evidence.model, network=evidence.network, calibration=evidence.calibration)
    return trial, decide(evidence, roomy, target, options).allocation.bits


@dataclass(frozen=True)
class Figure:
    """One network, setting, rounding method and seed.

    Attributes
    ----------
    setting, rounding : str
    seed : int
    samples : int
        Test samples.
    float_top1, top1 : float or None
        Right answers in percent (top-1 or binary), in onnxruntime; None for other metrics.
    agreement : float or None
        Percent of the samples for which both networks name the same class; None where outputs are no classes.
    error : float
        Squared error of the outputs over their variance.
    weight_bytes : int
        Of the weights alone, at their bits.
    bops : int
        MACs x weight bits x activation bits.
    metric : str
        See `tapc.data.metrics`.
    float_score, score : float
        What is compared, larger is better: right answers in percent, or R2 or AUC times 100.
    scores : dict
        The metric's figures of the quantized network.
    """

    setting: str
    rounding: str
    seed: int
    samples: int
    float_top1: float | None
    top1: float | None
    agreement: float | None
    error: float
    weight_bytes: int
    bops: int
    metric: str
    float_score: float
    score: float
    scores: dict[str, float]

    @property
    def drop(self) -> float:
        """Percentage points lost."""
        return self.float_score - self.score


def figure(
    trial: Trial, bits: Bits, setting: str, rounding: str, advance: Advance | None = None
) -> tuple[Figure, QuantizedModel]:
    """Quantize a network and measure it on the trial's test samples."""
    model, calibration = suited(trial.model, trial.calibration, trial.x, bits, trial.seed)
    quantized = quantize(
        model, trial.network, bits, calibration, x=trial.x, rounding=rounding, seed=trial.seed, advance=advance
    )
    logits = evaluate(quantized.onnx, trial.test, optimized=quantized.optimizable)
    exact, found = trial.logits, measure(trial.metric, logits, trial.test)
    before = measure(trial.metric, exact, trial.test)
    if before.headline is None or found.headline is None:
        raise DataError(f"{trial.test.source}: all test samples have one label; {trial.metric.title} needs several")
    power = float(np.square(exact - exact.mean(axis=0)).sum(dtype=np.float64)) or 1.0
    layers = trial.network.layers
    return Figure(
        setting=setting,
        rounding=rounding,
        seed=trial.seed,
        samples=len(trial.test.x),
        float_top1=before.share,
        top1=found.share,
        agreement=agreement(trial.metric, exact, logits),
        error=float(np.square(logits - exact).sum(dtype=np.float64)) / power,
        weight_bytes=sum(layer.parameters * bits.weights[layer.name] for layer in layers) // 8,
        bops=sum(layer.macs * np.prod(bits.pair(layer)).item() for layer in layers),
        metric=trial.metric.name,
        float_score=before.headline,
        score=found.headline,
        scores=found.values,
    ), quantized


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over seeds; `score` is what `metric` compares, `top1` the same if it is a share."""

    setting: str
    rounding: str
    seeds: int
    samples: int
    float_top1: float | None
    top1: float | None
    top1_sd: float | None
    drop: float
    drop_sd: float
    agreement: float | None
    weight_bytes: int
    bops: int
    metric: str
    float_score: float
    score: float
    score_sd: float


def summarize(figures: Sequence[Figure]) -> tuple[Summary, ...]:
    """Join the seeds of each setting and rounding method, in order of appearance."""
    groups: dict[tuple[str, str], list[Figure]] = {}
    for item in figures:
        groups.setdefault((item.setting, item.rounding), []).append(item)
    result = []
    for (setting, rounding), items in groups.items():
        share = items[0].top1 is not None

        def mean(name: str, items: list[Figure] = items) -> float:
            return float(np.mean([getattr(item, name) for item in items]))

        def deviation(name: str, items: list[Figure] = items) -> float:
            return float(np.std([getattr(item, name) for item in items], ddof=1)) if len(items) > 1 else 0.0

        result.append(
            Summary(
                setting,
                rounding,
                len(items),
                items[0].samples,
                mean("float_score") if share else None,
                mean("score") if share else None,
                deviation("score") if share else None,
                mean("drop"),
                deviation("drop"),
                mean("agreement") if items[0].agreement is not None else None,
                round(mean("weight_bytes")),
                round(mean("bops")),
                items[0].metric,
                mean("float_score"),
                mean("score"),
                deviation("score"),
            )
        )
    return tuple(result)
