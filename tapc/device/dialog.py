"""Talks to firmware that speaks: MLPerf Tiny's grammar (mlcommons/tiny, benchmark/api) and tapc's own commands."""

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from tapc.base.errors import DataError, ToolError
from tapc.device.channel import Channel

READY = "m-ready"
START = "m-init-done"
CHUNK = 31
"""Bytes of input in a command: with its words at most 80 characters, as MLPerf Tiny's runner sends."""
_ANSWER_SECONDS = 5.0
_QUIET_SECONDS, _START_SECONDS = 0.1, 0.5
_MOST_ANSWER = 1 << 22
_TRIES = 3
_PROTOCOL = "2"


@dataclass(frozen=True)
class Info:
    """What a board says about itself.

    Attributes
    ----------
    board, model, digest : str
        Of the image that it runs; `digest` as `tapc.firmware.speaking.library_digest`.
    hz, rated_hz : int
        Clock that it reached, and that of the board's file.
    counter : str
        What counts its cycles: "dwt", "systick", "mcycle".
    input_bytes, output_bytes, steps : int
    keeps_input : bool
        One input can be run many times.
    """

    board: str
    model: str
    digest: str
    hz: int
    rated_hz: int
    counter: str
    input_bytes: int
    output_bytes: int
    steps: int
    keeps_input: bool


@dataclass(frozen=True)
class Inference:
    """One sample on a board: output bytes, cycles of each run, bytes of stack that were ever used."""

    output: bytes
    cycles: tuple[int, ...]
    stack: int


@dataclass(frozen=True)
class Layer:
    """A step on a board: its cycles, and the CRC-32 of its output."""

    cycles: int
    crc: int


class Dialog:
    """Commands and answers over a line.

    Parameters
    ----------
    channel : Channel
    patience : float
        Seconds that an inference may take.
    """

    def __init__(self, channel: Channel, patience: float = 120.0) -> None:
        self._channel, self._patience, self._rest = channel, patience, b""

    @property
    def channel(self) -> Channel:
        """The line."""
        return self._channel

    def connect(self, seconds: float = 10.0) -> None:
        """Bring both ends to the start of a command, whatever was sent before.

        Raises
        ------
        ToolError
            Nothing answers.
        """
        deadline, quiet = time.monotonic() + seconds, _QUIET_SECONDS
        while time.monotonic() < deadline:
            self._channel.write(b"%")
            heard = b""
            while part := self._channel.read(quiet if heard else _START_SECONDS):
                heard = (heard + part)[-_MOST_ANSWER:]
            if heard.endswith(f"{READY}\r\n".encode()):
                self._rest = b""
                return
            quiet = _START_SECONDS  # more than one answer may be on its way
        raise ToolError(
            f"no board answers: {'nothing came' if not heard else 'what came is not of this protocol'} within "
            f"{seconds:g} s. Is the firmware flashed (`tapc flash`), and is this the board's port at 115200 baud?"
        )

    def ask(self, command: str, seconds: float = _ANSWER_SECONDS) -> list[str]:
        """Send a command and return the lines of its answer.

        Raises
        ------
        ToolError
            The board does not answer in time, was reset, faulted, or refuses the command.
        """
        self._channel.write(f"{command}%".encode("ascii"))
        deadline, lines = time.monotonic() + seconds, []
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                text = line.decode("ascii", "replace").strip("\r\0")
                if text == READY:
                    break
                if text == START:
                    raise ToolError(f"the board was reset while it did {command.split(' ')[0]!r}")
                if text.startswith("e-[Fault"):
                    raise ToolError("the firmware faulted on the board; reset it")
                lines.append(text)
                continue
            left = deadline - time.monotonic()
            part = self._channel.read(max(0.0, left)) if left > 0 else b""
            if not part or len(self._rest) > _MOST_ANSWER:
                raise ToolError(
                    f"the board did not answer {command[:30]!r} within {seconds:g} s: was it unplugged, or a byte lost?"
                )
            self._rest += part
        if errors := [line for line in lines if line.startswith("e-[")]:
            raise ToolError(f"the board refused {command[:30]!r}: {errors[0][3:].removesuffix(']')}")
        return lines

    def _fields(self, command: str, seconds: float = _ANSWER_SECONDS) -> list[tuple[str, str]]:
        fields: list[tuple[str, str]] = []
        for line in self.ask(command, seconds):
            name, separator, value = line.removeprefix("m-tapc-").partition("-[")
            if line.startswith("m-tapc-") and separator and value.endswith("]"):
                fields.append((name, value[:-1]))
        return fields

    def info(self) -> Info:
        """Ask what runs on the board.

        Raises
        ------
        ToolError
            It does not answer, or not as tapc's firmware does.
        """
        found = dict(self._fields("tapc info"))
        try:
            if found["protocol"] != _PROTOCOL:
                raise ToolError(f"the board speaks version {found['protocol'][:20]} of the protocol; flash it again")
            numbers = ("hz", "rated-hz", "input-bytes", "output-bytes", "steps")
            values = {name.replace("-", "_"): int(found[name]) for name in numbers}
            texts = {name: found[name] for name in ("board", "model", "digest", "counter")}
            return Info(**texts, **values, keeps_input=found["keeps-input"] == "1")  # type: ignore[arg-type]
        except (KeyError, ValueError) as error:
            raise ToolError(f"what answers is no firmware of tapc's, or the line loses bytes ({error})") from error

    def checksums(self) -> dict[str, int]:
        """Return the CRC-32 of the image ("image") and of each external region."""
        fields = self._fields("tapc crc", 60.0)
        return {name.removeprefix("crc-"): _hexadecimal(value) for name, value in fields if name.startswith("crc-")}

    def load(self, data: bytes) -> None:
        """Send an input and check that it arrived; a line that loses a byte now and then is given another try.

        Raises
        ------
        ToolError
            It does not arrive.
        """
        for attempt in range(_TRIES):
            try:
                if self._send(data) == zlib.crc32(data):
                    return
            except ToolError:
                if attempt == _TRIES - 1:
                    raise
            self.connect()
        raise ToolError(f"the line loses bytes: {_TRIES} times the input did not arrive as it was sent")

    def reset(self) -> None:
        """Let what the network keeps between calls begin anew."""
        self.ask("tapc reset")

    def _send(self, data: bytes) -> int | None:
        """Send an input; the CRC-32 of what arrived."""
        self.ask(f"db load {len(data)}")
        fields: list[tuple[str, str]] = []
        for start in range(0, len(data), CHUNK):
            fields = self._fields(f"db {data[start : start + CHUNK].hex()}")
        found = dict(fields).get("crc-input")
        return None if found is None else _hexadecimal(found)

    def infer(self, count: int = 1) -> Inference:
        """Run the loaded input `count` times.

        Raises
        ------
        ToolError
            The board fails, or its answer did not arrive whole.
        """
        fields = self._fields(f"tapc run {count}", self._patience * count)
        output = b"".join(_bytes(value) for name, value in fields if name == "output")
        last = dict(fields)
        if zlib.crc32(output) != _hexadecimal(last.get("crc-output", "")):
            raise ToolError("the line loses bytes: an output did not arrive whole")
        return Inference(
            output, _numbers([v for n, v in fields if n == "cycles"]), _numbers([last.get("stack", "")])[0]
        )

    def layers(self) -> tuple[Layer, ...]:
        """Run the loaded input step by step."""
        found: list[Layer] = []
        for name, value in self._fields("tapc layers", self._patience):
            if name == "layer":
                index, cycles, crc = [*value.split(","), "", ""][:3]
                if index != str(len(found)):
                    raise ToolError("the line loses bytes: a layer's line is missing")
                found.append(Layer(_numbers([cycles])[0], _hexadecimal(crc)))
        return tuple(found)


def check_board(info: Info, *, board: str, digest: str, where: str) -> None:
    """Raise DataError unless the board runs the image that it should."""
    if info.board != board:
        raise DataError(f"the board at {where} runs firmware for {info.board!r}, not for {board!r}")
    if info.digest != digest:
        raise DataError(
            f"the board at {where} runs another image (model {info.model!r}, digest {info.digest}; wanted {digest}): "
            "flash this build first (`tapc flash`)"
        )


def _hexadecimal(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ToolError(f"the line loses bytes: {text[:20]!r} is no hexadecimal number") from error


def _numbers(texts: Sequence[str]) -> tuple[int, ...]:
    try:
        return tuple(map(int, texts))
    except ValueError as error:
        raise ToolError(f"the line loses bytes: {texts[0][:20]!r} is no number") from error
