"""A machine of QEMU that plays a board: it runs the very image that is flashed."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tapc.base import confine
from tapc.base.errors import ToolError
from tapc.base.files import read_regular, scratch_folder
from tapc.base.tool import locked
from tapc.device.channel import Channel, program
from tapc.device.choose import register
from tapc.device.qemu import MOST_BYTES, SANDBOX, TRUST, emulator
from tapc.device.speaking import SpeakingDevice, SpeakingImage
from tapc.hardware.target import Target

_IMAGE = "firmware.elf"
_MOST_MEMORY = 8 << 30


@register("qemu:MACHINE")
@dataclass(frozen=True)
class QemuBoard(SpeakingDevice):
    """Runs flashed images in QEMU, locked in; its time is not silicon's, and no cycles are reported."""

    @staticmethod
    def obstacle(target: Target) -> str | None:
        """Return None: what QEMU has is seen when it starts."""
        return None

    @property
    def name(self) -> str:
        """The machine."""
        return f"QEMU's {self.argument}"

    @property
    def source(self) -> str:
        """The machine."""
        return f"qemu:{self.argument}"

    @contextmanager
    def line(self, image: SpeakingImage) -> Iterator[Channel]:
        """Start the machine with the image."""
        qemu = emulator(self.target).path()
        required = self.foreign and not os.environ.get(TRUST)
        if required and not confine.landlock_version():
            raise ToolError(
                f"{image.path} is not run: on this machine nothing keeps a simulated program from this machine's "
                f"files; it needs Linux 5.13 or newer with Landlock. For builds that you made yourself, set {TRUST}=1"
            )
        with scratch_folder() as folder:
            (folder / _IMAGE).write_bytes(read_regular(image.path, MOST_BYTES, "firmware"))
            # fmt: off
            command = [
                qemu, "-M", self.argument, "-nodefaults", "-no-user-config", "-nic", "none", "-display", "none",
                "-monitor", "none", "-serial", "stdio", "-kernel", _IMAGE,
            ]
            # fmt: on
            if sys.platform == "linux":
                command += ["-sandbox", SANDBOX]
            limits = {"RLIMIT_CPU": 2 * math.ceil(self.timeout) + 5, "RLIMIT_AS": _MOST_MEMORY}
            safe = locked(command, readable=(folder / _IMAGE,), limits=limits, required=required)
            with program(safe, folder, self.name) as pipes:
                yield pipes
