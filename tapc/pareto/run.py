"""Many bit budgets of one network: accuracy over seeds, and what the built firmware takes and runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tapc.base.errors import BudgetError, MismatchError
from tapc.base.files import scratch_folder
from tapc.base.options import Options
from tapc.base.progress import Stages
from tapc.device.verify import run_sequences, sequences, verify
from tapc.flow.accuracy import Figure, Setting, Summary, Trial, evidence_of, figure, summarize, trials, with_bits
from tapc.flow.build import build
from tapc.flow.devices import device_of
from tapc.flow.patches import with_patches
from tapc.frontend import FloatModel
from tapc.hardware.board import Board
from tapc.hardware.target import Target, load_target
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.quantize import QuantizedModel

SETTINGS = ("w2a8", "m2.5a8", "m3a8", "m3.5a8", "w4a8", "m4a8", "m5a8", "m6a8", "w8a8")
_RUN = 2


@dataclass(frozen=True)
class Image:
    """What a firmware image takes.

    Attributes
    ----------
    flash, ram : int
        Bytes, as linked; the stack as measured.
    instructions : int or None
        Per inference; None where the device does not count them.
    """

    flash: int
    ram: int
    instructions: int | None


@dataclass(frozen=True)
class Point:
    """One setting, over seeds.

    Attributes
    ----------
    accuracy : Summary
    mixed : bool
        The bits come from an allocation, not one width for all.
    flash, ram, instructions : float or None
        Means over the seeds' images; None where one does not fit the board, instructions where they were not counted.
    best : bool
        No other setting that fits is at least as accurate with fewer bytes of flash.
    problem : str or None
        Why an image does not fit.
    """

    accuracy: Summary
    mixed: bool
    flash: float | None
    ram: float | None
    instructions: float | None
    best: bool
    problem: str | None


@dataclass(frozen=True)
class Front:
    """A network's settings on a board.

    Attributes
    ----------
    model, board, data : str
    rounding : str
    points : tuple of Point
    figures : tuple of Figure
        Every seed.
    """

    model: str
    board: str
    data: str
    rounding: str
    points: tuple[Point, ...]
    figures: tuple[Figure, ...]


def pareto(
    model: FloatModel,
    data: Path,
    board: Board,
    settings: Sequence[Setting],
    *,
    seeds: int = 3,
    first: int = 0,
    calibration: int = 1024,
    equalize: bool = True,
    pin: str = "none",
    overrides: Path | None = None,
    tested: int | None = None,
    test_data: Path | None = None,
    rounding: str = "gptq",
    proxy: str = "error",
    metric: str = "auto",
    score_exponent: float = 1.0,
    granularity: str = "layer",
    device: str | None = None,
    stages: Stages | None = None,
) -> Front:
    """Quantize, build and measure a network at many settings.

    Parameters
    ----------
    model : FloatModel
    data : Path
        Labelled samples.
    board : Board
    settings : sequence of Setting
    seeds, first, calibration, equalize, tested, test_data
        As for `tapc.flow.accuracy.trials`.
    pin : {"none", "first", "last", "both"}
        Layers that stay at 8 bits.
    overrides : Path, optional
        TOML file of manual bits.
    rounding, proxy, metric : str
    score_exponent : float
    granularity : {"layer", "channel"}
        Of mixed settings, as for `tapc.Options`.
    device : str, optional
        What runs the images.
    stages : Stages, optional

    Raises
    ------
    DataError
        Samples without labels.
    MismatchError
        A device differs from the reference executor.
    """
    stages = stages or Stages()
    target = load_target(board.core)
    if device is not None:
        device_of(target, device, board)
    figures: list[Figure] = []
    images: dict[str, list[Image]] = {}
    problems: dict[str, str] = {}
    for trial in trials(model, data, seeds=seeds, first=first, calibration=calibration, tested=tested,
                        test_data=test_data, equalize=equalize, metric=metric):  # fmt: skip
        evidence = evidence_of(trial, proxy, rounding, pin, overrides, score_exponent, granularity)
        for setting in settings:
            with stages.stage(f"bits {setting.name}"):
                own, bits = with_bits(trial, evidence, setting, board, target)
            with stages.stage(f"{setting.name} seed {trial.seed}") as advance:
                measured, quantized = figure(own, bits, setting.name, rounding, advance)
            figures.append(measured)
            if setting.name in problems:
                continue
            try:
                image = _image(own, quantized, board, target, stages, device)
            except BudgetError as error:
                problems[setting.name] = str(error)
                continue
            images.setdefault(setting.name, []).append(image)
    mixed = {setting.name: setting.mixed for setting in settings}
    points = [_point(summary, mixed[summary.setting], images, problems) for summary in summarize(figures)]
    return Front(model.name, board.name, data.name, rounding, _with_best(points), tuple(figures))


def _image(
    trial: Trial, quantized: QuantizedModel, board: Board, target: Target, stages: Stages, device: str | None
) -> Image:
    options = Options(seed=trial.seed)
    lowered = lower(quantized.onnx, trial.model.name, target.requantize, target.isa, seed=trial.seed)
    lowered = with_patches(lowered, board, target, options)
    codes = input_codes(lowered.program, trial.test.x[:_RUN])
    with scratch_folder() as scratch:
        built = build(lowered, quantized, board, target, scratch, options, stages)
        lowered, made = built.lowered, built.images
        with stages.stage("simulate") as advance:
            image = device_of(target, device, board).load(made)
            run = run_sequences(image, lowered, codes, 0, layers=len(codes), progress=advance)
        codes, expected = sequences(lowered, codes, 0)
        proof = verify(lowered, run, codes, expected=expected)
        if proof.mismatch is not None:
            raise MismatchError(f"the firmware is wrong: {proof.mismatch}")
    return Image(made.memory.flash, made.memory.static_ram + run.stack_high_water, run.instructions)


def _point(summary: Summary, mixed: bool, images: dict[str, list[Image]], problems: dict[str, str]) -> Point:
    made = images.get(summary.setting, [])
    problem = problems.get(summary.setting)
    if problem is not None or not made:
        return Point(summary, mixed, None, None, None, False, problem)

    counts = [image.instructions for image in made if image.instructions is not None]
    instructions = float(np.mean(counts)) if len(counts) == len(made) else None
    flash, ram = (float(np.mean(own)) for own in ([i.flash for i in made], [i.ram for i in made]))
    return Point(summary, mixed, flash, ram, instructions, False, None)


def _with_best(points: Sequence[Point]) -> tuple[Point, ...]:
    """Mark the points of the front in bytes and accuracy."""

    def beaten(point: Point) -> bool:
        assert point.flash is not None
        return any(
            other.flash is not None
            and other.flash <= point.flash
            and other.accuracy.score >= point.accuracy.score
            and (other.flash, -other.accuracy.score) != (point.flash, -point.accuracy.score)
            for other in points
        )

    return tuple(replace(p, best=p.flash is not None and not beaten(p)) for p in points)
