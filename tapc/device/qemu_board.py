"""A machine of QEMU that plays a board: it runs the very image that is flashed."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tapc.base.files import read_regular, scratch_folder
from tapc.base.tool import locked
from tapc.device.channel import Channel, program
from tapc.device.choose import register
from tapc.device.qemu import MOST_BYTES, SANDBOX, emulator
from tapc.device.speaking import SpeakingDevice, SpeakingImage
from tapc.device.trust import must_confine
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
        required = must_confine(image.path, "a simulated program", foreign=self.foreign)
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
