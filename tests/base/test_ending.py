"""Signals end a command from within: nothing stays behind, and the exit code says which. No failure is a traceback."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import onnx
import pytest
from click.testing import CliRunner

from graph_builder import residual
from processes import alive
from tapc import cli
from tapc.base import tool
from tapc.base.ending import explained
from tapc.base.errors import ToolError

# A simulator that never ends, and a child of its own; both say so in a file.
SLEEPER = """#!/bin/sh
sleep 60 &
echo $$ $! >> "$TAPC_TEST_PIDS"
wait
"""


COMPILE = """
import sys
from tapc.cli import main
main("compile net.onnx --board pico --data random --calibration 4 --wbits 8 --rounding nearest -o out/b".split())
"""
WAIT = """
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tapc import cli
from tapc.base import files, output, tool

@cli.main.command()
def wait():
    with output.replaced_folder(Path("out/b")), files.scratch_folder(), ThreadPoolExecutor(2) as pool:
        list(pool.map(tool.run, 4 * [["arm-none-eabi-gcc"]]))

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a shell's background job ignores both
signal.signal(signal.SIGINT, signal.default_int_handler)
cli.main(["wait"])
"""
# The signal came before the pool knew of its thread, and the thread ends later than the command.
LATE = """
import threading, time
from tapc import cli
from tapc.base import tool
from tapc.base.errors import ToolError

def work():
    for _ in range(2):
        try:
            tool.run(["arm-none-eabi-gcc"])
        except ToolError:
            time.sleep(1)

@cli.main.command()
def late():
    threading.Thread(target=work).start()
    time.sleep(60)

cli.main(["late"])
"""


@pytest.mark.parametrize(
    ("code", "number", "expected"),
    [
        (COMPILE, signal.SIGTERM, 143),
        (LATE, signal.SIGTERM, 143),
        (WAIT, signal.SIGTERM, 143),
        (WAIT, signal.SIGINT, 130),
        (WAIT, signal.SIGHUP, 129),
    ],
    ids=["compile", "late", "term", "int", "hup"],
)
def test_a_signal_leaves_nothing_behind(code: str, number: signal.Signals, expected: int, tmp_path: Path) -> None:
    """It comes while the cross compiler runs."""
    temporary, tools, pids = tmp_path / "tmp", tmp_path / "tools", tmp_path / "pids"
    for folder in (temporary, tools):
        folder.mkdir()
    for name in ("gcc", "objcopy", "size"):
        (tools / f"arm-none-eabi-{name}").write_text(SLEEPER)
        (tools / f"arm-none-eabi-{name}").chmod(0o755)
    onnx.save(residual().onnx, tmp_path / "net.onnx")
    environment = {**os.environ, "TMPDIR": str(temporary), "TAPC_TEST_PIDS": str(pids),
                   "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        while not pids.exists() or not pids.read_text():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.send_signal(number)
        _, told = process.communicate(timeout=50)
    assert process.returncode == expected, told
    assert "Traceback" not in told
    assert "stopped" in told
    assert not list(temporary.iterdir())
    assert not list((tmp_path / "out").glob("*"))
    assert not [pid for pid in pids.read_text().split() if alive(int(pid))]


def test_a_signal_while_a_program_is_ended_does_not_wait_for_itself() -> None:
    with tool._lock:  # as in the middle of `end`
        tool.end_all()
    with pytest.raises(ToolError, match="interrupted"):
        tool.check_going()
    tool.begin()
    tool.check_going()


def test_programs_that_outlive_their_use_are_killed(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="stopped after 1 s"):
        tool.run(["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"], timeout=1)
    pid, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)
    with pytest.raises(ToolError, match="cannot be started"):
        tool.run([str(tmp_path / "none")])


def test_after_the_end_nothing_is_started() -> None:
    tool.end_all()
    try:
        with pytest.raises(ToolError, match="interrupted"):
            tool.run(["/bin/true"])
    finally:
        tool.begin()
    assert tool.run(["/bin/true"]).returncode == 0


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("[/red]\x1b[31m"), 1, "internal error: ValueError: [/red]\\x1b[31m; TAPC_DEBUG=1"),
        (RecursionError(), 1, "internal error: RecursionError"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), 8, "/a/b: No space left on device"),
        (MemoryError(), 5, "memory does not suffice"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_whatever_fails_is_one_line(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr(click.Group, "invoke", fail)
    monkeypatch.delenv("TAPC_DEBUG", raising=False)
    result = CliRunner().invoke(cli.main, ["models"])
    assert (result.exit_code, text in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr


def test_the_traceback_is_shown_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPC_DEBUG", "1")
    with pytest.raises(ValueError, match="here"):
        explained(ValueError("here"))
