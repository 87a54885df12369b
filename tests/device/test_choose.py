"""Devices by name: one file adds one, and a core that none can run is told so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tapc.device
from kernels.programs import conv_op, lowered, program, tensor
from tapc.base.errors import ToolError, UsageError
from tapc.device import device_for, obstacle
from tapc.hardware.board import load_board
from tapc.hardware.target import Target, load_target
from tapc.lower import Library
from tapc.tuning.measure import simulate
from tapc.tuning.tune import tune

ECHO = """
import numpy as np
from tapc.device.choose import register
from tapc.device.interface import Device, DeviceRun, LoadedImage
from tapc.hardware.board import load_board

@register("echo")
class Echo(Device):
    @staticmethod
    def obstacle(target):
        return None if "dsp" in target.features else f"{target.name} has no voice"

    def roomy_board(self):
        return load_board("stm32h7")

    def load(self, images):
        return Echoing(images.elf, 1, 4, 4)

class Echoing(LoadedImage):
    def run(self, inputs, *, layers=0, progress=None):
        return DeviceRun(self.path, inputs, (), (1,), 1, 0, np.zeros((0, 3), np.uint64))
"""


class Built:
    elf, twin = Path("firmware.elf"), Path("twin.elf")


def core(board: str) -> Target:
    return load_target(load_board(board).core)


def test_a_file_adds_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    monkeypatch.setattr(tapc.device, "__path__", [*tapc.device.__path__, str(tmp_path)])
    device = device_for(core("stm32h7"), "echo", timeout=3, foreign=True)
    assert (device.timeout, device.foreign) == (3, True)
    run = device.load(Built()).run(np.ones((2, 4), np.int8))
    assert (run.image, run.outputs.tolist()) == (Built.elf, [[1] * 4] * 2)
    with pytest.raises(ToolError, match=r"^cortex-m0plus has no voice$"):
        device_for(core("pico"), "echo")


@pytest.mark.parametrize("name", ["nothing", "verify"])
def test_an_unknown_device(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown device '{name}'"):
        device_for(core("pico"), name)


def test_a_core_that_no_device_runs() -> None:
    target = replace(core("pico"), qemu=None)
    assert obstacle(core("pico")) is None
    assert obstacle(target) == "target cortex-m0plus names no QEMU machine"
    with pytest.raises(ToolError, match=r"^target cortex-m0plus names no QEMU machine$"):
        device_for(target)
    with pytest.raises(
        UsageError, match=r"^target cortex-m0plus names no QEMU machine, so nothing can be measured on it$"
    ):
        simulate(Library({}, {}, {}, 0), target, 1)
    rng = np.random.default_rng(0)
    x, y = tensor("x", (3, 3, 4), 8, rng), tensor("y", (3, 3, 4), 8, rng)
    network = lowered(program([conv_op(rng, x, y, (1, 1), (1, 1), (0,) * 4, 1, 8)], [x, y]))
    with pytest.raises(UsageError, match=r"^--tune measures in QEMU, and target cortex-m0plus names no QEMU machine$"):
        tune(network, target, 1)
