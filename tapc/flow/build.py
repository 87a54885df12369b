"""From a lowered network to firmware: schedules, regions of the constants, C library, images."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from tapc import cycles
from tapc.base.errors import BudgetError
from tapc.base.files import scratch_folder
from tapc.base.options import Options
from tapc.base.progress import Stages
from tapc.base.refusal import Refusal
from tapc.cost.model import CostModel, load_coefficients
from tapc.firmware import FirmwareImages, build_firmware
from tapc.firmware.layout import Copied
from tapc.firmware.toolchain import RegionOverflowError
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.kernels.schedule import TuneFor, Tuning
from tapc.lower import Lowered, scheduled
from tapc.lower.fast import Fast, choose_fast, moved
from tapc.lower.library import constant_symbols
from tapc.lower.place import Placed, outside_steps, own_bytes, place
from tapc.quantize import QuantizedModel
from tapc.tuning.tune import tune

_SPILLS = 4
_MARGIN = 256
_SPEAKING = 512  # RAM of what speaks, but for its copy of the input


@dataclass(frozen=True)
class Built:
    """What was built of a network.

    Attributes
    ----------
    lowered : Lowered
        With its schedules and the external regions of its constants.
    images : FirmwareImages
    placed : tuple of Placed
        Where the constants of each step are read.
    fast : Fast
        What start-up copies.
    tuning : Tuning or None
    refused : tuple of Refusal
        What was tried and did not fit.
    """

    lowered: Lowered
    images: FirmwareImages
    placed: tuple[Placed, ...]
    fast: Fast
    tuning: Tuning | None = None
    refused: tuple[Refusal, ...] = ()


def build_tuned(
    lowered: Lowered,
    quantized: QuantizedModel,
    board: Board,
    target: Target,
    folder: Path,
    options: Options,
    stages: Stages,
) -> Built:
    """Build with tuned schedules when asked to; where they do not fit the memory, with the defaults."""
    rest = (quantized, board, target, folder, options, stages)
    if not options.tune:
        return build(lowered, *rest)
    with stages.stage("tune") as advance:
        by = tune_for(options, target)
        tuning = tune(lowered, target, options.tune, by=by, jobs=os.cpu_count() or 1, advance=advance)
    tuned = scheduled(lowered.program, tuning.schedules, source=lowered.source, seed=options.seed)
    why = f"their arena has {tuned.plan.size:,} bytes, {tuned.plan.size - lowered.plan.size:,} more"
    if tuned.plan.size <= lowered.plan.size:
        try:
            built = build(tuned, *rest)
            flash = built.images.memory.flash
            over = flash - (options.flash or board.flash_bytes(not options.no_external))
            if over <= 0:
                return replace(built, tuning=tuning)
            why = f"their code is longer: {flash:,} bytes of flash, {over:,} too many"
        except BudgetError as error:
            why = f"their code is longer: {error}"
    saved = tuning.before - tuning.after
    given_up = replace(tuning, schedules={}, after=tuning.before)
    built = build(lowered, *rest)
    what = f"the tuned schedules of {len(tuning.schedules)} layers, {saved:,} {tuning.by} less"
    return replace(built, tuning=given_up, refused=(Refusal("kernels", what, why), *built.refused))


def tune_for(options: Options, target: Target) -> TuneFor:
    """Return what schedules are chosen by: cycles where instructions do not tell them, and a model of the core does."""
    if options.tune_for != "auto":
        return "cycles" if options.tune_for == "cycles" else "instructions"
    return "cycles" if target.dual_issue and cycles.available(target.name) else "instructions"


def build(
    lowered: Lowered,
    quantized: QuantizedModel,
    board: Board,
    target: Target,
    folder: Path,
    options: Options,
    stages: Stages,
) -> Built:
    """Write model.onnx and the C library, and compile the firmware.

    The room for constants in internal flash is what the predicted code leaves, and that in fast memories what variables
    and the stack leave; where the linker finds one smaller, it is filled again.
    """
    cost = CostModel(load_coefficients(target.cost))
    code = cost.flash(lowered.steps) - sum(own_bytes(lowered.steps))
    room, fast_room = board.flash.size - code, _fast_room(lowered, board, cost, options)
    refused: list[Refusal] = []
    onnx.save(quantized.onnx, folder / "model.onnx")
    (folder / "lib").mkdir(exist_ok=True)
    for attempt in range(_SPILLS):
        placed = place(lowered.steps, board, room, target.dcache, external=not options.no_external)
        lowered = replace(lowered, regions=outside_steps(placed, board))
        fast = Fast()
        if fast_room:
            sizes = {step.spec: cost.code_bytes(step.spec) for step in lowered.steps}
            arena = lowered.plan.size
            left = None if options.ram is None else max(0, options.ram - arena - cost.coefficients.besides_arena)
            fast = choose_fast(lowered.steps, lowered.program, placed, board, sizes, arena, fast_room, left)
        external: dict[str, int] = {}
        for index, region in sorted(lowered.regions.items()):
            external[region] = external.get(region, 0) + placed[index].bytes
        with stages.stage("generate C"):
            lowered.library().write(folder / "lib")
        try:
            with stages.stage("build firmware"), scratch_folder() as work:
                images = build_firmware(
                    folder / "lib",
                    board if fast.arena is None else board.with_arena(board.region(fast.arena)),
                    target,
                    folder,
                    work=work,
                    external=external,
                    arena=lowered.plan.size,
                    toolchain=options.toolchain,
                    copied=_copied(lowered, fast),
                )
            return Built(lowered, images, moved(placed, fast, board), fast, refused=tuple(refused))
        except RegionOverflowError as error:
            if attempt == _SPILLS - 1:
                raise
            if fast and fast_room.get(error.region, 0) > 0:
                fast_room[error.region] = max(0, fast_room[error.region] - error.overflow - _MARGIN)
            elif external and error.region == board.flash.name:
                inside = sum(p.bytes for p in placed) - sum(external.values())
                what = f"{inside:,} bytes of constants in {board.flash.name}"
                refused.append(Refusal("memory", what, f"{error.overflow:,} bytes too many beside the code"))
                room -= error.overflow + _MARGIN
            else:
                raise
    raise AssertionError("the last attempt returns or raises")


def _fast_room(lowered: Lowered, board: Board, cost: CostModel, options: Options) -> dict[str, int]:
    """Return the bytes that copies may take of each internal RAM; none where nothing is copied."""
    if options.optimize != "speed":
        return {}
    program, arena = lowered.program, lowered.plan.size
    besides = cost.coefficients.data_bytes + _SPEAKING + sum(program.tensors[name].bytes for name in program.given)
    found = {}
    for region in board.memory:
        if region.kind == "ram":
            taken = board.stack_bytes if region == board.stack_region else 0
            taken += besides if region == board.data_region else 0
            taken += arena if region == board.arena_region else 0
            found[region.name] = max(0, region.size - taken)
    return found


def _copied(lowered: Lowered, fast: Fast) -> tuple[Copied, ...]:
    """Return the sections of what is copied, by region."""
    sections: dict[str, list[str]] = {}
    for spec, region in fast.functions.items():
        sections.setdefault(region, []).append(f".text.{lowered.functions[spec]}")
    for region in dict.fromkeys(fast.functions.values()):
        sections[region].append(f".text.{lowered.names.symbol('t_*')}")  # what several kernels call
    symbols = constant_symbols(lowered.steps, lowered.names)
    for index, region in fast.constants.items():
        sections.setdefault(region, []).extend(f".rodata.{symbol}" for symbol in symbols[index].values())
    return tuple(Copied(region, tuple(dict.fromkeys(names))) for region, names in sections.items())
