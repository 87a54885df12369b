"""The outside of the sandbox: starts a locked process per run, hands it a job, and believes nothing that comes back."""

import contextlib
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tapc.base.errors import ToolError
from tapc.proxy.sandbox.outcome import KINDS, SandboxError

_CHILD = Path(__file__).with_name("child.py")
_BOOT_SECONDS = 20.0
_FRAME = struct.Struct("<I")


@dataclass(frozen=True)
class Limits:
    """What a run may use.

    Attributes
    ----------
    cpu_seconds : int
        Processor time; the kernel ends the process at the next whole second.
    wall_seconds : float
        From handing over the job to having the result.
    memory_bytes : int
        Address space, the interpreter's own of about 60 MB included.
    output_bytes : int
        Of the result.
    """

    cpu_seconds: int = 2
    wall_seconds: float = 1.5
    memory_bytes: int = 384 << 20
    output_bytes: int = 1 << 20


@dataclass(frozen=True)
class Call:
    """A call of a function of the code with JSON values as arguments."""

    function: str
    arguments: tuple[Any, ...]


class Sandbox:
    """Runs untrusted code, each run in a process of its own that was started and locked beforehand.

    For one thread. Use as a context manager, or call `close`.

    Parameters
    ----------
    limits : Limits
    restricted : bool
        Give the code only harmless builtins. Off, the code has all of them, and the kernel's limits alone hold it;
        for tests of exactly that.
    """

    def __init__(self, limits: Limits | None = None, *, restricted: bool = True) -> None:
        self._limits = limits or Limits()
        self._restricted = restricted
        self._next: _Child | None = _Child(self._limits)

    def run(self, code: str, calls: Sequence[Call]) -> list[Any]:
        """Execute code, then the calls in order, in one fresh process, and return their results.

        Raises
        ------
        SandboxError
            The code failed; see its kind.
        ToolError
            This machine cannot lock a process in, so nothing was run.
        """
        child = self._next or _Child(self._limits)
        self._next = None
        job = {
            "code": code,
            "calls": [{"function": call.function, "arguments": call.arguments} for call in calls],
            "restricted": self._restricted,
        }
        try:
            child.await_ready()
            answer = child.answer(json.dumps(job).encode(), self._limits)
        finally:
            child.kill()
        self._next = _Child(self._limits)
        return _results(answer, len(calls))

    def protection(self) -> dict[str, Any]:
        """Return what the kernel gives: seccomp, the version of Landlock (0: none), namespaces.

        Raises
        ------
        ToolError
            This machine cannot lock a process in.
        """
        if self._next is None:
            self._next = _Child(self._limits)
        return self._next.await_ready()

    def close(self) -> None:
        """End the waiting process."""
        if self._next is not None:
            self._next.kill()
            self._next = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_twice(sandbox: Sandbox, code: str, calls: Sequence[Call]) -> list[Any]:
    """Run twice, in two processes, and return the results where both agree.

    Raises
    ------
    SandboxError
        As for `Sandbox.run`; of kind "nondeterministic" where the results differ.
    """
    first = sandbox.run(code, calls)
    if sandbox.run(code, calls) != first:
        raise SandboxError("nondeterministic", "two runs on the same input gave different results")
    return first


class _Child:
    """A process that locks itself in and waits for one job."""

    def __init__(self, limits: Limits) -> None:
        if sys.platform != "linux":
            raise ToolError("proxy programs only run on Linux: the sandbox needs seccomp; use a container or a VM")
        arguments = json.dumps({"cpu": limits.cpu_seconds, "memory": limits.memory_bytes})
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_CHILD), arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={},
            start_new_session=True,
        )
        self._ready: dict[str, Any] | None = None

    def await_ready(self) -> dict[str, Any]:
        if self._ready is None:
            try:
                message = self._exchange(b"", time.monotonic() + _BOOT_SECONDS, 4096, close=False)
            except SandboxError as error:
                message = {"refused": f"the process did not start: {error}"}
            if not isinstance(message, dict) or not isinstance(message.get("ready"), dict):
                self.kill()
                reason = message.get("refused") if isinstance(message, dict) else message
                raise ToolError(
                    f"this machine cannot lock proxy programs in ({reason}), so they are not run; the sandbox needs "
                    "Linux on x86-64 or arm64 with seccomp filters (in a container: allow the seccomp and prctl calls)"
                )
            self._ready = message["ready"]
        return self._ready

    def answer(self, job: bytes, limits: Limits) -> Any:
        return self._exchange(job, time.monotonic() + limits.wall_seconds, limits.output_bytes, close=True)

    def _exchange(self, job: bytes, deadline: float, most: int, *, close: bool) -> Any:
        """Write the job and read one frame, whatever the other side does meanwhile."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        reader, writer = process.stdout.fileno(), process.stdin.fileno()
        os.set_blocking(writer, False)
        received = bytearray()
        rest = memoryview(job)
        with selectors.DefaultSelector() as selector:
            selector.register(reader, selectors.EVENT_READ)
            if close:
                selector.register(writer, selectors.EVENT_WRITE)
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise SandboxError("timeout", "it took too long; use a simpler computation")
                for key, _ in selector.select(left):
                    if key.fd == writer:
                        with contextlib.suppress(BlockingIOError, BrokenPipeError):
                            rest = rest[os.write(writer, rest) :] if rest else rest
                        if not rest or process.poll() is not None:
                            selector.unregister(writer)
                            process.stdin.close()
                        continue
                    part = os.read(reader, 1 << 16)
                    if not part:
                        raise self._ended(deadline)
                    received += part
                    if len(received) > most + _FRAME.size:
                        raise SandboxError("output", f"the result has more than {most:,} bytes")
                    if len(received) >= _FRAME.size:
                        (size,) = _FRAME.unpack_from(received)
                        if size > most:
                            raise SandboxError("output", f"the result has more than {most:,} bytes")
                        if len(received) > _FRAME.size + size:
                            raise SandboxError("output", "more came back than one result")
                        if len(received) == _FRAME.size + size:
                            return _parsed(bytes(received[_FRAME.size :]))

    def _ended(self, deadline: float) -> SandboxError:
        try:
            code = self._process.wait(max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return SandboxError("timeout", "it closed its result and went on; it was ended")
        if code == -signal.SIGSYS:
            return SandboxError("forbidden", "it asked the operating system for something that is not allowed")
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return SandboxError("timeout", "it used too much processor time; use a simpler computation")
        if code < 0:
            return SandboxError("crash", f"the interpreter died of {signal.Signals(-code).name}")
        return SandboxError("crash", f"it ended without a result, with exit code {code}")

    def kill(self) -> None:
        """End the process and everything in its session."""
        process = self._process
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()


def _parsed(data: bytes) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON number")

    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise SandboxError("output", f"what came back is no result: {str(error)[:100]}") from None


def _results(answer: Any, count: int) -> list[Any]:
    match answer:
        case {"results": list(results)} if len(results) == count:
            return results
        case {"error": [str(kind), str(message)]} if kind in KINDS:
            raise SandboxError(kind, message[:2000])
    raise SandboxError("output", "what came back is no result")
