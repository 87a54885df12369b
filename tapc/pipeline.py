"""The pipeline: model -> bits -> ONNX -> C -> firmware -> simulator -> report. Each stage is one function."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tapc import cycles
from tapc.allocate import Allocation, AllocationError
from tapc.allocate.diagnose import revised
from tapc.board import Board, load_board
from tapc.build import build_tuned
from tapc.cost.model import CostModel, load_coefficients
from tapc.data import Samples
from tapc.decide import Decision, decide
from tapc.device import QemuRunner
from tapc.device.verify import device_inputs, verify
from tapc.errors import BudgetError, MismatchError
from tapc.firmware import FirmwareImages
from tapc.frontend import FloatModel, load, source_error
from tapc.inputs import Data, load_data, with_units
from tapc.lower import Lowered, lower
from tapc.lower.codes import input_codes
from tapc.lower.place import Placed
from tapc.network import Network
from tapc.network_analysis import analyse
from tapc.options import Options
from tapc.output import MARKER, check_replaceable, replaced_folder
from tapc.progress import Stages
from tapc.quantize import Calibration, QuantizedModel, balanced, calibrate, evaluate, quantize
from tapc.report import Compilation, Measured, Report, make_report
from tapc.target import Target, load_target
from tapc.tune import Tuning

ATTEMPTS = 4
EXACT_SAMPLES = 4
CHECKED_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class Result:
    """Everything that a compilation made.

    Attributes
    ----------
    report : Report
    output : Path
        Folder with model.onnx, lib/, firmware.elf/.bin/.hex, twin.elf and report.json.
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


def compile(
    model: Any,
    *,
    board: str | Board,
    data: str | Path | None = None,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    pixel_scale: float | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    output: Path | None = None,
    options: Options | None = None,
    stages: Stages | None = None,
) -> Result:
    """Compile a network for a board and prove the firmware in the simulator.

    Parameters
    ----------
    model : str, Path or torch.nn.Module
        Zoo name, ``file.py:callable``, ONNX or TFLite file, or a module (then `input_shape` is needed).
    board : str or Board
        Board name, path of a board file, or a loaded board.
    data : str or Path, optional
        Folder, zip or npz of samples; ``random`` for random inputs. Zoo models find their data set by themselves.
    weights : Path, optional
        State dict for a torch model.
    input_shape : tuple of int, optional
        With batch, for torch models that do not say.
    pixel_scale : float, optional
        Factor from raw data values to the network's input units; the model's own where None.
    mean, std : tuple of float, optional
        Inputs are (raw * pixel_scale - mean) / std, one value or one per channel; the model's own where None.
    output : Path, optional
        Output folder, default build/NAME. It replaces an earlier build only when everything succeeded.
    options : Options, optional
    stages : Stages, optional
        Shows progress.

    Raises
    ------
    TapcError
        See `tapc.errors`; the previous output folder survives.
    """
    options, stages = options or Options(), stages or Stages()
    silicon = board if isinstance(board, Board) else load_board(str(board))
    target = load_target(silicon.core)
    if output is not None:
        check_replaceable(Path(output).absolute())
    with stages.stage("import"):
        network_model = load(model, weights=weights, input_shape=input_shape, seed=options.seed)
        network_model = with_units(network_model, pixel_scale, mean, std)
    destination = Path(output) if output is not None else Path("build") / network_model.name
    with replaced_folder(destination) as folder:
        with stages.stage("data"):
            samples = load_data(network_model, data, options)
            network_model = check_on(network_model, samples.calibration, options.seed)
        equalized = None
        if options.equalize:
            with stages.stage("equalize"):
                equalized = balanced(network_model.onnx, samples.calibration.x, options.seed)
        if equalized is not None:
            network_model = replace(network_model, onnx=equalized.onnx)
        with stages.stage("calibrate"):
            network = analyse(network_model.onnx, network_model.name)
            calibration = calibrate(network_model, samples.calibration.x, seed=options.seed)
        silicon, attempt = in_some_ram(
            network_model, network, calibration, samples, silicon, target, folder, options, stages
        )
        report = make_report(
            Compilation(
                model=network_model,
                board=silicon,
                network=network,
                allocation=attempt.decision.allocation,
                rounding=attempt.quantized.rounding,
                equalized=equalized is not None,
                sensitivity=attempt.decision.sensitivity,
                lowered=attempt.lowered,
                cost=CostModel(load_coefficients(target.cost)),
                images=attempt.images,
                test=samples.test,
                data=f"calibration: {samples.calibration.source}; evaluation: {samples.test.source}",
                options=options,
                measured=attempt.measured,
                tuning=attempt.tuning,
                placed=attempt.placed,
                warnings=samples.warnings,
                seconds=stages.seconds,
            )
        )
        (folder / MARKER).write_text(report.to_json(), encoding="utf-8")
    allocation = attempt.decision.allocation
    return Result(report, destination, network_model, attempt.quantized, allocation, attempt.lowered)


@dataclass(frozen=True, eq=False)
class Attempt:
    """One pass from bits to measurements."""

    decision: Decision
    quantized: QuantizedModel
    lowered: Lowered
    images: FirmwareImages
    measured: Measured | None
    tuning: Tuning | None
    placed: tuple[Placed, ...]


def in_some_ram(
    model: FloatModel,
    network: Network,
    calibration: Calibration,
    samples: Data,
    board: Board,
    target: Target,
    folder: Path,
    options: Options,
    stages: Stages,
) -> tuple[Board, Attempt]:
    """Compile with the activations in internal RAM; where they do not fit, in external RAM if there is some.

    Raises
    ------
    BudgetError
        As `within_budgets`; that of internal RAM, with a word on external RAM where that was not allowed.
    """
    rest = (model, network, calibration, samples)
    outside = board.external_ram if options.ram is None else None
    try:
        return board, within_budgets(*rest, board, target, folder, options, stages)
    except AllocationError as error:
        if outside is None or all(violation.constraint != "ram" for violation in error.violations):
            raise
        if options.no_external:
            raise AllocationError(
                f"{error}\nor let {outside.name} ({outside.size} bytes) hold the activations (without --no-external)",
                error.violations, error.alternatives, error.problem,
            ) from error  # fmt: skip
    moved = board.with_arena(outside)
    return moved, within_budgets(*rest, moved, target, folder, options, stages)


def within_budgets(
    model: FloatModel,
    network: Network,
    calibration: Calibration,
    samples: Data,
    board: Board,
    target: Target,
    folder: Path,
    options: Options,
    stages: Stages,
) -> Attempt:
    """Decide, build and measure; where the measurement misses a budget that the prediction met, decide again.

    Raises
    ------
    BudgetError
        The predictions fit but no built image does: names the smallest measured one.
    """
    tightened = options
    refused: AllocationError | None = None
    ram, ram_limit = 0, options.ram or board.working_ram
    flash_limit = options.flash or board.flash_bytes(not options.no_external)
    for _ in range(ATTEMPTS):
        try:
            with stages.stage("allocate"):
                decision = decide(model, network, calibration, samples.calibration.x, board, target, tightened)
        except AllocationError as error:
            first = error.violations[0]
            if first.constraint == "ram" and ram > ram_limit:
                raise revised(error, "ram", ram_limit, max(ram, first.smallest)) from error
            if refused is not None or first.constraint not in ("flash", "latency"):
                raise refused or error from error
            # The smallest by prediction may still fit as measured; if not, the message names what was measured.
            refused = error
            if first.constraint == "flash":
                tightened = replace(options, flash=int(first.smallest))
            else:
                tightened = replace(options, latency=first.smallest)
            continue
        with stages.stage("quantize") as advance:
            quantized = quantize(
                model, network, decision.allocation.bits, calibration,
                x=samples.calibration.x, rounding=options.rounding, seed=options.seed, advance=advance,
            )  # fmt: skip
        with stages.stage("lower"):
            lowered = lower(quantized.onnx, model.name, target.requantize, target.isa, seed=options.seed)
        lowered, images, tuning, placed = build_tuned(lowered, quantized, board, target, folder, options, stages)
        measured = None
        if options.simulate:
            measured = measure(model, quantized, lowered, images, board, target, samples.test, stages, placed)
        use = images.memory
        stack = measured.run.stack_high_water if measured else load_coefficients(target.cost).stack_bytes
        instructions = measured.run.instructions if measured else 0
        excess_flash: int = max(0, use.flash - flash_limit)
        # Quantized, the network may have a few channels more alive than predicted.
        ram = use.static_ram + stack
        excess_ram: int = max(0, ram - ram_limit)
        excess_latency: float = max(0.0, instructions - options.latency) if options.latency else 0.0
        if not excess_flash and not excess_ram and not excess_latency:
            return Attempt(decision, quantized, lowered, images, measured, tuning, placed)
        if refused is not None:
            first = refused.violations[0]
            measurement = use.flash if first.constraint == "flash" else instructions
            limit = (options.flash if first.constraint == "flash" else options.latency) or first.limit
            raise revised(refused, first.constraint, limit, max(measurement, first.smallest))
        # The next choice must be predicted that much smaller than this one.
        used = decision.allocation.used
        if excess_flash:
            tightened = replace(tightened, flash=int(used["flash"].used) - excess_flash)
        if excess_ram:
            tightened = replace(tightened, ram=int(used["ram"].used) - excess_ram)
        if excess_latency:
            tightened = replace(tightened, latency=used["latency"].used - excess_latency)
    raise BudgetError(
        f"{ATTEMPTS} choices of bits fit by prediction, none as measured: {excess_flash} bytes of flash, {excess_ram} "
        f"bytes of RAM and {excess_latency:.0f} instructions too many in the last; raise the budgets by as much"
    )


def check_on(model: FloatModel, samples: Samples, seed: int) -> FloatModel:
    """Compare the canonical graph with the source's runtime on samples as well; return the larger error.

    Raises
    ------
    DataError
        They differ by more than rounding.
    """
    if model.run is None or model.source_error is None:
        return model
    error = source_error(model.onnx, model.run, samples.x[:CHECKED_SAMPLES], seed)
    return replace(model, source_error=max(error, model.source_error))


def measure(
    model: FloatModel,
    quantized: QuantizedModel,
    lowered: Lowered,
    images: FirmwareImages,
    board: Board,
    target: Target,
    test: Samples,
    stages: Stages,
    placed: tuple[Placed, ...] = (),
) -> Measured:
    """Run the twin on all evaluation samples and compare it with the reference executor and onnxruntime.

    Raises
    ------
    MismatchError
        The device differs from the reference: names layer, element and both values.
    """
    codes = input_codes(lowered.program, test.x)
    with stages.stage("simulate") as advance:
        run = QemuRunner().run(
            images.twin, target, device_inputs(lowered, codes), layers=min(EXACT_SAMPLES, len(codes)), progress=advance
        )
    with stages.stage("prove"):
        verification = verify(lowered, run, codes)
        if verification.mismatch is not None:
            raise MismatchError(f"the firmware is wrong: {verification.mismatch}")
    with stages.stage("evaluate"):
        float_logits = evaluate(model.onnx, test, optimized=True)
        onnx_logits = evaluate(quantized.onnx, test, optimized=quantized.optimizable)
    estimated = None
    if cycles.available(target.name):
        with stages.stage("estimate cycles"):
            model_of_core = cycles.estimate(images.twin, run.blocks, target.name)
            outside = {i: placed[i].stalls for i in lowered.regions}
            counts = run.instructions_per_step
            estimated = sum(cycles.step_cycles(model_of_core, lowered.steps, counts, board, outside))
    return Measured(run, verification, float_logits, onnx_logits, estimated)
