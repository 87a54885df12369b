"""Accuracy of a build: the float network and the QDQ ONNX in onnxruntime, and the firmware in the simulator."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.lower.codes import input_codes
from tapc.progress import Stages
from tapc.quantize.runtime import evaluate
from tapc.rerun import open_build, part


@dataclass(frozen=True)
class Executor:
    """One executor's results.

    Attributes
    ----------
    name : str
        `float`, `onnx` or `device`.
    top1 : float or None
        Percent; None without labels.
    standard_error : float or None
        Of top1, in percentage points: binomial.
    agreement : float
        Percent of the samples for which it names the float network's class.
    """

    name: str
    top1: float | None
    standard_error: float | None
    agreement: float


@dataclass(frozen=True)
class Evaluation:
    """A build on samples.

    Attributes
    ----------
    model, board : str
    data : str
    samples : int
    executors : tuple of Executor
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


def evaluate_build(
    folder: Path, data: Path, *, samples: int | None, everything: bool, seed: int, stages: Stages
) -> Evaluation:
    """Run a build on labelled samples.

    Parameters
    ----------
    folder : Path
    data : Path
        Folder, zip or npz.
    samples : int or None
        Most samples.
    everything : bool
        Take all of the data, not its test split.
    seed : int
        Of the split.
    stages : Stages

    Raises
    ------
    DataError
        No build, or data that does not fit.
    MismatchError
        The device differs from the reference executor.
    """
    build = open_build(folder)
    with stages.stage("data"):
        test = build.samples(data, samples, "all" if everything else "test", seed)
    with stages.stage("onnxruntime"):
        exact = evaluate(onnx.load(part(folder, "float.onnx")), test, optimized=True)
        quantized = evaluate(build.model, test, optimized=False)
    with stages.stage("lower"):
        network = build.lowered()
        codes = input_codes(network.program, test.x)
    _, result = build.prove(network, codes, min(4, len(codes)), stages)
    y = network.program.tensors[network.program.output]
    device = (result.codes.reshape(len(codes), -1) - y.zero).astype(np.float32) * np.float32(y.scale)
    outputs = {"float": exact, "onnx": quantized, "device": device}
    return Evaluation(
        build.name,
        build.board,
        test.source,
        len(codes),
        tuple(_executor(name, value, exact, test.y) for name, value in outputs.items()),
        True,
        float(np.abs(device - quantized.reshape(device.shape)).max() / y.scale),
    )


def _executor(
    name: str, output: NDArray[np.float32], exact: NDArray[np.float32], y: NDArray[np.int64] | None
) -> Executor:
    chosen, expected = (array.reshape(len(array), -1).argmax(axis=1) for array in (output, exact))
    agreement = 100 * float(np.mean(chosen == expected))
    if y is None:
        return Executor(name, None, None, agreement)
    share = float(np.mean(chosen == y))
    return Executor(name, 100 * share, 100 * math.sqrt(share * (1 - share) / len(y)), agreement)
