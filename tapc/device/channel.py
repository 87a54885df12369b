"""Bytes to and from a board: over a serial port, or the pipes of a program that plays one."""

import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tapc.base.errors import ToolError
from tapc.base.tool import end, start

BAUD = 115200
_CHUNK = 4096


class Channel(Protocol):
    """A line to a board."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def read(self, seconds: float) -> bytes:
        """Return what has come, waiting at most so long for a first byte; nothing where none came.

        Raises
        ------
        ToolError
            The line is broken: unplugged, or the program behind it ended.
        """


class Pipes:
    """The standard input and output of a program as a line.

    Parameters
    ----------
    process : Popen
        With pipes for both.
    what : str
        The program, as messages name it.
    log : Path, optional
        Its errors.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", what: str, log: Path | None = None) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._what, self._log = process, what, log
        self._to, self._from = process.stdin.fileno(), process.stdout.fileno()

    def _broken(self) -> ToolError:
        lines = [] if self._log is None else self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        # The first that is no warning says why; QEMU prints its registers after it.
        words = next((line for line in lines if line and "warning:" not in line), "")
        return ToolError(f"{self._what} ended while it was spoken to{': ' + words if words else ''}")

    def write(self, data: bytes) -> None:
        """Send bytes."""
        try:
            while data:
                data = data[os.write(self._to, data) :]
        except OSError as error:
            raise self._broken() from error

    def read(self, seconds: float) -> bytes:
        """Return what has come, waiting at most so long for a first byte."""
        if not select.select([self._from], [], [], seconds)[0]:
            return b""
        data = os.read(self._from, _CHUNK)
        if not data:
            raise self._broken()
        return data


@contextmanager
def program(command: Sequence[str], folder: Path, what: str) -> Iterator[Pipes]:
    """Run a program that plays a board on its standard input and output; it ends with the block."""
    log = folder / "errors.txt"
    with log.open("wb") as errors:
        process = start(
            command, folder=folder, environment={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            yield Pipes(process, what, log)
        finally:
            end(process)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


class Port:
    """A serial port as a line; `socket://HOST:PORT` and other addresses of pySerial are taken, too.

    Raises
    ------
    ToolError
        pySerial is missing, or the port cannot be opened.
    """

    def __init__(self, name: str) -> None:
        try:
            import serial
        except ImportError as error:
            raise ToolError("serial ports need pySerial: pip install pyserial") from error
        self._name, self._failures = name, (serial.SerialException, OSError)
        try:
            self._port = serial.serial_for_url(name, BAUD, timeout=0, write_timeout=10, exclusive=True)
        except (*self._failures, ValueError) as error:
            raise ToolError(f"port {name} cannot be opened: {error}") from error

    def _broken(self, error: Exception) -> ToolError:
        return ToolError(f"port {self._name} is gone: is the board still plugged in? ({error})")

    def write(self, data: bytes) -> None:
        """Send bytes."""
        try:
            self._port.write(data)
        except self._failures as error:
            raise self._broken(error) from error

    def read(self, seconds: float) -> bytes:
        """Return what has come, waiting at most so long for a first byte."""
        try:
            self._port.timeout = seconds
            first = self._port.read(1)
            self._port.timeout = 0
            return bytes(first + self._port.read(_CHUNK) if first else first)
        except self._failures as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Close it."""
        self._port.close()


@contextmanager
def port(name: str) -> Iterator[Port]:
    """Open a serial port for a block."""
    opened = Port(name)
    try:
        yield opened
    finally:
        opened.close()
