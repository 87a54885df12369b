"""Flashed images in machines of QEMU that play their boards: boot, clock, commands, hostile lines."""

import random
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from device.lines import SAMPLE, sample_images
from device.test_qemu import expected, samples
from tapc.base.errors import DataError, ToolError
from tapc.device import device_for
from tapc.device.channel import Channel
from tapc.device.dialog import Dialog
from tapc.device.qemu import emulator
from tapc.device.speaking import SpeakingDevice, SpeakingImage
from tapc.firmware.speaking import library_digest
from tapc.hardware.board import board_names, load_board
from tapc.hardware.target import load_target
from tapc.lower.names import names_in

# The machine, whether it lets the firmware raise its clock (QEMU models none of the F1's and F405's), and its counter.
MACHINES = {
    "mps3-an547": ("mps3-an547", True, "systick"),
    "microbit": ("microbit", True, "systick"),
    "netduinoplus2": ("netduinoplus2", False, "systick"),
    "b-l475e-iot01a": ("b-l475e-iot01a", True, "systick"),
    "hifive1": ("sifive_e,revb=on", True, "mcycle"),
    "stm32vldiscovery": ("stm32vldiscovery", False, "systick"),
}
X = bytes(range(16))


@cache
def machines(program: str) -> str:
    return subprocess.run([program, "-M", "help"], capture_output=True, text=True, check=True).stdout


def opened(name: str, folder: Path) -> tuple[SpeakingDevice, SpeakingImage]:
    machine = MACHINES[name][0]
    board = load_board(name)
    target = load_target(board.core)
    if not re.search(rf"^{machine.partition(',')[0]} ", machines(emulator(target).program), re.MULTILINE):
        pytest.skip(f"this QEMU has no {machine}")
    device = device_for(target, f"qemu:{machine}", board=board, timeout=60)
    assert isinstance(device, SpeakingDevice)
    return device, device.load(sample_images(name, folder))


@pytest.mark.parametrize("name", MACHINES)
def test_the_flashed_image(name: str, tmp_path: Path) -> None:
    device, image = opened(name, tmp_path)
    x = samples(3)
    run = image.run(x, layers=1)
    assert [row.tolist() for row in run.outputs] == [expected(row)[2] for row in x]
    sums = [zlib.crc32(np.array(layer, np.int8).tobytes()) for layer in expected(x[0])]
    assert list(run.layer_crcs) == sums
    assert (run.device, run.timing, run.instructions) == (f"qemu:{MACHINES[name][0]}", None, None)
    assert 0 < run.stack_high_water < 1024
    with device.line(image) as line:
        dialog = Dialog(line)
        dialog.connect()
        info = dialog.info()
        assert (info.hz == info.rated_hz) == MACHINES[name][1]
        assert info.digest == library_digest(SAMPLE, names_in(SAMPLE))
        assert (info.counter, info.model) == (MACHINES[name][2], "sample")
        assert dialog.checksums()["image"] == zlib.crc32((tmp_path / "out/firmware.bin").read_bytes())


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Channel]:
    device, image = opened("microbit", tmp_path_factory.mktemp("microbit"))
    with device.line(image) as channel:
        yield channel


@pytest.fixture
def dialog(line: Channel) -> Dialog:
    found = Dialog(line)
    found.connect()
    return found


def test_what_the_benchmarks_runner_asks(dialog: Dialog) -> None:
    """Its sequence, and its regular expressions: mlcommons/tiny, benchmark/runner/device_under_test.py, script.py."""
    (name,) = dialog.ask("name")
    found = re.match(r"^m-(name)-dut-\[([^]]+)]$", name)
    assert found is not None
    assert found[2] == "tapc microbit"
    profile = [re.match(r"^m-(model|profile)-\[([^]]+)]$", text) for text in dialog.ask("profile")]
    named = {match[1]: match[2] for match in profile if match}
    assert named == {"profile": "ULPMark for tinyML Firmware V0.0.1", "model": "sample"}
    assert re.match(r"^m-lap-us-([0-9]+)$", dialog.ask("timestamp")[0])
    dialog.ask(f"db load {len(X)}")
    assert dialog.ask(f"db {X.hex()}") == ["m-load-done", f"m-tapc-crc-input-[{zlib.crc32(X):08x}]"]
    times, results = [], []
    for text in dialog.ask("infer 2 1"):
        if match := re.match(r"^m-results-\[([^]]+)\]$", text):
            results.append([float(value) for value in match[1].split(",") if value.strip()])
        if match := re.match(r"^m-lap-us-([0-9]+)$", text):
            times.append(int(match[1]))
    y = expected(np.frombuffer(X, np.int8))[2]
    assert results == [[0.25 * (code + 3) for code in y]]  # scale and zero point of sample.h
    assert len(times) == 2
    assert times[0] <= times[1]
    assert dialog.ask("results") == [f"m-results-[{','.join(f'{value:.3f}' for value in results[0])}]"]
    assert dialog.ask("db print") == ["m-buffer-00-01-02-03-04-05-06-07", "m-buffer-08-09-0a-0b-0c-0d-0e-0f"]


@pytest.mark.parametrize(
    "command",
    ["", "nonsense", "tapc", "tapc nonsense", "db", "db 0", "db 0g", "db load", "db load 17", "db load -1", "infer 0",
     "infer x", "infer 99999999999999999999", "tapc run", "db " + "00" * 31, "x" * 81, "x" * 5000],
)  # fmt: skip
def test_what_is_refused(dialog: Dialog, command: str) -> None:
    dialog.ask("db load 16")
    with pytest.raises(ToolError, match="the board refused"):
        dialog.ask(command)
    dialog.load(X)
    assert list(dialog.infer().output) == [code & 255 for code in expected(np.frombuffer(X, np.int8))[2]]


def test_hostile_lines(line: Channel) -> None:
    """A thousand random, cut and interleaved commands: the firmware answers as before after all of them."""
    chance = random.Random(20)
    words = ["name", "profile", "db load 16", f"db {X.hex()}", "db print", "infer 1 0", "tapc run 2", "tapc layers",
             "tapc crc", "tapc info", "results", "timestamp", "db load 4294967295", "infer 1 4294967295"]  # fmt: skip
    for number in range(1000):
        command = chance.choice(words).encode()
        kind = chance.randrange(4)
        if kind == 0:
            command = command[: chance.randrange(len(command))]
        elif kind == 1:
            other = chance.choice(words).encode()
            command = b"".join(bytes(pair) for pair in zip(command, other, strict=False))
        elif kind == 2:
            command = chance.randbytes(chance.randrange(1, 120)).replace(b"%", b"")
        line.write(command + b"%" * chance.randrange(1, 3))
        if number % 10 == 9:
            Dialog(line).connect(20)
    dialog = Dialog(line)
    dialog.connect()
    dialog.load(X)
    assert list(dialog.infer().output) == [code & 255 for code in expected(np.frombuffer(X, np.int8))[2]]


def test_what_does_not_speak(tmp_path: Path) -> None:
    board = load_board("mps3-an547")
    device = device_for(load_target(board.core), "qemu:mps3-an547", board=board)
    images = sample_images("mps3-an547", tmp_path)
    shutil.copy(images.twin, images.elf)
    with pytest.raises(DataError, match=r"firmware\.elf does not speak: its board's file has no \[support\]"):
        device.load(images)
    images.elf.write_bytes(b"no ELF")
    with pytest.raises(DataError, match="is no firmware made by tapc"):
        device.load(images)


def test_a_machine_that_qemu_lacks(tmp_path: Path) -> None:
    board = load_board("mps3-an547")
    device = device_for(load_target(board.core), "qemu:nonsense", board=board)
    with pytest.raises(ToolError, match=r"QEMU's nonsense ended while it was spoken to: .*nsupported machine"):
        device.load(sample_images("mps3-an547", tmp_path)).run(samples(1))


@pytest.mark.parametrize("name", [name for name in board_names() if load_board(name).support is not None])
def test_what_speaks_fits_four_kibibytes(name: str, tmp_path: Path) -> None:
    images = sample_images(name, tmp_path)
    assert images.speaks
    assert images.memory.support <= 4096
    assert images.memory.support_ram <= 160 + 16
    assert images.memory.flash + images.memory.support <= images.bin.stat().st_size
