"""The bytes that are flashed to a Pico in rp2040js: boot loader, PLL, UART; and what is missing or wrong."""

import stat
from pathlib import Path

import pytest

from device.test_qemu import SAMPLE, expected, samples, variant
from tapc.base import confine
from tapc.base.errors import ToolError
from tapc.device import device_for
from tapc.device.dialog import Dialog
from tapc.device.rp2040js import Rp2040Device
from tapc.device.speaking import SpeakingImage
from tapc.firmware import FirmwareImages, build_firmware
from tapc.hardware.board import Clocks, load_board
from tapc.hardware.target import load_target

needs_it = pytest.mark.skipif(Rp2040Device.missing() is not None, reason=str(Rp2040Device.missing()))


def built(library: Path, folder: Path, cpu_hz: int = 125_000_000) -> FirmwareImages:
    board = load_board("pico").model_copy(update={"clocks": Clocks(cpu_hz=cpu_hz)})
    return build_firmware(library, board, load_target(board.core), folder / "out", work=folder / "work")


def opened(images: FirmwareImages, *, foreign: bool = False) -> SpeakingImage:
    board = load_board("pico")
    device = device_for(load_target(board.core), "rp2040js", timeout=30.0, board=board, foreign=foreign)
    assert isinstance(device, Rp2040Device)
    return device.load(images)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> FirmwareImages:
    return built(SAMPLE, tmp_path_factory.mktemp("pico"))


@needs_it
def test_outputs(image: FirmwareImages) -> None:
    x = samples(3)
    run = opened(image, foreign=True).run(x, layers=1)
    assert run.outputs.tolist() == [expected(sample)[2] for sample in x]
    assert (len(run.layer_crcs), run.instructions, run.timing, run.device) == (3, None, None, "rp2040js")


@needs_it
def test_the_clock_is_125_mhz(image: FirmwareImages) -> None:
    found = opened(image)
    with found.device.line(found) as channel:
        dialog = Dialog(channel)
        dialog.connect()
        info = dialog.info()
    assert (info.board, info.hz, info.rated_hz, info.counter) == ("pico", 125_000_000, 125_000_000, "systick")


@needs_it
@pytest.mark.parametrize(
    ("hertz", "message"),
    [
        (100_000_000, r"by its registers the UART runs at 14[34]\d\d\d baud"),
        (124_000_000, r"the firmware says 124000000 Hz, its clock's registers 125000000 Hz"),
    ],
)
def test_a_clock_that_the_registers_do_not_give_is_told(hertz: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=message):
        opened(built(SAMPLE, tmp_path, hertz)).run(samples(1))


@needs_it
def test_a_fault_says_where(tmp_path: Path) -> None:
    library = variant(tmp_path, "    for (int o = 0;", "    *(volatile int *)0x60000000 = 1;\n    for (int o = 0;")
    with pytest.raises(
        ToolError, match=r"the firmware faulted: Write to undefined address: 60000000 at PC 0x1000\w{4}"
    ):
        opened(built(library, tmp_path)).run(samples(1))


@needs_it
def test_foreign_images_are_run_where_they_can_be_locked_in(
    image: FirmwareImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened(image, foreign=True)
    monkeypatch.setattr(confine, "landlock_version", lambda: 0)
    with pytest.raises(ToolError, match=r"firmware.elf is not run: on this machine nothing keeps an emulator"):
        found.run(samples(1))


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("cortex-m0plus")
    assert Rp2040Device.obstacle(load_target("cortex-m4")) == "rp2040js runs cortex-m0plus, not cortex-m4"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NODE_PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"needs Node.js 18 or newer; .*npm install -g rp2040js$"):
        device_for(target, "rp2040js")
    (tmp_path / "node").write_text("#!/bin/sh\n")
    (tmp_path / "node").chmod(stat.S_IRWXU)
    with pytest.raises(ToolError, match=r"^rp2040js is not installed; install it with: npm install -g rp2040js$"):
        device_for(target, "rp2040js")
    (tmp_path / "rp2040js").mkdir()
    (tmp_path / "rp2040js" / "package.json").write_text("{}")
    monkeypatch.setenv("NODE_PATH", f"{tmp_path}/nothing:{tmp_path}")
    assert isinstance(device_for(target, "rp2040js"), Rp2040Device)
