"""rp2040js (npm): runs the bytes that are flashed to an RP2040, boot loader and PLL included."""

import functools
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tapc.base.errors import ToolError
from tapc.base.files import read_regular, scratch_folder
from tapc.base.tool import locked, run
from tapc.device.channel import Channel, program
from tapc.device.choose import register
from tapc.device.qemu import MOST_BYTES
from tapc.device.speaking import SpeakingDevice, SpeakingImage
from tapc.device.trust import must_confine
from tapc.hardware.target import Target

INSTALL = "npm install -g rp2040js"
_SCRIPT = Path(__file__).with_name("rp2040.cjs")
_PACKAGE, _CORE, _BOOT = "rp2040js", "cortex-m0plus", "rp2040"
_IMAGE = "firmware.bin"
_NPM_SECONDS, _START_SECONDS = 60.0, 20.0
_NODE_READS = (Path("/etc/ssl/openssl.cnf"),)


@functools.cache
def _package(paths: str) -> Path | None:
    """Return the package's folder: in NODE_PATH, where `npm install -g` puts it, or None."""
    roots = [Path(path) for path in paths.split(os.pathsep) if path]
    if (npm := shutil.which("npm")) is not None:
        asked = run([npm, "root", "-g"], timeout=_NPM_SECONDS)
        roots += [Path(line) for line in asked.stdout.splitlines()[-1:]]
    return next((root / _PACKAGE for root in roots if (root / _PACKAGE / "package.json").is_file()), None)


@register("rp2040js")
@dataclass(frozen=True)
class Rp2040Device(SpeakingDevice):
    """Emulates an RP2040 in JavaScript, locked in; its cycles are a model's, and none are reported."""

    @staticmethod
    def obstacle(target: Target) -> str | None:
        """Say which core there is, and what installs the rest."""
        return Rp2040Device.missing() if target.name == _CORE else f"rp2040js runs {_CORE}, not {target.name}"

    @staticmethod
    def missing() -> str | None:
        """Look for Node.js and the package."""
        if shutil.which("node") is None:
            return f"rp2040js needs Node.js 18 or newer; install it with: apt-get install nodejs npm, then {INSTALL}"
        found = _package(os.environ.get("NODE_PATH", "")) is not None
        return None if found else f"rp2040js is not installed; install it with: {INSTALL}"

    @property
    def name(self) -> str:
        """The emulator."""
        return "rp2040js"

    @property
    def source(self) -> str:
        """The emulator."""
        return "rp2040js"

    @contextmanager
    def line(self, image: SpeakingImage) -> Iterator[Channel]:
        """Start the emulator with what is flashed."""
        node, package = shutil.which("node"), _package(os.environ.get("NODE_PATH", ""))
        if node is None or package is None:
            raise ToolError(str(self.missing()))
        if self.own_board.boot != _BOOT:
            raise ToolError(f"rp2040js runs boards with an RP2040 (boot = {_BOOT!r}), not {self.own_board.name}")
        required = must_confine(image.path, "an emulator", foreign=self.foreign)
        with scratch_folder() as folder:
            flashed = folder / _IMAGE
            flashed.write_bytes(read_regular(image.path.with_suffix(".bin"), MOST_BYTES, "firmware"))
            command = [str(Path(node).resolve()), str(_SCRIPT), str(package.resolve()), str(flashed)]
            limits = {"RLIMIT_CPU": 2 * math.ceil(self.timeout) + 5}
            readable = (_SCRIPT, package.resolve(), flashed, *_NODE_READS)
            safe = locked(command, readable=readable, limits=limits, required=required)
            with program(safe, folder, self.name) as pipes:
                pipes.read(_START_SECONDS)  # Node.js takes its time to start
                yield pipes
