"""The pipeline: model -> bits -> ONNX -> C -> firmware -> simulator -> report. Each stage is one function."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from tapc.allocate import Allocation
from tapc.audio import front_end
from tapc.base.errors import DataError, UsageError
from tapc.base.options import Options, with_settings
from tapc.base.output import MARKER, check_replaceable, remove_checkpoints, replaced_folder
from tapc.base.progress import Stages
from tapc.cost.calibrated import load_calibration
from tapc.cost.model import CostModel, load_coefficients
from tapc.data import CALIBRATION_LIMIT, Samples, find_data, load_samples, overlap
from tapc.data.choice import check_classes
from tapc.data.metrics import Metric
from tapc.flow.alternatives import alternatives
from tapc.flow.attempt import Attempt, in_some_ram, retrained
from tapc.flow.balancing import balance
from tapc.flow.decide import Evidence
from tapc.flow.describe import call, describe_library, facts_of
from tapc.flow.devices import device_of
from tapc.flow.fidelity import check_on, imprecise, unmoved
from tapc.flow.front_end import add_front_end, check_columns
from tapc.flow.groups import in_groups
from tapc.flow.inputs import check_input, load_data, with_units
from tapc.flow.keeping import arithmetic_for, kept, kept_options
from tapc.flow.pages import times_of
from tapc.flow.streaming import float_step, in_steps, in_windows, step_of
from tapc.flow.tflite import write_tflite
from tapc.flow.widths import widened
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.hardware.board import Board, load_board
from tapc.hardware.target import load_target
from tapc.lower import Lowered
from tapc.lower.names import check_prefix
from tapc.quantize import QuantizedModel, calibrate, check_rounding
from tapc.report import Compilation, Report, make_report
from tapc.report.page import write_page

if TYPE_CHECKING:
    from tapc.finetune import Training


@dataclass(frozen=True, eq=False)
class Result:
    """Everything that a compilation made.

    Attributes
    ----------
    report : Report
    output : Path
        Folder with model.onnx, model.tflite where there is one, lib/, firmware.elf/.bin/.hex, twin.elf, report.json
        and report.html.
    model : FloatModel
    quantized : QuantizedModel
    allocation : Allocation
    lowered : Lowered
    """

    report: Report
    output: Path
    model: FloatModel
    quantized: QuantizedModel
    allocation: Allocation
    lowered: Lowered

    def __repr__(self) -> str:
        return f"{self.report!r}\n{self.output}: firmware, lib, model.onnx, report.html; figures: .report"


def compile(
    model: Any,
    *,
    board: str | Board,
    data: Any = None,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    state: Mapping[str, str] | Sequence[str] = (),
    constant: Mapping[str, float] | Sequence[str] = (),
    pixel_scale: float | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    output: Path | None = None,
    options: Options | None = None,
    train: tuple[Path, ...] = (),
    training: "Training | None" = None,
    stages: Stages | None = None,
    command: str | None = None,
    **settings: Any,
) -> Result:
    """Compile a network for a board and prove the firmware in the simulator.

    Parameters
    ----------
    model : str, Path, torch.nn.Module or FloatModel
        Zoo name, ``file.py:callable``, ONNX or TFLite file, a module (then `input_shape` is needed), or what
        `tapc.frontend.load` returned.
    board : str or Board
        Board name, path of a board file, or a loaded board.
    data : str, Path or arrays, optional
        Folder, zip, npz, npy or CSV of samples; an array of inputs, (inputs, labels), a dictionary of arrays, a torch
        data set or loader; ``random`` for random inputs. Zoo models find their data set by themselves;
        others take the first of `train`.
    weights : Path, optional
        State dict for a torch model.
    input_shape : tuple of int, optional
        With batch, for torch models that do not say.
    state : mapping of str to str, or sequence of str
        What the network keeps between calls: input -> output that it is in the next one, or texts INPUT=OUTPUT.
    constant : mapping of str to float, or sequence of str
        Inputs of an ONNX file that always hold one number, or texts INPUT=VALUE.
    pixel_scale : float, optional
        Factor from raw data values to the network's input units; the model's own where None.
    mean, std : tuple of float, optional
        Inputs are (raw * pixel_scale - mean) / std, one value or one per channel; the model's own where None.
    output : Path, optional
        Output folder, default build/NAME-BOARD. It replaces an earlier build only when everything succeeded.
    options : Options, optional
    train : tuple of Path
        Samples to train the quantized network with; none leave it as post-training quantization made it.
    training : Training, optional
        How; the defaults where None.
    stages : Stages, optional
        Shows progress.
    command : str, optional
        What the C library says that made it; by default this call.
    **settings
        Fields of `Options` by their names, such as ``target_bits=3``; they win over `options`.

    Raises
    ------
    TapcError
        See `tapc.base.errors`; the previous output folder survives.
    """
    options, stages = with_settings(options, settings), stages or Stages()
    check_rounding(options.rounding)
    if options.prefix is not None:
        check_prefix(options.prefix)
    sounds = None if options.front_end is None else front_end(options.front_end)
    silicon = board if isinstance(board, Board) else load_board(str(board))
    target = load_target(silicon.core)
    if options.simulate and options.device is not None:
        device_of(target, options.device, silicon)  # a name that is none is told before anything takes time
    if output is not None:
        check_replaceable(Path(output).absolute())
    if isinstance(model, FloatModel):
        if weights is not None or input_shape is not None or state or constant:
            raise UsageError(
                "the network is loaded already: give weights, input_shape, state, constant to tapc.frontend.load"
            )
        network_model = model
    else:
        with stages.stage("import"):
            network_model = load(model, weights=weights, input_shape=input_shape, seed=options.seed,
                                 keep=options.keep is not False, state=state, constant=constant)  # fmt: skip
    network_model = with_units(network_model, pixel_scale, mean, std)
    if sounds is not None:
        check_columns(sounds, network_model)  # before anything takes time
    options, target = kept_options(network_model, options), arithmetic_for(network_model, target, options)
    if train and network_model.given is not None:
        raise UsageError(f"{network_model.name} is quantized already and is kept as it is: training needs --requantize")
    if train and network_model.states:
        raise UsageError(f"{network_model.name} keeps states between calls; training does not follow sequences")
    if train and options.stream is not None:
        raise UsageError("--stream: train the network as a whole, and compile what that gives with --stream")
    step = step_of(network_model, options)
    destination = Path(output) if output is not None else Path("build") / f"{network_model.name}-{silicon.name}"
    with replaced_folder(destination) as folder:
        with stages.stage("data"):
            check_input(network_model if step is None else float_step(network_model, step), silicon, options)
            source = calibration_source(network_model, data, train)
            samples = in_steps(load_data(network_model, source, in_windows(options, step)), step, options)
            warnings, training_set = samples.warnings, None
            if train:
                training_set, limits = training_samples(network_model, train, source, options, samples.metric)
                warnings = (*warnings, *limits, *overlap(training_set, samples.test, "trained"))
            network_model = check_on(network_model, samples.calibration.x)
            warnings = (*warnings, *unmoved(network_model), *imprecise(network_model))
        if options.equalize:
            with stages.stage("equalize"):
                network_model = balance(network_model, samples.calibration.x, options.wbits)
        network = analyse(network_model.onnx, network_model.name)
        if network_model.given is not None:
            silicon, attempt, left = kept(network_model, samples, silicon, target, folder, options, stages)
            warnings = (*warnings, *left)
        else:
            with stages.stage("calibrate"):
                calibration = calibrate(
                    network_model, samples.calibration.x, seed=options.seed, pictures=samples.calibration.pictures
                )
            with stages.stage("activations"):
                wide = widened(network_model, network, calibration, samples.calibration.x, options)
            if train and wide.notes:
                raise UsageError(
                    "training does not follow activations of 16 bits; give --abits 8, and no overrides of 16"
                )
            network, chosen, warnings = wide.network, wide.options, (*warnings, *wide.notes)
            evidence = Evidence(network_model, network, calibration, samples.calibration.x, chosen)
            if options.granularity == "channel":
                with stages.stage("groups"):
                    grouped = in_groups(evidence, silicon, target, chosen)
                evidence, warnings = grouped.evidence, (*warnings, *grouped.warnings)
                network = evidence.network
            silicon, attempt = in_some_ram(evidence, samples, silicon, target, folder, chosen, stages)
        if attempt.step is not None:
            network = analyse(attempt.model.onnx, network_model.name)
        network_model = attempt.model
        whole = destination.absolute()  # "." has no name
        checkpoints = whole.with_name(f"{whole.name}.finetune")
        trained = None
        if training_set is not None:
            from tapc.finetune import Training  # loads torch
            from tapc.report.training import training_report

            how, untrained = training or Training(), attempt
            attempt, warning, made = retrained(
                attempt, network_model, training_set, how, samples.test, silicon, target, folder, checkpoints, options,
                stages,
            )  # fmt: skip
            scores = [device_scores(one, samples.metric, samples.test) for one in (untrained, attempt)]
            trained = training_report(training_set, how, made, *scores)
            warnings = warnings if warning is None else (*warnings, warning)
        onnx.save(network_model.onnx, folder / "float.onnx")
        without_tflite = write_tflite(attempt.quantized.onnx, network_model.name, folder)
        coefficients = load_coefficients(target.cost)
        calibrated, stale = load_calibration(silicon.name, coefficients)
        report = make_report(
            Compilation(
                model=network_model,
                board=silicon,
                network=network,
                allocation=attempt.decision.allocation,
                rounding=attempt.quantized.rounding,
                equalized=network_model.equalized_for is not None,
                sensitivity=attempt.decision.sensitivity,
                lowered=attempt.lowered,
                cost=CostModel(coefficients),
                calibrated=calibrated,
                images=attempt.images,
                calibration=samples.calibration,
                test=samples.test,
                metric=samples.metric,
                labels=samples.labels or network_model.labels,
                data=f"calibration: {samples.calibration.source}; evaluation: {samples.test.source}",
                options=options,
                file=str(source) if isinstance(source, str | os.PathLike) else None,
                measured=attempt.measured,
                tuning=attempt.tuning,
                training=trained,
                arithmetic=target.requantize,
                placed=attempt.placed,
                fast=attempt.fast,
                warnings=(*warnings, *filter(None, [stale])),
                seconds=stages.seconds,
                refused=attempt.refused,
                problem=attempt.decision.problem,
                alternatives=alternatives(attempt.lowered, silicon, target, options),
                without_tflite=without_tflite,
                stream=None if attempt.step is None else attempt.step.report(attempt.lowered),
            )
        )
        command = command or call(model, silicon.name, options, data=data, train=", ".join(map(str, train)) or None)
        facts = facts_of(network_model, samples.calibration, target, report, folder / "model.onnx", command)
        if options.front_end is not None:
            with stages.stage("front end"):
                facts, own = add_front_end(folder / "lib", options.front_end, attempt.lowered, target, facts,
                                           simulate=options.simulate)  # fmt: skip
            report = report.model_copy(update={"front_end": own})
        describe_library(folder / "lib", attempt.lowered, facts)
        write_page(folder, report, *times_of(destination, folder / "firmware.bin"))
        (folder / MARKER).write_text(report.to_json(), encoding="utf-8")
    if train:
        remove_checkpoints(checkpoints)
    allocation = attempt.decision.allocation
    return Result(report, destination, network_model, attempt.quantized, allocation, attempt.lowered)


def device_scores(attempt: Attempt, metric: Metric, test: Samples) -> dict[str, float]:
    """Return what the device scores; nothing where it did not run."""
    if attempt.measured is None:
        return {}
    return dict(attempt.measured.verification.score(metric, attempt.lowered.program, test).values)


def calibration_source(model: FloatModel, data: Any, train: tuple[Path, ...]) -> Any:
    """Return what calibrates and tests: the data that were given, those of the zoo, or else the first to train with."""
    if data is None and train and find_data(model.dataset, shipped=False) is None:
        return train[0]
    return data


def training_samples(
    model: FloatModel, paths: tuple[Path, ...], evaluated: Any, options: Options, metric: Metric | None = None
) -> tuple[Samples, tuple[str, ...]]:
    """Load and join the training sets; labels are kept where all have them and they are classes.

    Parameters
    ----------
    model : FloatModel
    paths : tuple of Path
    evaluated : path, arrays or None
        What calibrates and, without test data of their own, tests: such a set trains with its calibration part only.
    options : Options
    metric : Metric, optional
        Where outputs are no classes, the float network alone teaches.

    Returns
    -------
    Samples
    tuple of str
        Warnings.

    Raises
    ------
    DataError
        Labels that do not fit the network, or classes of other names.
    """
    sets: list[Samples] = []
    warnings: list[str] = []
    source = find_data(model.dataset) if evaluated is None else None
    if isinstance(evaluated, (str, os.PathLike)):
        source = Path(evaluated)
    for path in paths:
        tests = options.test_data is None and source is not None and path.resolve() == source.resolve()
        samples = load_samples(path, model.inputs, pixel_scale=model.units, count=None,
                               split="calibration" if tests else "train", seed=options.seed)  # fmt: skip
        if tests and len(samples.x) == CALIBRATION_LIMIT:
            warnings.append(
                f"{path.name}: trained with {len(samples.x)} of its samples, the others are kept for tests; to train "
                "with all of them, test with others (--test-data)"
            )
        sets.append(samples)
        warnings.extend(samples.warnings)
    labels = [samples.y for samples in sets]
    y = np.concatenate([y for y in labels if y is not None]) if all(y is not None for y in labels) else None
    names = {samples.labels for samples in sets if samples.labels is not None}
    if metric is not None and not metric.classes:
        y = None
    if y is not None and len(names) > 1:
        raise DataError(f"{', '.join(samples.source for samples in sets)}: the classes have different names")
    joined = Samples(
        np.concatenate([samples.x for samples in sets]), y, ", ".join(samples.source for samples in sets),
        next(iter(names), None), pictures=all(samples.pictures for samples in sets),
    )  # fmt: skip
    if metric is not None and metric.classes:
        check_classes(joined, metric.outputs)
    return joined, tuple(warnings)
