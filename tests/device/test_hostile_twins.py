"""Twin images that attack the machine that simulates them: nothing on it is read, written, removed or run.

One image holds all attacks; a sample's first byte chooses. Attacks on files, and a command, are first shown to
work where nothing confines the simulator, so that these tests can fail.
"""

import os
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tapc.base import confine
from tapc.base.errors import DataError, ToolError
from tapc.device import qemu, trust
from tapc.device.qemu import QemuDevice
from tapc.firmware import build_firmware
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target

SAMPLE = Path(__file__).parents[1] / "firmware" / "sample_library"
BOARD = "nrf52840dk"

needs_landlock = pytest.mark.skipif(not confine.landlock_version(), reason="this kernel has no Landlock")

ATTACKS = r"""
#include <stdint.h>
#include <string.h>
static unsigned call(unsigned operation, const void *argument)
{
    register unsigned r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
static int8_t evidence[4]; /* whether it worked, and what it read */
static int opened(const char *name, unsigned mode)
{
    const unsigned block[] = {(unsigned)name, mode, strlen(name)};
    return (int)call(0x01, block);
}
static void reads(const char *name)
{
    const int file = opened(name, 1);
    const unsigned block[] = {(unsigned)file, (unsigned)(evidence + 1), 3};
    evidence[0] = file != -1 && call(0x06, block) == 0;
}
static void writes(const char *name, unsigned mode)
{
    const int file = opened(name, mode);
    const unsigned block[] = {(unsigned)file, (unsigned)"owned", 5};
    evidence[0] = file != -1 && call(0x05, block) == 0;
}
static void run(const char *command)
{
    const unsigned block[] = {(unsigned)command, strlen(command)};
    evidence[0] = call(0x12, block) == 0;
}
static void attack(int which)
{
    static char lots[65536];
    memset(evidence, 0, sizeof evidence);
    switch (which) {
    case 1: reads("@/secret"); break;
    case 2: reads("../../../../../../../../..@/secret"); break;
    case 3: reads("/proc/self/status"); break;
    case 4: writes("@/new", 5); break;
    case 5: writes("@/victim", 9); break;
    case 6: writes("more.bin", 5); break;
    case 7: { const unsigned b[] = {(unsigned)"@/removed", strlen("@/removed")};
              evidence[0] = call(0x0E, b) == 0; break; }
    case 8: { const unsigned b[] = {(unsigned)"@/old", strlen("@/old"), (unsigned)"@/name", strlen("@/name")};
              evidence[0] = call(0x0F, b) == 0; break; }
    case 9: { const unsigned b[] = {(unsigned)"input.bin", 9}; evidence[0] = call(0x0E, b) == 0; break; }
    case 10: reads("@/link"); break;
    case 20: run("touch @/ran"); break;
    case 21: run(":() { : | : & }; :; touch @/ran"); break;
    case 22: { const int file = opened("layers.bin", 9);
               const unsigned b[] = {(unsigned)file, (unsigned)lots, sizeof lots};
               for (;;) call(0x05, b); }
    case 23: memset(lots, 'x', sizeof lots - 1); for (;;) call(0x04, lots);
    case 24: for (;;) { }
    }
}
"""


@dataclass(frozen=True)
class Host:
    """A twin with attacks, and the folder that they aim at."""

    twin: Path
    folder: Path

    def attack(self, *which: int, confined: bool = True, timeout: float = 20) -> list[tuple[bool, bytes]]:
        """Return for each attack whether the simulator let it happen, and three bytes that it read."""
        for name in ("secret", "victim", "removed", "old"):
            (self.folder / name).write_text("top secret")
        for name in ("new", "ran", "name"):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "link").unlink(missing_ok=True)
        (self.folder / "link").symlink_to("secret")
        x = np.zeros((len(which), 16), np.int8)
        x[:, 0] = which
        run = QemuDevice(load_target(load_board(BOARD).core), timeout, confined).load_twin(self.twin).run(x)
        return [(bool(row[0]), row[1:].tobytes()) for row in run.outputs]

    def state(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.iterdir()}


UNTOUCHED = dict.fromkeys(("secret", "victim", "removed", "old", "link"), "top secret")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    folder, work = tmp_path_factory.mktemp("aim"), tmp_path_factory.mktemp("hostile")
    shutil.copytree(SAMPLE, work / "library")
    source = work / "library" / "sample_kernels.c"
    first, rest = source.read_text().split("{\n    for", 1)
    assert "sample_k_scale" in first
    assert rest.rstrip().endswith("}")
    body = f"{first}{{\n    attack(x[0]);\n    for{rest.rstrip()[:-1]}    memcpy(y, evidence, sizeof evidence);\n}}\n"
    source.write_text(ATTACKS.replace("@", str(folder)) + body)
    board = load_board(BOARD)
    built = build_firmware(work / "library", board, load_target(board.core), work / "out", work=work / "work")
    return Host(built.twin, folder)


@pytest.fixture
def unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the simulator as any program would."""
    monkeypatch.setattr(qemu, "locked", lambda command, **kept: command)
    monkeypatch.setattr(qemu, "SANDBOX", "off")


FILES = range(1, 11)


@pytest.mark.usefixtures("unconfined")
def test_without_confinement_every_file_is_open(host: Host) -> None:
    found = host.attack(*FILES, confined=False)
    assert all(happened for happened, _ in found)
    assert [read for _, read in found][:2] == [b"top"] * 2
    after = host.state()
    assert after["new"] == "owned"
    assert after["victim"] == "ownedecret"
    assert "removed" not in after
    assert "old" not in after


@needs_landlock
def test_no_file_is_read_written_removed_or_renamed(host: Host) -> None:
    assert host.attack(*FILES) == [(False, bytes(3))] * len(FILES)
    assert host.state() == UNTOUCHED


@pytest.mark.usefixtures("unconfined")
def test_without_confinement_a_command_runs(host: Host) -> None:
    assert host.attack(20, confined=False) == [(True, bytes(3))]
    assert "ran" in host.state()


@pytest.mark.parametrize("attack", [20, 21])
def test_no_command_runs(attack: int, host: Host) -> None:
    """QEMU 7.2 is stopped by the kernel; QEMU 10, which starts processes otherwise, is refused the call."""
    try:
        assert host.attack(attack) == [(False, bytes(3))]
    except ToolError as error:
        assert "asked this machine for something that no twin of tapc needs" in str(error)  # noqa: PT017 - one of two
    assert host.state() == UNTOUCHED


@needs_landlock
def test_no_command_runs_where_only_landlock_holds(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "SANDBOX", "off")
    assert host.attack(20) == [(False, bytes(3))]
    assert host.state() == UNTOUCHED


@pytest.mark.parametrize("attack", [22, 23])
def test_the_disk_is_not_filled(attack: int, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "_MOST_WRITTEN", 1 << 20)
    with pytest.raises(ToolError, match="wrote more than its results"):
        host.attack(attack)


def test_an_endless_loop_is_stopped_and_nothing_stays(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    begin = qemu.start

    def watched(*given: object, **more: object) -> subprocess.Popen[bytes]:
        started.append(begin(*given, **more))  # type: ignore[arg-type]
        return started[0]

    monkeypatch.setattr(qemu, "start", watched)
    with pytest.raises(ToolError, match="stopped after 1 s"):
        host.attack(24, timeout=1)
    assert started[0].returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.killpg(started[0].pid, 0)


def test_the_environment_and_the_network_are_not_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    begin = qemu.start

    def watched(command: list[str], **given: object) -> subprocess.Popen[bytes]:
        seen.update(given, command=command)
        return begin(command, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(qemu, "start", watched)
    monkeypatch.setenv("A_SECRET", "x")
    host.attack(0)
    assert seen["environment"] == {}
    assert '"-nic", "none"' in str(seen["command"])


def test_without_landlock_foreign_images_are_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "landlock_version", lambda: 0)
    with pytest.raises(ToolError, match=r"Linux 5\.13 or newer with Landlock"):
        host.attack(1)
    assert host.attack(0, confined=False)
    monkeypatch.setenv(trust.TRUST, "1")
    assert host.attack(0)


def test_a_twin_that_is_no_file(tmp_path: Path, host: Host) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    target = load_target(load_board(BOARD).core)
    for name, text in (("fifo", "no regular file"), ("folder", "no regular file"), ("missing", "cannot be read")):
        with pytest.raises(DataError, match=text):
            QemuDevice(target).load_twin(tmp_path / name)


def test_damaged_images(tmp_path: Path, host: Host) -> None:
    """Whatever is wrong with an image: a DataError, and no run."""
    whole = host.twin.read_bytes()
    target = load_target(load_board(BOARD).core)
    rng = np.random.default_rng(1)
    other = whole[:18] + struct.pack("<H", 62) + whole[20:]  # e_machine: x86-64
    big = whole[:5] + b"\2" + whole[6:]
    images = [b"", b"\x7fELF", Path(sys.executable).resolve().read_bytes(), other, big, whole[: len(whole) // 2]]
    for _ in range(100):
        damaged = bytearray(whole)
        for at in rng.integers(0, 64, 3):
            damaged[at] = rng.integers(256)
        images.append(bytes(damaged[: rng.integers(1, len(whole))]))
    for image in images:
        (tmp_path / "twin.elf").write_bytes(image)
        with pytest.raises(DataError, match="twin"):
            QemuDevice(target).load_twin(tmp_path / "twin.elf").run(np.zeros((1, 1), np.int8))


def test_signals_are_named() -> None:
    assert "processor time" in qemu._ending(-signal.SIGXCPU)
    assert "exit code 7" in qemu._ending(7)
