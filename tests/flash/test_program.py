"""Tools that are called, with what they are told, and what their failures are said to mean."""

import os
import stat
from pathlib import Path

import pytest

from tapc.base.errors import OutputError, ToolError
from tapc.flash.plan import Call, Copy
from tapc.flash.program import drive, program
from tapc.flash.uf2 import uf2


def tool(folder: Path, name: str, says: str, code: int) -> None:
    """Put a program on PATH that writes down its arguments, says something and leaves."""
    script = folder / name
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/arguments"\ncat "{folder}/says" >&2\nexit {code}\n')
    (folder / "says").write_text(says)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_arguments_arrive_as_they_are(path: Path) -> None:
    tool(path, "openocd", "verified", 0)
    assert program(Call("openocd", ("openocd", "-c", 'program "a b" verify'))) == "flashed with openocd"
    assert (path / "arguments").read_text().splitlines() == ["-c", 'program "a b" verify']


@pytest.mark.parametrize(
    ("name", "says", "means"),
    [
        ("openocd", "Error: unable to find a matching CMSIS-DAP device", "no probe was found"),
        ("openocd", "Error: open failed", "no probe was found"),
        ("openocd", "Error: No J-Link device found", "no probe was found"),
        ("pyocd", "No connected debug probes", "no probe was found"),
        ("st-flash", "Couldn't find any ST-Link devices", "no probe was found"),
        ("openocd", "Error: libusb_open() failed with LIBUSB_ERROR_ACCESS", "udev rules"),
        ("openocd", "Error: libusb_open() failed with LIBUSB_ERROR_ACCESS\nError: open failed", "udev rules"),
        ("openocd", "Warn : UNEXPECTED idcode: 0x1\nError: expected 1 of 1: 0x2, got 0x1", "another chip"),
        ("st-flash", "2026 WARN common.c: unknown chip id! 0xe0042000", "another chip"),
        ("openocd", "Error: Could not find MEM-AP to control the core\nAPPROTECT enabled", "the chip is locked"),
        ("pyocd", "Device is locked. APPROTECT enabled", "the chip is locked"),
        ("openocd", "Error: checksum mismatch - attempting binary compare", "does not hold what was written"),
        ("openocd", "something else", "it says"),
    ],
)  # fmt: skip
def test_failures_say_what_to_do(name: str, says: str, means: str, path: Path) -> None:
    tool(path, name, says, 1)
    with pytest.raises(ToolError, match=f"{name} failed \\(1\\): .*{means}") as caught:
        program(Call(name, (name,)))
    assert says.splitlines()[-1] in str(caught.value)


def test_st_flash_that_leaves_with_0_and_an_error_failed(path: Path) -> None:
    tool(path, "st-flash", "2026-01-01T00:00:00 ERROR common.c: Flash memory is write protected", 0)
    with pytest.raises(ToolError, match="locked"):
        program(Call("st-flash", ("st-flash",)))


def test_a_missing_tool_says_how_to_get_it() -> None:
    with pytest.raises(ToolError, match="pyocd is not installed; install it with: pip install pyocd"):
        program(Call("pyocd", ("/nowhere/pyocd",)))


def test_files_are_copied_to_the_drive(tmp_path: Path) -> None:
    source, volume = tmp_path / "firmware.bin", tmp_path / "RPI-RP2"
    source.write_bytes(bytes(range(200)) * 3)
    step = Copy("uf2", source, "firmware.uf2", "RPI-RP2", 0x10000000, 7)
    with pytest.raises(ToolError, match="is no folder"):
        program(step, volume)
    volume.mkdir()
    program(step, volume)
    expected = uf2(source.read_bytes(), 0x10000000, 7)
    assert (volume / "firmware.uf2").read_bytes() == (tmp_path / "firmware.uf2").read_bytes() == expected
    program(Copy("drive", source, "firmware.bin", "X"), volume)
    assert (volume / "firmware.bin").read_bytes() == source.read_bytes()
    (volume / "firmware.bin").unlink()
    (volume / "firmware.bin").mkdir()
    with pytest.raises(OutputError, match="cannot be copied"):
        program(Copy("drive", source, "firmware.bin", "X"), volume)


def test_drives_are_found_by_their_labels(tmp_path: Path) -> None:
    assert drive("RPI-RP2", [tmp_path / "x", tmp_path / "RPI-RP2"]) == tmp_path / "RPI-RP2"
    assert drive("RPI-RP2", [tmp_path]) is None
    with pytest.raises(ToolError, match="no drive NOT-THERE is mounted: plug the board in"):
        program(Copy("drive", tmp_path / "a", "a", "NOT-THERE"))
