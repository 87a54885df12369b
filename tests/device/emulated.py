"""A board on a desk, played by QEMU: a serial port that stays, firmware that a (played) OpenOCD flashes."""

import contextlib
import os
import pty
import shutil
import stat
import subprocess
import threading
import tty
from pathlib import Path

PROBE = '\n[probe]\nkind = "played"\nopenocd = "interface/cmsis-dap.cfg"\n'
OPENOCD = """#!/bin/sh
for word; do case "$word" in program*) image=$(echo "$word" | sed 's/^program "\\(.*\\)" verify.*/\\1/');; esac; done
cp "$image" "{folder}/flashing" && mv "{folder}/flashing" "{folder}/flashed"
i=0; while [ -e "{folder}/flashed" ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
"""


class EmulatedBoard:
    """The board: `port` is its serial port, `flash` runs other firmware, `unplug` ends it.

    Parameters
    ----------
    machine : str
        QEMU's name of it.
    folder : Path
        For its files, and for an `openocd` that flashes it.
    """

    def __init__(self, machine: str, folder: Path) -> None:
        self._machine, self._folder = machine, folder
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self.flashed = 0
        self.lifetime: int | None = None  # bytes that it takes before it is unplugged
        script = folder / "openocd"
        script.write_text(OPENOCD.format(folder=folder))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._to_board, self._watch)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "EmulatedBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.unplug()

    def flash(self, elf: Path) -> None:
        """Run an image from its reset on."""
        self.unplug()
        image = self._folder / "running.elf"
        shutil.copy(elf, image)
        self._process = subprocess.Popen(
            ["qemu-system-arm", "-M", self._machine, "-nodefaults", "-display", "none", "-monitor", "none",
             "-serial", "stdio", "-kernel", str(image)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        threading.Thread(target=self._from_board, args=(self._process,), daemon=True).start()
        self.flashed += 1

    def unplug(self) -> None:
        """End what runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _from_board(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 4096):
            os.write(self._master, data)

    def _to_board(self) -> None:
        while not self._over.is_set():
            data = os.read(self._master, 4096)
            if self.lifetime is not None:
                self.lifetime -= len(data)
                if self.lifetime < 0:
                    self.unplug()
            process = self._process
            if process is not None and process.stdin is not None:
                with contextlib.suppress(OSError):  # it was unplugged
                    os.write(process.stdin.fileno(), data)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            image = self._folder / "flashed"
            if image.exists():
                self.flash(image)
                image.unlink()
