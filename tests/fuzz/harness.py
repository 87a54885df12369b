"""Runs tapc on hostile inputs: each in a forked child with limits, and says what went wrong.

The parent imports everything once and starts no thread, so that forking is cheap and safe.
"""

import contextlib
import ctypes
import io
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import processes

CODES = frozenset({0, 2, 3, 4, 5, 6, 7, 8, 130})  # 130: a callable that raises KeyboardInterrupt
MOST_MEMORY = 2 << 30
MOST_FILE = 512 << 20
SECONDS = 60.0
_ADDRESSES = 12 << 30  # the libraries reserve more than they use
_POLL = 0.01
_SUBREAPER = 36


@dataclass(frozen=True)
class Mutant:
    """A hostile input.

    Attributes
    ----------
    name : str
        Says how to make it again.
    arguments : tuple of str
        Command line; a file of the case is named by its path in the case's folder. Outputs go to `out`.
    make : callable
        Writes the input's files into a folder.
    outputs : tuple of str
        Where in the case's folder files may appear.
    """

    name: str
    arguments: tuple[str, ...]
    make: Callable[[Path], None]
    outputs: tuple[str, ...] = ("out/", "build/")


@dataclass(frozen=True)
class Verdict:
    """What a mutant did.

    Attributes
    ----------
    name : str
    code : int
        Exit code; minus the signal's number where one killed it.
    faults : tuple of str
        What must not happen, and did.
    seconds, cpu : float
        Wall-clock and processor time.
    memory : int
        Largest resident set, bytes.
    output : str
        End of what it printed.
    """

    name: str
    code: int
    faults: tuple[str, ...]
    seconds: float
    cpu: float
    memory: int
    output: str


def warm() -> None:
    """Import what tapc uses, once for all children; become the parent of processes that theirs leave."""
    import onnxruntime  # noqa: F401
    import torch

    import tapc.cli
    import tapc.finetune
    import tapc.flow.evaluation
    import tapc.flow.pipeline
    import tapc.flow.profile
    import tapc.frontend.tflite_source
    import tapc.frontend.torch_source
    import tapc.pareto
    import tapc.report.plot
    import tapc.search  # noqa: F401
    from tapc.kernels import builder

    builder._pipeline()  # TVM, which would take each child seconds
    torch.set_num_threads(1)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def run(mutant: Mutant, place: Path, *, seconds: float = SECONDS) -> Verdict:
    """Run one mutant in a folder of its own, which is removed again.

    Parameters
    ----------
    mutant : Mutant
    place : Path
        Empty folder; the case, its home, its temporary files and a bystander lie in it.
    """
    folders = {name: place / name for name in ("case", "home", "tmp", "other")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["other"] / "bystander").write_text("untouched", encoding="utf-8")
    mutant.make(folders["case"])
    before = _listing(place)
    log = place / "log"
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(mutant, folders, log)
    status, usage, hung = _await(child, start + seconds)
    elapsed = time.monotonic() - start
    left = _end_orphans()
    printed = log.read_bytes() if log.exists() else b""
    output = printed[-4000:].decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    faults = []
    if hung:
        faults.append(f"still running after {seconds:g} s")
    elif code < 0:
        faults.append(f"killed by {signal.Signals(-code).name}")
    elif code not in CODES:
        faults.append(f"exit code {code}")
    if b"Traceback" in printed:
        faults.append("traceback")
    memory = usage.ru_maxrss * 1024
    if memory > MOST_MEMORY:
        faults.append(f"{memory >> 20} MiB")
    if left:
        faults.append(f"left {left} processes")
    if code >= 0:  # who was killed cannot clean up
        faults += [f"touched {name}" for name in _touched(before, _listing(place), mutant.outputs)]
    cpu = usage.ru_utime + usage.ru_stime
    shutil.rmtree(place, ignore_errors=True)
    return Verdict(mutant.name, code, tuple(faults), elapsed, cpu, memory, output)


def _become(mutant: Mutant, folders: dict[str, Path], log: Path) -> None:
    """Run tapc in this process and end it."""
    try:
        os.setsid()
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, stream), (2, stream)):
            os.dup2(source, target)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb"), encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), encoding="utf-8", write_through=True)
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE, MOST_FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ.update(HOME=str(folders["home"]), TMPDIR=str(folders["tmp"]), OMP_NUM_THREADS="1")
        os.environ.pop("TAPC_DEBUG", None)
        import tempfile

        tempfile.tempdir = None
        os.chdir(folders["case"])
        from tapc.cli import main

        sys.argv = ["tapc", *mutant.arguments]
        main(list(mutant.arguments), prog_name="tapc")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        for output in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                output.flush()
    os._exit(code)


def _await(child: int, deadline: float) -> tuple[int, resource.struct_rusage, bool]:
    hung = False
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return status, usage, hung
        if not hung and time.monotonic() > deadline:
            hung = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(_POLL)


def _end_orphans() -> int:
    """Kill the processes that a child left, those that ended apart; how many there were."""
    count = 0
    for _ in range(100):
        children = processes.children()
        if not children:
            break
        for pid in children:
            done, _ = os.waitpid(pid, os.WNOHANG)
            if not done:
                count += 1
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    return count


def _listing(place: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder) / name
            state = path.lstat()
            found[str(path.relative_to(place))] = (state.st_size, state.st_mtime_ns)
    return found


_ALWAYS = ("log", "home/.cache/tapc/", "home/.cache/matplotlib/", "home/.config/matplotlib/")
Listing = dict[str, tuple[int, int]]


def _touched(before: Listing, after: Listing, outputs: tuple[str, ...]) -> list[str]:
    """Return files that appeared where a command has no business, and those of the input that changed or vanished."""
    new = tuple(f"case/{name}" for name in outputs)
    appeared = [name for name in after if name not in before and not name.startswith(_ALWAYS + new)]
    return sorted(appeared + [name for name, state in before.items() if after.get(name) != state])
