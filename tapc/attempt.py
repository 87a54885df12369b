"""One pass from a calibrated network to proved firmware: bits, integers, C and measurements; and when to do another."""

from dataclasses import dataclass, replace
from pathlib import Path

from tapc import cycles
from tapc.allocate import AllocationError
from tapc.allocate.diagnose import revised
from tapc.board import Board
from tapc.build import build_tuned
from tapc.cost.model import load_coefficients
from tapc.data import Samples
from tapc.decide import Decision, decide
from tapc.device import QemuRunner
from tapc.device.verify import device_inputs, verify
from tapc.errors import BudgetError, MismatchError
from tapc.finetune import Training, finetune
from tapc.firmware import FirmwareImages
from tapc.frontend import FloatModel, source_error
from tapc.inputs import Data
from tapc.lower import Lowered, lower
from tapc.lower.codes import input_codes
from tapc.lower.place import Placed
from tapc.network import Network
from tapc.options import Options
from tapc.progress import Stages
from tapc.quantize import Calibration, QuantizedModel, evaluate, quantize
from tapc.report import Measured
from tapc.target import Target
from tapc.tune import Tuning

ATTEMPTS = 4
EXACT_SAMPLES = 4
CHECKED_SAMPLES = 8


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


def retrained(
    attempt: Attempt,
    model: FloatModel,
    samples: Samples,
    training: Training,
    test: Samples,
    board: Board,
    target: Target,
    folder: Path,
    checkpoint: Path,
    options: Options,
    stages: Stages,
) -> tuple[Attempt, str | None]:
    """Train what was compiled, with the bits that it has, and compile it again.

    Returns
    -------
    Attempt
        The argument where training did not make it better.
    str or None
        What to tell the user about that.

    Raises
    ------
    BudgetError
        Trained, the image is larger than the budget: weights that were zero may no longer be.
    """
    with stages.stage("finetune") as advance:
        quantized, before, after = finetune(
            model, attempt.quantized, samples, training, checkpoint=checkpoint, advance=advance
        )
    if quantized is attempt.quantized:
        return attempt, f"training did not help: loss {before:.4g} before, {after:.4g} after; try a lower --rate"
    with stages.stage("lower"):
        lowered = lower(quantized.onnx, model.name, target.requantize, target.isa, seed=options.seed)
    lowered, images, tuning, placed = build_tuned(lowered, quantized, board, target, folder, options, stages)
    limit = options.flash or board.flash_bytes(not options.no_external)
    if images.memory.flash > limit:
        raise BudgetError(
            f"after training the image takes {images.memory.flash} bytes of flash, {images.memory.flash - limit} more "
            "than the budget; lower --flash by as much, so that fewer bits are chosen"
        )
    measured = None
    if options.simulate:
        measured = measure(model, quantized, lowered, images, board, target, test, stages, placed)
    return Attempt(attempt.decision, quantized, lowered, images, measured, tuning, placed), None


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
