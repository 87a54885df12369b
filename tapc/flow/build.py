"""From a lowered network to firmware: schedules, regions of the constants, C library, images."""

import os
from dataclasses import replace
from pathlib import Path

import onnx

from tapc.base.errors import BudgetError
from tapc.base.files import scratch_folder
from tapc.base.options import Options
from tapc.base.progress import Stages
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
) -> tuple[Lowered, FirmwareImages, Tuning | None, tuple[Placed, ...]]:
    """Build with tuned schedules when asked to; where they do not fit the memory, with the defaults."""
    rest = (quantized, board, target, folder, options, stages)
    if not options.tune:
        lowered, images, placed = build(lowered, *rest)
        return lowered, images, None, placed
    with stages.stage("tune") as advance:
        tuning = tune(lowered, target, options.tune, jobs=os.cpu_count() or 1, advance=advance)
    tuned = scheduled(lowered.program, tuning.schedules, source=lowered.source, seed=options.seed)
    if tuned.plan.size <= lowered.plan.size:
        try:
            tuned, images, placed = build(tuned, *rest)
            if images.memory.flash <= (options.flash or board.flash_bytes(not options.no_external)):
                return tuned, images, tuning, placed
        except BudgetError:
            pass  # unrolled loops are longer
    given_up = replace(tuning, schedules={}, after=tuning.before)
    lowered, images, placed = build(lowered, *rest)
    return lowered, images, given_up, placed


def build(
    lowered: Lowered,
    quantized: QuantizedModel,
    board: Board,
    target: Target,
    folder: Path,
    options: Options,
    stages: Stages,
) -> tuple[Lowered, FirmwareImages, tuple[Placed, ...]]:
    """Write model.onnx and the C library, and compile the firmware.

    The room for constants in internal flash is what the predicted code leaves; where the linker finds it smaller, the
    constants are placed again.
    """
    cost = CostModel(load_coefficients(target.cost))
    code = cost.flash(lowered.steps) - sum(constant_bytes(step) for step in lowered.steps)
    room = board.flash.size - code
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
            return lowered, images, placed
        except RegionOverflowError as error:
            if not external or error.region != board.flash.name or attempt == _SPILLS - 1:
                raise
            room -= error.overflow + _MARGIN
    raise AssertionError("the last attempt returns or raises")
