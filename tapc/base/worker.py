"""A second process that holds torch: loading that takes seconds, in which this process gets on with the rest."""

import contextlib
import os
import pickle
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import IO, Any

from tapc.base.errors import ToolError
from tapc.base.progress import Advance
from tapc.base.tool import end, start_python

_LENGTH = struct.Struct("<Q")
_shared: "Worker | None" = None


class Worker:
    """A process that calls functions by their names, one after the other; it ends with the process that started it.

    Parameters
    ----------
    *modules : str
        What it imports at once.
    """

    def __init__(self, *modules: str) -> None:
        self._process = start_python("tapc.base.worker", *modules, stdout=subprocess.PIPE)
        self._lock = threading.Lock()
        weakref.finalize(self, end, self._process)

    def call(self, name: str, *arguments: Any, advance: Advance | None = None) -> Any:
        """Return what a function returns there, or raise what it raises; arguments as for `call`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            try:
                _put(self._process.stdin, (name, arguments, advance is not None))
                while True:
                    kind, value = _take(self._process.stdout)
                    if kind != "advance":
                        break
                    assert advance is not None
                    advance(*value)
            except (OSError, EOFError) as error:
                raise ToolError("the process that runs torch has ended; was it killed for its memory?") from error
        if kind == "error":
            raise value
        return value


def begin(*modules: str) -> None:
    """Start the process that `call` uses from now on; not where torch is loaded here already, or Python unknown.

    Parameters
    ----------
    *modules : str
        What it imports before it is called.
    """
    global _shared
    if _shared is None and "torch" not in sys.modules and sys.executable:
        with contextlib.suppress(ToolError):  # then everything is done here
            _shared = Worker(*modules)


def finish() -> None:
    """Let later calls be made in this process again; what holds results of the other one keeps it alive."""
    global _shared
    _shared = None


def current() -> Worker | None:
    """Return the process that was begun, None where there is none or this one has loaded torch meanwhile."""
    return _shared if "torch" not in sys.modules else None


def call(name: str, *arguments: Any, advance: Advance | None = None) -> Any:
    """Call a function where torch is: in the process that was begun, or here.

    Parameters
    ----------
    name : str
        ``module:function``, which this process need not import.
    *arguments
        What pickles; so must what it returns or raises.
    advance : callable, optional
        Told (done, total): the function's argument of that name.
    """
    there = current()
    if there is not None:
        return there.call(name, *arguments, advance=advance)
    return _function(name)(*arguments, **({} if advance is None else {"advance": advance}))


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), attribute)
    return found


def _put(stream: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _take(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def main() -> None:
    """Serve the process that started this one until it closes the pipe."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints
    for module in sys.argv[1:]:
        with contextlib.suppress(Exception):  # whoever needs it is told
            import_module(module)
    while True:
        try:
            name, arguments, tells = _take(sys.stdin.buffer)
        except EOFError:
            return
        told = {"advance": lambda done, total: _put(out, ("advance", (done, total)))} if tells else {}
        try:
            answer = "value", _function(name)(*arguments, **told)
        except Exception as error:
            answer = "error", error
        try:
            _put(out, answer)
        except Exception as error:  # what cannot be sent
            _put(out, ("error", ToolError(f"{name}: {error!r}")))


if __name__ == "__main__":
    main()
