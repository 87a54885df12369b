"""From a lowered network to firmware: schedules, regions of the constants, C library, images."""

import os
from dataclasses import replace
from pathlib import Path

import onnx

from tapc.base.errors import BudgetError
from tapc.base.files import scratch_folder
from tapc.base.options import Options
from tapc.base.progress import Stages
from tapc.base.refusal import Refusal
from tapc.cost.model import CostModel, load_coefficients
from tapc.firmware import FirmwareImages, build_firmware
from tapc.firmware.toolchain import RegionOverflowError
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.kernels.schedule import Tuning
from tapc.lower import Lowered, scheduled
from tapc.lower.place import Placed, constant_bytes, outside_steps, place
from tapc.quantize import QuantizedModel
from tapc.tuning.tune import tune

_SPILLS = 4
_MARGIN = 256


def build_tuned(
    lowered: Lowered,
    quantized: QuantizedModel,
    board: Board,
    target: Target,
    folder: Path,
    options: Options,
    stages: Stages,
) -> tuple[Lowered, FirmwareImages, Tuning | None, tuple[Placed, ...], tuple[Refusal, ...]]:
    """Build with tuned schedules when asked to; where they do not fit the memory, with the defaults."""
    rest = (quantized, board, target, folder, options, stages)
    if not options.tune:
        lowered, images, placed, refused = build(lowered, *rest)
        return lowered, images, None, placed, refused
    with stages.stage("tune") as advance:
        tuning = tune(lowered, target, options.tune, jobs=os.cpu_count() or 1, advance=advance)
    tuned = scheduled(lowered.program, tuning.schedules, source=lowered.source, seed=options.seed)
    why = f"their arena has {tuned.plan.size:,} bytes, {tuned.plan.size - lowered.plan.size:,} more"
    if tuned.plan.size <= lowered.plan.size:
        try:
            tuned, images, placed, refused = build(tuned, *rest)
            over = images.memory.flash - (options.flash or board.flash_bytes(not options.no_external))
            if over <= 0:
                return tuned, images, tuning, placed, refused
            why = f"their code is longer: {images.memory.flash:,} bytes of flash, {over:,} too many"
        except BudgetError as error:
            why = f"their code is longer: {error}"
    saved = tuning.before - tuning.after
    given_up = replace(tuning, schedules={}, after=tuning.before)
    lowered, images, placed, refused = build(lowered, *rest)
    what = f"the tuned schedules of {len(tuning.schedules)} layers, {saved:,} instructions less"
    return lowered, images, given_up, placed, (Refusal("kernels", what, why), *refused)


def build(
    lowered: Lowered,
    quantized: QuantizedModel,
    board: Board,
    target: Target,
    folder: Path,
    options: Options,
    stages: Stages,
) -> tuple[Lowered, FirmwareImages, tuple[Placed, ...], tuple[Refusal, ...]]:
    """Write model.onnx and the C library, and compile the firmware.

    The room for constants in internal flash is what the predicted code leaves; where the linker finds it smaller, the
    constants are placed again.
    """
    cost = CostModel(load_coefficients(target.cost))
    code = cost.flash(lowered.steps) - sum(constant_bytes(step) for step in lowered.steps)
    room, refused = board.flash.size - code, list[Refusal]()
    onnx.save(quantized.onnx, folder / "model.onnx")
    (folder / "lib").mkdir(exist_ok=True)
    for attempt in range(_SPILLS):
        placed = place(lowered.steps, board, room, target.dcache, external=not options.no_external)
        lowered = replace(lowered, regions=outside_steps(placed, board))
        external: dict[str, int] = {}
        for index, region in sorted(lowered.regions.items()):
            external[region] = external.get(region, 0) + placed[index].bytes
        with stages.stage("generate C"):
            lowered.library().write(folder / "lib")
        try:
            with stages.stage("build firmware"), scratch_folder() as work:
                images = build_firmware(
                    folder / "lib",
                    board,
                    target,
                    folder,
                    work=work,
                    external=external,
                    arena=lowered.plan.size,
                    toolchain=options.toolchain,
                )
            return lowered, images, placed, tuple(refused)
        except RegionOverflowError as error:
            if not external or error.region != board.flash.name or attempt == _SPILLS - 1:
                raise
            inside = sum(p.bytes for p in placed) - sum(external.values())
            what = f"{inside:,} bytes of constants in {board.flash.name}"
            refused.append(Refusal("memory", what, f"{error.overflow:,} bytes too many beside the code"))
            room -= error.overflow + _MARGIN
    raise AssertionError("the last attempt returns or raises")
