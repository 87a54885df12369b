"""Two simulators side by side give what one gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tapc.base.errors import ToolError
from tapc.device import DeviceRun
from tapc.device.halves import run_in_halves
from tapc.device.qemu import QemuDevice, QemuTwin
from tapc.firmware import build_firmware
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target

SAMPLE = Path(__file__).parents[1] / "firmware" / "sample_library"


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> QemuTwin:
    folder, board = tmp_path_factory.mktemp("twin"), load_board("stm32h7")
    target = load_target(board.core)
    images = build_firmware(SAMPLE, board, target, folder / "out", work=folder / "work")
    return QemuDevice(target, timeout=60).load(images)


@pytest.mark.parametrize(("count", "layers"), [(1, 1), (32, 0), (33, 4), (40, 39), (40, 40)])
def test_halves_give_what_the_whole_gives(twin: QemuTwin, count: int, layers: int) -> None:
    x = np.random.default_rng(count).integers(-128, 128, (count, 16)).astype(np.int8)
    seen: list[tuple[int, int]] = []
    run = twin.run(x, layers=layers, progress=lambda *told: seen.append(told))
    whole = twin.run_once(x, layers=layers)
    np.testing.assert_array_equal(run.outputs, whole.outputs)
    assert run.layer_outputs == whole.layer_outputs
    assert (run.instructions_per_step, run.instructions) == (whole.instructions_per_step, whole.instructions)
    assert run.stack_high_water == whole.stack_high_water
    # Every block of the inference runs as often, start-up in both simulators; the loop over samples is entered twice.
    executions = {tuple(block[:2]): block[2] for block in whole.blocks.tolist()}
    again = {tuple(block[:2]): block[2] for block in run.blocks.tolist()}
    assert executions.keys() == again.keys()
    assert all(again[block] >= often - 1 for block, often in executions.items())
    assert seen[-1] == (count, count)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("marked", [0, 20])
def test_a_failure_in_either_is_an_error(twin: QemuTwin, marked: int) -> None:
    def failing(inputs: NDArray[np.int8], **options: Any) -> DeviceRun:
        if inputs[0, 0] == 1:
            raise ToolError("marked")
        return twin.run_once(inputs, **options)

    x = np.zeros((40, 16), np.int8)
    x[marked, 0] = 1
    with pytest.raises(ToolError, match="marked"):
        run_in_halves(failing, x)
