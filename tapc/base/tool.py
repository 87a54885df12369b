"""Programs on PATH, and running them: none outlives what it was started for."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from tapc.base import confine
from tapc.base.errors import ToolError

_NEWEST = 40
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.RLock()  # a signal's handler ends programs, whatever it interrupts
_ending = threading.Event()


def newest(name: str) -> str | None:
    """Return a program's newest version on PATH, as Debian names them (name-19), else the plain name, or None."""
    names = (*(f"{name}-{version}" for version in range(_NEWEST, 0, -1)), name)
    return next((found for found in names if shutil.which(found)), None)


@functools.cache
def _program_files(program: str) -> dict[str, str]:
    """Return what starting a program reads: itself, its loader and its shared libraries."""
    files = {program: confine.READ + confine.RUN, "/etc/ld.so.cache": confine.READ}
    try:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, errors="replace", check=False).stdout
    except OSError:
        listed = ""
    libraries = re.findall(r"(/\S+) \(0x", listed)
    for path in libraries or _LIBRARY_FOLDERS:
        loader = not libraries or Path(path).name.startswith("ld")
        files[path] = confine.READ + confine.RUN if loader else confine.READ
    return files


def locked(
    command: Sequence[str],
    *,
    readable: Iterable[Path] = (),
    writable: Iterable[Path] = (),
    limits: Mapping[str, int] | None = None,
    required: bool = False,
) -> list[str]:
    """Return a command that runs another one without any file, network or environment that it does not need.

    Parameters
    ----------
    command : sequence of str
        Program, by its full path, and arguments.
    readable, writable : iterable of Path
        Files that it may read, and that it may read and write; it can make, remove and rename none.
    limits : mapping of str to int, optional
        As for `tapc.base.confine.limit`.
    required : bool
        Do not run it where the kernel has no Landlock; otherwise its files are open there.
    """
    if sys.platform != "linux":
        return list(command)
    files = dict(_program_files(command[0]))
    files |= {str(path.absolute()): confine.READ for path in readable}
    files |= {str(path.absolute()): confine.READ + confine.WRITE for path in writable}
    task = {
        "command": list(command),
        "files": files,
        "limits": {"RLIMIT_CORE": 0, **(limits or {})},
        "landlock": required,
        "parent": os.getpid(),
    }
    return [sys.executable, "-I", "-S", confine.__file__, json.dumps(task)]


def start_python(module: str, *arguments: str, stdout: int) -> subprocess.Popen[bytes]:
    """Start a module of tapc in a process of its own, fed by a pipe; as `start`.

    It finds what this process finds, and nothing that merely lies in the working folder.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return start(
        [sys.executable, "-P", "-m", module, *arguments],
        environment={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
    )


def start(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; whoever starts it calls `end` at last.

    Parameters
    ----------
    command : sequence of str
    folder : Path, optional
        Its working folder.
    environment : mapping, optional
        All of its environment; this process's where None.

    Raises
    ------
    ToolError
        tapc is ending, or the program cannot be started.
    """
    check_going()
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be started: {error.strerror or error}") from error
    with _lock:
        _running.add(process)
    if _ending.is_set():  # it began while this process was being started, and may not have seen it
        end(process)
        check_going()
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that `start` started, with everything in its session, and wait for it."""
    with _lock:
        _running.discard(process)
    _kill(process)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def end_all() -> None:
    """Kill every program that was started here, and start no other: tapc is ending."""
    _ending.set()
    with _lock:
        running = tuple(_running)
    for process in running:
        _kill(process)


def check_going() -> None:
    """Raise ToolError where tapc is ending: for work that nothing else can stop."""
    if _ending.is_set():
        raise ToolError("interrupted")


def begin() -> None:
    """Start programs again after `end_all`."""
    _ending.clear()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # its number is still its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def run(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output as text.

    Parameters
    ----------
    command, folder, environment
        As for `start`.
    text : str, optional
        Its standard input.
    timeout : float, optional
        Seconds after which it is killed.

    Raises
    ------
    ToolError
        It cannot be started, or took longer than `timeout`.
    """
    stdin = subprocess.DEVNULL if text is None else subprocess.PIPE
    process = start(command, folder=folder, environment=environment, stdin=stdin)
    try:
        out, err = process.communicate(None if text is None else text.encode(), timeout)
    except subprocess.TimeoutExpired:
        raise ToolError(f"{command[0]} was stopped after {timeout:g} s") from None
    finally:
        end(process)
    check_going()
    return subprocess.CompletedProcess(
        command, process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
    )
