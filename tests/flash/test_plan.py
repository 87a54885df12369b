"""What flashes each board, as the tools themselves read it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from device.lines import sample_images
from tapc.base.errors import DataError, UsageError
from tapc.flash.plan import Call, Copy, openocd_arguments, plan, probe_of
from tapc.hardware.board import board_names, load_board

BOARDS = [name for name in board_names() if load_board(name).probe is not None]


@pytest.mark.skipif(shutil.which("openocd") is None, reason="openocd is not installed")
@pytest.mark.parametrize("name", [name for name in BOARDS if "openocd" in probe_of(load_board(name)).tools])
def test_openocd_knows_what_it_is_told(name: str) -> None:
    """All of the board's scripts are read; no probe is opened."""
    arguments = openocd_arguments(probe_of(load_board(name)), 'A 1"$x[y]')
    done = subprocess.run(
        ["openocd", *arguments, "-c", "noinit", "-c", "shutdown"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("openocd") is None, reason="openocd is not installed")
def test_paths_of_any_kind_reach_openocd(tmp_path: Path) -> None:
    folder = tmp_path / 'a b$c[d]"{e};'
    step = plan(load_board("pico"), folder, "openocd")
    assert isinstance(step, Call)
    shown = step.command[-1].replace("program ", "echo ", 1).replace(" verify reset exit", "")
    done = subprocess.run(["openocd", "-c", shown, "-c", "shutdown"], capture_output=True, text=True, check=False)
    assert str(folder / "firmware.elf") in done.stderr.splitlines()


@pytest.mark.skipif(shutil.which("esptool") is None, reason="esptool is not installed: pip install esptool")
def test_esptool_knows_what_it_is_told(tmp_path: Path) -> None:
    """Its options and commands, and the image that is flashed at 0, byte for byte; no port is opened."""
    image = sample_images("esp32-c3", tmp_path).bin
    step = plan(load_board("esp32-c3"), image.parent, "esptool", serial="12")
    assert isinstance(step, Call)
    merged = tmp_path / "merged.bin"
    for command in ([*step.command, "--help"], [*step.command[:3], "merge-bin", "-o", str(merged), "0x0", str(image)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert merged.read_bytes() == image.read_bytes()


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_all_of_its_plans(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    for tool in probe_of(board).tools:
        step = plan(board, tmp_path, tool)
        assert step.tool == tool
        assert isinstance(step, Copy) == (tool in ("uf2", "drive"))
        assert "firmware." in str(step)


def test_commands(tmp_path: Path) -> None:
    board = load_board("stm32h7")
    assert str(plan(board, tmp_path, "st-flash", serial="12")) == (
        f"st-flash --reset --serial 12 write {tmp_path}/firmware.bin 0x08000000"
    )
    assert str(plan(load_board("esp32-c3"), tmp_path, "esptool", serial="12")) == (
        f"esptool --chip esp32c3 --port-filter serial=12 write-flash 0x0 {tmp_path}/firmware.bin"
    )
    assert str(plan(load_board("pico"), tmp_path, "pyocd")) == f"pyocd flash --target rp2040 {tmp_path}/firmware.hex"
    first = plan(board, tmp_path, "openocd", external=("qspi_flash",), serial="12")
    assert isinstance(first, Call)
    assert first.command == (
        "openocd", "-f", "board/stm32h747i-disco.cfg", "-c", 'adapter serial "12"',
        "-c", f'program "{tmp_path}/firmware.elf" verify reset exit',
    )  # fmt: skip


def test_what_cannot_be_flashed_so_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"st-flash cannot write qspi_flash.*use --tool openocd, or compile with"):
        plan(load_board("stm32h7"), tmp_path, "st-flash", external=("qspi_flash",))
    with pytest.raises(UsageError, match=r"openocd cannot write qspi_flash.*lie: compile with --no-external"):
        plan(load_board("nrf52840dk"), tmp_path, "openocd", external=("qspi_flash",))
    with pytest.raises(UsageError, match="pico is not flashed with st-flash; its file names: openocd, pyocd, uf2"):
        plan(load_board("pico"), tmp_path, "st-flash")
    with pytest.raises(UsageError, match="uf2 has no probe"):
        plan(load_board("pico"), tmp_path, "uf2", serial="1")
    with pytest.raises(UsageError, match=r"no \[probe\] table"):
        plan(load_board("pico").model_copy(update={"probe": None}), tmp_path, "openocd")


def test_a_board_file_may_give_openocd_one_file_or_several(tmp_path: Path) -> None:
    text = Path(shutil.copy(Path(__file__).parents[2] / "boards" / "pico.toml", tmp_path)).read_text()
    start = text.index("openocd =")
    line = text[start : text.index("\n", start)]
    one = tmp_path / "one.toml"
    one.write_text(text.replace(line, 'openocd = "board/mine.cfg"').replace('name = "pico"', 'name = "one"'))
    assert openocd_arguments(probe_of(load_board(str(one)))) == ("-f", "board/mine.cfg")
    for wrong in ('["a\\nb"]', "7"):
        one.write_text(text.replace(line, f"openocd = {wrong}"))
        with pytest.raises(DataError, match="openocd"):
            load_board(str(one))
