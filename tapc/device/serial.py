"""A board on a serial port."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tapc.base.errors import ToolError
from tapc.device.channel import Channel, port
from tapc.device.choose import register
from tapc.device.dialog import Dialog
from tapc.device.speaking import SpeakingDevice, SpeakingImage
from tapc.hardware.target import Target

_PATIENCE = 3.0  # seconds for what may be no firmware of tapc's


@register("serial:PORT")
@dataclass(frozen=True)
class SerialDevice(SpeakingDevice):
    """A board that was flashed, and answers on the port that the device's name gives."""

    keeps_time = True

    @staticmethod
    def obstacle(target: Target) -> str | None:
        """Return None: any core may be on a board."""
        return None

    @property
    def name(self) -> str:
        """The port."""
        return self.argument

    @property
    def source(self) -> str:
        """Silicon."""
        return "serial"

    @contextmanager
    def line(self, image: SpeakingImage) -> Iterator[Channel]:
        """Open the port; a board that runs another image is flashed first, where there is a way."""
        if self.flasher is not None and not self._runs(image):
            self.flasher(image.path.parent, image.external)
        with port(self.argument) as opened:
            yield opened

    def _runs(self, image: SpeakingImage) -> bool:
        try:
            with port(self.argument) as opened:
                dialog = Dialog(opened)
                dialog.connect(_PATIENCE)
                info = dialog.info()
        except ToolError:  # what runs there may be anything
            return False
        return (info.board, info.digest) == (image.board, image.digest)
