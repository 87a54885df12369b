"""The flashed image in Unicorn: outputs, layers, counts, clocks; and what goes wrong there."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from device.test_qemu import SAMPLE, expected, samples, variant
from tapc.base import confine
from tapc.base.errors import ToolError
from tapc.device import DeviceRun, device_for
from tapc.device.chips import CHIPS, Chip, Defines
from tapc.device.dialog import Dialog, Info
from tapc.device.unicorn import UnicornDevice, UnicornImage
from tapc.firmware import FirmwareImages, build_firmware
from tapc.hardware.board import Board, load_board
from tapc.hardware.target import load_target

pytest.importorskip("unicorn", reason="Unicorn is not installed: pip install unicorn")

HERTZ = {
    "stm32h7": 400_000_000,
    "nucleo-h743zi": 400_000_000,
    "nucleo-l4r5zi": 120_000_000,
    "b-l475e-iot01a": 80_000_000,
    "nrf52840dk": 64_000_000,
    "nrf5340dk": 128_000_000,
    "arduino-nano33ble": 64_000_000,
    "netduinoplus2": 168_000_000,
    "nucleo-f446re": 180_000_000,
}
RESET_HERTZ = 64_000_000


def built(library: Path, board: Board, folder: Path, external: dict[str, int] | None = None) -> FirmwareImages:
    target = load_target(board.core)
    return build_firmware(library, board, target, folder / "out", work=folder / "work", external=external)


def opened(images: FirmwareImages, board: Board, timeout: float = 60.0, *, foreign: bool = False) -> UnicornImage:
    device = device_for(load_target(board.core), "unicorn", timeout=timeout, board=board, foreign=foreign)
    assert isinstance(device, UnicornDevice)
    return device.load(images)


def info_of(image: UnicornImage) -> Info:
    with image.device.line(image) as channel:
        dialog = Dialog(channel)
        dialog.connect()
        return dialog.info()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> FirmwareImages:
    return built(SAMPLE, load_board("stm32h7"), tmp_path_factory.mktemp("stm32h7"))


def check(run: DeviceRun, count: int, layers: int) -> None:
    x = samples(count)
    assert run.outputs.tolist() == [expected(sample)[2] for sample in x]
    assert len(run.layer_outputs) == layers
    for sample, steps in zip(x, run.layer_outputs, strict=False):
        assert [np.frombuffer(step, np.int8).tolist() for step in steps] == list(expected(sample))


@pytest.mark.parametrize("name", HERTZ)
def test_a_board_reaches_its_clock_and_gives_its_outputs(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    found = opened(built(SAMPLE, board, tmp_path), board, foreign=True)
    check(found.run(samples(2), layers=2), 2, 2)
    info = info_of(found)
    assert (info.board, info.hz, info.counter) == (name, HERTZ[name], "dwt")


def test_instructions_of_steps(image: FirmwareImages) -> None:
    run = opened(image, load_board("stm32h7")).run(samples(3))
    # k_spin is 2007 instructions by hand; what leads to a step differs by a few from what leads to none
    assert abs(run.instructions_per_step[1] - 2007) <= 3
    assert run.instructions == sum(run.instructions_per_step)
    assert (len(run.instructions_per_step), run.layer_outputs, run.timing, run.device) == (3, (), None, "unicorn")
    loops = [int(count) for _, length, count in run.blocks if length == 2 and count == 999]
    assert loops == [999]


def test_the_boards_own_counter_counts_instructions(image: FirmwareImages) -> None:
    found = opened(image, load_board("stm32h7"))
    with found.device.line(found) as channel:
        dialog = Dialog(channel)
        dialog.connect()
        dialog.info()
        layers = found.stepped(dialog, samples(1)[0].tobytes())
        inference = dialog.infer()
    assert 2007 < layers[1].cycles < 2007 + 60  # with two readings of the counter
    assert inference.cycles[0] > 0


def test_many_samples_run_in_two_emulators(image: FirmwareImages) -> None:
    check(opened(image, load_board("stm32h7")).run(samples(33), layers=1), 33, 1)


H7 = CHIPS["stm32h7.c"]


def without(defines: Defines, **changed: object) -> Chip:
    return replace(H7(defines), **changed)


def test_a_clock_that_never_comes_leaves_the_reset_clock(
    image: FirmwareImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHIPS, "stm32h7.c", partial(without, follows=()))
    found = opened(image, load_board("stm32h7"))
    assert info_of(found).hz == RESET_HERTZ
    check(found.run(samples(1)), 1, 0)  # with the baud rate of that clock


def test_another_crystal_is_told(image: FirmwareImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHIPS, "stm32h7.c", lambda defines: H7({**defines, "TAPC_HSE_HZ": 24_000_000}))
    with pytest.raises(ToolError, match=r"runs at 400,000,000 Hz, but by its clock's registers .* at 384,000,000 Hz"):
        opened(image, load_board("stm32h7")).run(samples(1))


def test_external_memories_are_there_once_they_are_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = variant(tmp_path, "sum = sample_b_0_dense[o]", "sum = sample_b_0_dense[o]")
    text = (library / "sample_weights.c").read_text()
    section = '__attribute__((section(".tapc_qspi_flash"))) const int8_t sample_w_0_dense'
    (library / "sample_weights.c").write_text(text.replace("const int8_t sample_w_0_dense", section))
    board = load_board("stm32h7")
    board = board.with_arena(board.region("sdram"))
    found = opened(built(library, board, tmp_path, {"qspi_flash": 64}), board)
    check(found.run(samples(1), layers=1), 1, 1)
    monkeypatch.setitem(CHIPS, "stm32h7.c", partial(without, outside={}))
    with pytest.raises(ToolError, match=r"firmware.elf in Unicorn faulted at PC 0x0800\w{4}, called from 0x08"):
        found.run(samples(1))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("*(volatile int *)0x60000000 = 1;", r"faulted at PC 0x0800\w{4}, called from 0x0800\w{4}: .*UNMAPPED"),
        ("for (;;) { }", r"was stopped after [\d.]+ s at PC 0x0800\w{4}"),
    ],
)
def test_what_goes_wrong_says_where(code: str, message: str, tmp_path: Path) -> None:
    library = variant(tmp_path, "    for (int o = 0;", f"    {code}\n    for (int o = 0;")
    board = load_board("stm32h7")
    with pytest.raises(ToolError, match=f"^firmware.elf in Unicorn {message}"):
        opened(built(library, board, tmp_path), board, timeout=1.5).run(samples(1))


def test_foreign_images_are_run_where_they_can_be_locked_in(
    image: FirmwareImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened(image, load_board("stm32h7"), foreign=True)
    monkeypatch.setattr(confine, "landlock_version", lambda: 0)
    with pytest.raises(ToolError, match=r"firmware.elf is not run: on this machine nothing keeps an emulator"):
        found.run(samples(1))


def test_boards_that_it_does_not_run() -> None:
    pico = load_board("pico")
    with pytest.raises(
        ToolError, match=r"^Unicorn runs cortex-m3, cortex-m4, cortex-m7, cortex-m33, not cortex-m0plus"
    ):
        device_for(load_target(pico.core), "unicorn", board=pico)
    strange = load_board("stm32h7").model_copy(update={"support": None})
    device = device_for(load_target("cortex-m7"), "unicorn", board=strange)
    assert isinstance(device, UnicornDevice)
    with pytest.raises(ToolError, match=r"^Unicorn runs boards whose support file is one of nrf5.c, .*, not stm32h7$"):
        _ = device.chip


@pytest.mark.parametrize(("name", "chosen"), [("stm32h7", "UnicornDevice"), ("pico", "QemuDevice")])
def test_without_qemu_it_is_taken_where_the_board_names_it(
    name: str, chosen: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    board = load_board(name)
    assert type(device_for(load_target(board.core), board=board)).__name__ == "QemuDevice"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert type(device_for(load_target(board.core), board=board)).__name__ == chosen
