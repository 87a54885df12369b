"""What is flashed, read from an ELF: as GNU objcopy reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tapc.firmware import build_firmware
from tapc.firmware.images import flashed, flat, intel_hex
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target

SAMPLE = Path(__file__).parent / "sample_library"
needs_gcc = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")


@needs_gcc
@pytest.mark.parametrize("name", ["stm32h7", "pico"])
def test_as_objcopy(name: str, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(SAMPLE, library)
    kernels = library / "sample_kernels.c"
    # A variable with a value: its load address is in flash, its own in RAM.
    text = kernels.read_text().replace(
        "const int v = x[i] + 3;", "static int three = 3; const int v = x[i] + three++ - i;"
    )
    kernels.write_text(text)
    board = load_board(name)
    images = build_firmware(library, board, load_target(board.core), tmp_path, work=tmp_path / "work")
    assert flat(flashed(images.elf)) == images.bin.read_bytes()
    only = [".data"]
    assert flat(flashed(images.elf, only=only)) == (3).to_bytes(4, "little")
    assert len(flat(flashed(images.elf, without=[".harness"]))) < images.bin.stat().st_size
    (tmp_path / "own.hex").write_text(intel_hex(flashed(images.elf), 0x08000041), newline="")
    command = ["arm-none-eabi-objcopy", "-I", "ihex", "-O", "binary", "own.hex", "back.bin"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "back.bin").read_bytes() == images.bin.read_bytes()


def test_records_of_intel_hex() -> None:
    # a record ends at a boundary of 64 KiB; the last byte makes the sum zero
    lines = intel_hex([(0x0800FFF8, bytes(range(16)))], 0x08000101).split("\r\n")
    assert lines == [
        ":020000040800F2",
        ":08FFF8000001020304050607E5",
        ":020000040801F1",
        ":0800000008090A0B0C0D0E0F9C",
        ":0400000508000101ED",
        ":00000001FF",
        "",
    ]
