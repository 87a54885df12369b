"""One pass from a calibrated network to proved firmware: bits, integers, C and measurements; and when to do another."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tapc.allocate import AllocationError
from tapc.allocate.diagnose import revised
from tapc.base.errors import BudgetError
from tapc.base.options import Options
from tapc.base.progress import Stages
from tapc.base.refusal import Refusal
from tapc.cost.model import CostModel, load_coefficients
from tapc.data import Samples
from tapc.firmware import FirmwareImages
from tapc.firmware.toolchain import RegionOverflowError
from tapc.flow.algorithms import with_algorithms
from tapc.flow.balancing import suited
from tapc.flow.build import build_tuned
from tapc.flow.decide import Decision, Evidence, decide
from tapc.flow.inputs import Data
from tapc.flow.latency import taken
from tapc.flow.least import with_least_ram
from tapc.flow.patches import with_patches
from tapc.flow.proving import expect, measure
from tapc.flow.scales import with_easier_scales
from tapc.flow.streaming import Step, proved_step
from tapc.frontend import FloatModel
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.kernels.schedule import Tuning
from tapc.lower import Lowered, lower
from tapc.lower.ahead import generated_beside
from tapc.lower.fast import Fast
from tapc.lower.place import Placed
from tapc.quantize import QuantizedModel, quantize
from tapc.report import Measured

if TYPE_CHECKING:
    from tapc.finetune import Trained, Training

ATTEMPTS = 4


@dataclass(frozen=True, eq=False)
class Attempt:
    """One pass from bits to measurements; the model is equalized for the bits.

    What was `refused` on the way is told of builds, memory and kernels; what bits were not chosen, the decision knows.
    Where it is one `step` of a network over time, model and quantized network are those of the step.
    """

    model: FloatModel
    decision: Decision
    quantized: QuantizedModel
    lowered: Lowered
    images: FirmwareImages
    measured: Measured | None
    tuning: Tuning | None
    placed: tuple[Placed, ...]
    fast: Fast
    refused: tuple[Refusal, ...] = ()
    step: Step | None = None


def in_some_ram(
    evidence: Evidence,
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
    model = evidence.model
    outside = board.external_ram if options.ram is None else None
    try:
        return in_fast_ram(board, within_budgets(model, evidence, samples, board, target, folder, options, stages))
    except AllocationError as error:
        if outside is None or all(violation.constraint != "ram" for violation in error.violations):
            raise
        if options.no_external:
            raise AllocationError(
                f"{error}\nor let {outside.name} ({outside.size} bytes) hold the activations (without --no-external)",
                error.violations, error.alternatives, error.problem,
            ) from error  # fmt: skip
        refused = Refusal("memory", f"the activations in {board.arena_region.name}", str(error).splitlines()[0])
    moved = board.with_arena(outside)
    attempt = within_budgets(model, evidence, samples, moved, target, folder, options, stages)
    return moved, replace(attempt, refused=(refused, *attempt.refused))


def in_fast_ram(board: Board, attempt: Attempt) -> tuple[Board, Attempt]:
    """Return the board with its arena where it was linked to."""
    region = attempt.fast.arena
    return board if region is None else board.with_arena(board.region(region)), attempt


def within_budgets(
    model: FloatModel,
    evidence: Evidence,
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
    ram, ram_limit, flash, least = 0, 0, 0, 0
    earlier: list[Refusal] = []
    flash_limit = options.flash or board.flash_bytes(not options.no_external)
    for _ in range(ATTEMPTS):
        try:
            with stages.stage("allocate"):
                decision = decide(evidence, board, target, tightened)
        except AllocationError as error:
            first = error.violations[0]
            if first.constraint == "ram" and ram > ram_limit:
                raise revised(error, "ram", ram_limit, max(ram, first.smallest)) from error
            if first.constraint == "flash" and first.smallest >= least > 0:  # it was built, and is too large
                raise revised(error, "flash", flash_limit, flash) from error
            if refused is not None or first.constraint not in ("flash", "latency"):
                raise refused or error from error
            # The smallest by prediction may still fit as measured; if not, the message names what was measured.
            refused = error
            if first.constraint == "flash":
                tightened = replace(options, flash=int(first.smallest))
            else:
                assert options.latency is not None
                tightened = replace(options, latency=replace(options.latency, amount=first.smallest))
            continue
        bits = decision.allocation.bits
        with stages.stage("quantize") as advance, generated_beside(decision.specs):
            suitable, calibration = suited(model, evidence.calibration, evidence.x, bits, options.seed)
            quantized = quantize(
                suitable, evidence.network, bits, calibration,
                x=evidence.x, rounding=options.rounding, seed=options.seed, advance=advance,
            )  # fmt: skip
        used = decision.allocation.used
        try:
            attempt = realize(decision, suitable, quantized, samples.test, board, target, folder, options, stages)
        except RegionOverflowError as error:
            # Nor does the linker see what another memory has left: by how much it is too small is all that it says.
            ram_limit = options.ram or board.ram_limit(load_coefficients(target.cost).besides_arena)
            over = _overflowing(error, board, flash_limit)
            if not over:
                raise
            use = Use(int(flash_limit + over.get("flash", 0)), int(ram_limit + over.get("ram", 0)), 0, 0.0)
        else:
            use = use_of(attempt, board, target, options)
            ram_limit, over = options.ram or board.ram_limit(use.ram - use.arena), beyond(use, board, options)
            if not over:
                return replace(attempt, refused=(*earlier, *attempt.refused))
        ram, flash, least = use.ram, use.flash, int(used["flash"].used) if "flash" in over else 0
        average = used["target_bits"].used
        what = f"{average:.2f} weight bits on average, which fit by prediction"
        earlier.append(Refusal("build", what, f"measured: {listed(over, options)} too many"))
        if refused is not None:
            first = refused.violations[0]
            measurement = use.flash if first.constraint == "flash" else use.latency
            bounded = options.latency and options.latency.amount
            limit = (options.flash if first.constraint == "flash" else bounded) or first.limit
            raise revised(refused, first.constraint, limit, max(measurement, first.smallest))
        # The next choice must be predicted that much smaller than this one.
        if "flash" in over:
            tightened = replace(tightened, flash=max(1, int(used["flash"].used) - int(over["flash"])))
        if "ram" in over:
            tightened = replace(tightened, ram=max(1, int(used["ram"].used) - int(over["ram"])))
        if "latency" in over:
            assert options.latency is not None
            amount = max(options.latency.amount * 1e-6, used["latency"].used - over["latency"])
            tightened = replace(tightened, latency=replace(options.latency, amount=amount))
    raise BudgetError(
        f"{ATTEMPTS} choices of bits fit by prediction, none as measured: {listed(over, options)} too many in the "
        "last; raise the budgets by as much"
    )


def realize(
    decision: Decision,
    model: FloatModel,
    quantized: QuantizedModel,
    test: Samples,
    board: Board,
    target: Target,
    folder: Path,
    options: Options,
    stages: Stages,
) -> Attempt:
    """Lower a quantized network, build its firmware and, unless told not to, run and prove it.

    Where it is too large with the algorithms that `--optimize` chose, it is built without them.
    """
    with stages.stage("lower"):
        quantized = with_easier_scales(quantized, target)
        step = proved_step(model, quantized, test, target, options)
        if step is not None:
            model, quantized, test = step.model, step.quantized, step.test
        plain = lower(quantized.onnx, model.name, target.requantize, target.isa, seed=options.seed,
                      prefix=options.prefix or "")  # fmt: skip
        whole = plain
        plain = with_patches(plain, board, target, options)
        if options.optimize == "ram":
            least = with_least_ram(whole, board, target, options)
            chosen = least if least.plan.size <= plain.plan.size else plain
        else:
            chosen = with_algorithms(plain, board, target, options)

    def made(lowered: Lowered, options: Options) -> Attempt:
        with ThreadPoolExecutor(1) as beside:
            # Compilers take one core for most of the time.
            expected = beside.submit(expect, model, quantized, lowered, test) if options.simulate else None
            built = build_tuned(lowered, quantized, board, target, folder, options, stages)
            measured = None
            if expected is not None:
                measured = measure(model, expected, built, board, target, test, stages, options.device)
        return Attempt(model, decision, quantized, built.lowered, built.images, measured, built.tuning, built.placed,
                       built.fast, built.refused, step)  # fmt: skip

    if chosen is plain:
        return made(plain, options)
    try:
        attempt = made(chosen, options)
        over = beyond(use_of(attempt, board, target, options), board, options)
        if options.optimize != "ram":
            over.pop("latency", None)  # without them it takes longer still
        if not over:
            return attempt
        why = f"measured: {listed(over, options)} too many"
    except RegionOverflowError as error:
        why = str(error)
    refusal = Refusal("kernels", f"what --optimize {options.optimize} chose", why)
    attempt = made(plain, replace(options, optimize="size"))
    return replace(attempt, refused=(refusal, *attempt.refused))


@dataclass(frozen=True)
class Use:
    """What an image takes: bytes of flash, of RAM, and of its arena there; time (0 where it was not run)."""

    flash: int
    ram: int
    arena: int
    latency: float


def use_of(attempt: Attempt, board: Board, target: Target, options: Options) -> Use:
    """Return what an attempt's image takes; the stack as the cost model has it where nothing was run."""
    measured, memory = attempt.measured, attempt.images.memory
    cost = CostModel(load_coefficients(target.cost))
    stack = measured.run.stack_high_water if measured else cost.stack(attempt.lowered.steps)
    return Use(memory.flash, memory.static_ram + stack, memory.arena, taken(measured, board, options.latency_unit))


def _overflowing(error: RegionOverflowError, board: Board, flash_limit: float) -> dict[str, float]:
    """Return by how much an image that could not be linked exceeds its flash, or RAM; nothing where none tells that.

    Beside external flash, internal flash is full of what must lie there: fewer bits in all are of no use to it.
    """
    if error.region == board.flash.name:
        taken = board.flash.size + error.overflow
        return {"flash": taken - flash_limit} if taken > flash_limit else {}
    ram = (board.arena_region.name, board.stack_region.name, board.data_region.name)
    return {"ram": float(error.overflow)} if error.region in ram else {}


def beyond(use: Use, board: Board, options: Options) -> dict[str, float]:
    """Return by how much an image exceeds its budgets; those that it keeps are left out.

    Quantized, a network may have a few channels more alive than predicted.
    """
    limits = {
        "flash": options.flash or board.flash_bytes(not options.no_external),
        "ram": options.ram or board.ram_limit(use.ram - use.arena),
        "latency": float("inf") if options.latency is None else options.latency.amount,
    }
    used = {"flash": use.flash, "ram": use.ram, "latency": use.latency}
    return {name: used[name] - limit for name, limit in limits.items() if used[name] > limit}


def listed(over: Mapping[str, float], options: Options) -> str:
    """Say by how much budgets are exceeded."""
    unit = options.latency_unit
    units = {"flash": "bytes of flash", "ram": "bytes of RAM", "latency": unit}
    digits = {"latency": 3 if unit == "ms" else 0}
    return ", ".join(f"{amount:.{digits.get(name, 0)}f} {units[name]}" for name, amount in over.items())


def retrained(
    attempt: Attempt,
    model: FloatModel,
    samples: Samples,
    training: "Training",
    test: Samples,
    board: Board,
    target: Target,
    folder: Path,
    checkpoints: Path,
    options: Options,
    stages: Stages,
) -> "tuple[Attempt, str | None, Trained]":
    """Train what was compiled, with the bits that it has, and compile it again.

    Returns
    -------
    Attempt
        The argument where training did not make it better.
    str or None
        What to tell the user about that.
    Trained
        What training did.

    Raises
    ------
    BudgetError
        Trained, the image exceeds a budget: weights that were zero may no longer be.
    """
    from tapc.finetune import finetune_at_some_rate  # loads torch

    found = finetune_at_some_rate(model, attempt.quantized, samples, training, checkpoints, stages)
    if found.rate is None:
        losses = ", ".join(f"{loss:.4g} at rate {rate:g}" for rate, loss in found.after)
        what = f"loss {found.before:.4g} before, {losses} after"
        return attempt, f"training did not help: {what}; try more --epochs or a lower --rate", found
    trained = realize(attempt.decision, model, found.quantized, test, board, target, folder, options, stages)
    over = beyond(use_of(trained, board, target, options), board, options)
    if over:
        raise BudgetError(
            f"after training the image takes {listed(over, options)} more than the budget; lower the budget by as "
            "much, so that fewer bits are chosen"
        )
    if found.rate != training.rate:
        return trained, f"trained at rate {found.rate:g}: {training.rate:g} did not help", found
    return trained, None, found
