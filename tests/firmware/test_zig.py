"""Zig's C compiler in gcc's place: the same firmware for every core, and what it is told."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from device.test_qemu import SAMPLE, expected, samples
from tapc.base.errors import ToolError
from tapc.device.qemu import QemuDevice
from tapc.firmware import FirmwareImages, build_firmware
from tapc.firmware.toolchain import RegionOverflowError, fail
from tapc.firmware.zig import Zig, translated
from tapc.hardware.board import Board, load_board
from tapc.hardware.target import load_target

needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed: pip install ziglang"
)


def built(board: Board, folder: Path) -> FirmwareImages:
    target = load_target(board.core)
    return build_firmware(SAMPLE, board, target, folder / "out", work=folder / "work", toolchain="zig")


@needs_zig
@pytest.mark.parametrize("name", ["stm32h7", "pico"])
def test_firmware_of_every_kind_of_core(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    images = built(board, tmp_path)
    run = QemuDevice(load_target(board.core)).load(images).run(samples(2), layers=1)
    assert run.outputs.tolist() == [expected(sample)[2] for sample in samples(2)]
    assert abs(run.instructions_per_step[1] - 2007) <= 3
    memory = images.memory
    assert (memory.weights, memory.biases, memory.scales, memory.arena) == (64, 16, 16, 64)
    assert images.speaks
    assert 0 < memory.support < 8192
    assert images.bin.stat().st_size == memory.flash + memory.support + (-memory.flash) % 8


def test_what_its_linker_says() -> None:
    words = "".join(
        f"error: ld.lld: section '{name}' will not fit in region 'flash': overflowed by {count} bytes\n"
        for name, count in ((".rodata", 72), (".harness", 1096), (".text", 8))
    )
    with pytest.raises(RegionOverflowError, match=r"^region flash overflowed by 1096 bytes$"):
        fail("zig cc", words, Path())
    with pytest.raises(ToolError, match=r"^zig cc failed in .:\nerror: ld.lld: undefined symbol: expf$"):
        fail("zig cc", "error: ld.lld: undefined symbol: expf\nnote: referenced by\n", Path())


def flags_of(name: str) -> list[str]:
    target = load_target(name)
    return translated([*target.cflags, *target.optimization])


def test_what_it_is_told() -> None:
    assert flags_of("cortex-m7")[:3] == ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m7+fp_armv8d16"]
    assert flags_of("cortex-m4")[2] == "-mcpu=cortex_m4+vfp4d16sp"
    assert flags_of("cortex-m0plus")[1:3] == ["thumb-freestanding-eabi", "-mcpu=cortex_m0plus"]
    for name in ("cortex-m7", "cortex-m0plus"):
        assert {"-O2", "-ffp-contract=off", "-fno-strict-aliasing"} <= set(flags_of(name))
        assert not [flag for flag in flags_of(name) if "schedule" in flag or "tree" in flag or "mfpu" in flag]
    with pytest.raises(ToolError, match=r"^the toolchain zig builds for Cortex-M0, .*, not for rv32imc$"):
        translated(["-march=rv32imc"])


def test_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find: Callable[[str], object] = lambda name: None  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(ToolError, match=r"the toolchain zig is not installed; install it with: pip install ziglang$"):
        Zig().version()
