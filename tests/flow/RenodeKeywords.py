"""Renode's keywords, played by a machine of QEMU: those that tapc's files use, by their names and arguments."""

import re
import subprocess
from pathlib import Path

TESTER = {"timeout", "defaultPauseEmulation"}


class RenodeKeywords:
    """One board and its UART."""

    ROBOT_LIBRARY_SCOPE = "TEST"

    def __init__(self, machine: str) -> None:
        self._machine, self._elf, self._script, self._uart = machine, Path(), "", ""
        self._process: subprocess.Popen[bytes] | None = None

    def execute_command(self, command: str) -> None:
        """Take the monitor's commands that the test gives."""
        if found := re.fullmatch(r"\$elf=@(.+)", command):
            self._elf = Path(found[1])
        elif found := re.fullmatch(r"include @(.+)", command):
            self._script = Path(found[1]).read_text(encoding="utf-8")
        else:
            raise AssertionError(f"unknown command {command}")

    def create_terminal_tester(self, uart: str, **options: str) -> None:
        """Choose the UART."""
        assert set(options) <= TESTER
        assert "sysbus LoadELF $elf" in self._script
        self._uart = uart

    def start_emulation(self) -> None:
        """Start the machine."""
        assert self._uart == "sysbus.usart1"
        command = ["qemu-system-arm", "-M", self._machine, "-nodefaults", "-display", "none", "-monitor", "none"]
        command += ["-serial", "stdio", "-kernel", str(self._elf)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def write_to_uart(self, text: str) -> None:
        """Send characters."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def wait_for_line_on_uart(self, wanted: str) -> None:
        """Read lines until one holds the text; the end of the answer before that is a failure."""
        assert self._process is not None
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode().strip()
            if wanted in line:
                return
            assert line != "m-ready", f"{wanted} did not come"

    def end(self) -> None:
        """End the machine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
