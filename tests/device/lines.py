"""Boards for tests of what speaks: the sample library's firmware, and a line whose other end is a function."""

from collections.abc import Callable
from pathlib import Path

from tapc.firmware import FirmwareImages, build_firmware
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target

SAMPLE = Path(__file__).parents[1] / "firmware" / "sample_library"


def sample_images(board_name: str, folder: Path) -> FirmwareImages:
    """Build the sample library for a board."""
    board = load_board(board_name)
    return build_firmware(SAMPLE, board, load_target(board.core), folder / "out", work=folder / "work")


class Line:
    """A line whose other end answers commands by a function: bytes for a command."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self._answer, self._heard, self._said = answer, b"", b""
        self.commands: list[str] = []

    def write(self, data: bytes) -> None:
        """Hear commands."""
        self._heard += data
        *whole, self._heard = self._heard.split(b"%")
        for command in whole:
            self.commands.append(command.decode())
            self._said += self._answer(command.decode())

    def read(self, seconds: float) -> bytes:
        """Say what is left to say."""
        said, self._said = self._said, b""
        return said
