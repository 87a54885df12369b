"""Accuracy of a build: the float network and the QDQ ONNX in onnxruntime, and the firmware in the simulator."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.files import reading
from tapc.base.options import Source
from tapc.base.progress import Stages
from tapc.data import Samples
from tapc.data.figures import confusion, least_sqnr
from tapc.data.metrics import Metric, agreement, measure
from tapc.flow.rerun import Build, open_build
from tapc.flow.sequences import metric_of
from tapc.lower.codes import input_codes, output_sizes, steps_apart
from tapc.quantize.runtime import evaluate


@dataclass(frozen=True)
class Executor:
    """One executor's results.

    Attributes
    ----------
    name : str
        `float`, `onnx` or `device`.
    top1 : float or None
        Right answers in percent (top-1 or binary); None without labels or with other metrics.
    standard_error : float or None
        Of top1, in percentage points: binomial.
    agreement : float or None
        Percent of the samples for which it names the float network's class; None where outputs are no classes.
    scores : dict
        The metric's figures; see `tapc.data.metrics.Score`.
    """

    name: str
    top1: float | None
    standard_error: float | None
    agreement: float | None
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassFigures:
    """One class: its samples, and how many of them the float network and the device name rightly, in percent.

    Attributes
    ----------
    name : str
        The class's name or number.
    samples : int
    float32, device : float or None
        None where there are no samples of it.
    taken_for : str
        The other class that the device names most often for it; empty where it is never wrong.
    """

    name: str
    samples: int
    float32: float | None
    device: float | None
    taken_for: str


@dataclass(frozen=True)
class Evaluation:
    """A build on samples.

    Attributes
    ----------
    model, board : str
    data : str
    samples : int
    executors : tuple of Executor
    metric : str
        See `tapc.data.metrics`.
    reason : str
        Why there is none.
    threshold : float or None
        Of a single output.
    sqnr_db : float or None
        Signal to noise of the device's outputs against the float network's, of the worst of several; None where they
        are equal.
    classes : tuple of ClassFigures
        Empty where outputs are no classes.
    exact : bool
        The device equals the reference executor on every sample.
    onnx_steps : float
        Largest difference between device and ONNX outputs, in steps of the output's scale.
    """

    model: str
    board: str
    data: str
    samples: int
    executors: tuple[Executor, ...]
    exact: bool
    onnx_steps: float
    metric: str = "none"
    reason: str = ""
    threshold: float | None = None
    sqnr_db: float | None = None
    classes: tuple[ClassFigures, ...] = ()


def evaluate_build(
    folder: Path,
    data: str | Path | None,
    *,
    source: Source | None = None,
    samples: int | None,
    everything: bool,
    seed: int | None,
    stages: Stages,
    wanted: str = "auto",
    device: str | None = None,
) -> Evaluation:
    """Run a build on labelled samples.

    Parameters
    ----------
    folder : Path
    data : str, Path or None
        Folder, zip, npz, npy or CSV; None for what the build was tested with.
    source : Source, optional
        Units of these data, where they are not the build's.
    samples : int or None
        Most samples.
    everything : bool
        Take all of the data, not its test split.
    seed : int or None
        Of the split; the build's where None.
    stages : Stages
    wanted : str
        The metric; see `tapc.data.choice.choose`.
    device : str, optional
        What runs the firmware.

    Raises
    ------
    DataError
        No build, or data that does not fit.
    MismatchError
        The device differs from the reference executor.
    """
    build = open_build(folder).with_units(source or Source())
    with stages.stage("data"):
        found, whole = build.default_data() if data is None else (Path(data), False)
        own = build.seed if seed is None else seed
        test = build.samples(found, samples, "all" if everything or whole else "test", own)
        graph = build.float_model()
        metric = metric_of(wanted, test, graph)
    with stages.stage("onnxruntime"), reading(f"build {folder}"):
        exact = evaluate(graph, test, optimized=True)
        quantized = evaluate(build.model, test, optimized=False)
    with stages.stage("lower"):
        network = build.lowered()
        codes = input_codes(network.program, test.x)
    _, result = build.prove(network, codes, min(4, len(codes)), stages, device, test.steps)
    given, decoded = result.outputs(network.program), result.detections(network.program)
    outputs = {"float": exact, "onnx": quantized, "device": given}
    return Evaluation(
        build.name,
        build.board,
        test.source,
        len(codes),
        tuple(
            _executor(name, value, exact, metric, test, decoded if name == "device" else None)
            for name, value in outputs.items()
        ),
        True,
        round(float(np.max(steps_apart(network.program, given, quantized))), 3),
        metric.name,
        metric.reason,
        metric.threshold,
        least_sqnr(output_sizes(network.program), exact, given),
        class_figures(metric.own(exact), metric.own(given), test.y, test.labels or labels_of(build))
        if metric.classes
        else (),
    )


def labels_of(build: Build) -> tuple[str, ...] | None:
    """Return the names of the classes that a build was compiled with."""
    names = build.report.get("labels")
    return tuple(map(str, names)) if isinstance(names, list) else None


def class_figures(
    exact: NDArray[np.float32], device: NDArray[np.float32], y: NDArray[Any] | None, labels: tuple[str, ...] | None
) -> tuple[ClassFigures, ...]:
    """Return figures of every class.

    Parameters
    ----------
    exact, device : float32 (N, classes)
        Outputs.
    y : int64 (N,) or None
    labels : tuple of str or None
    """
    if y is None:
        return ()
    classes = exact.reshape(len(exact), -1).shape[1]
    names = labels if labels is not None and len(labels) == classes else tuple(map(str, range(classes)))
    counts = [confusion(outputs, y, classes) for outputs in (exact, device)]
    found = []
    for index, name in enumerate(names):
        total = int(counts[1][index].sum())
        first, second = (100 * int(table[index, index]) / total if total else None for table in counts)
        wrong = counts[1][index].copy()
        wrong[index] = 0
        other = names[int(wrong.argmax())] if wrong.any() else ""
        found.append(ClassFigures(name, total, first, second, other))
    return tuple(found)


def _executor(
    name: str,
    output: NDArray[np.float32],
    exact: NDArray[np.float32],
    metric: Metric,
    test: Samples,
    decoded: NDArray[np.float64] | None,
) -> Executor:
    score = measure(metric, output, test, decoded)
    return Executor(
        name, score.share, score.standard_error(len(test.x)), agreement(metric, exact, output), score.values
    )
