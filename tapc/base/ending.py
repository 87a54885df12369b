"""How a command ends before its time: signals leave nothing behind, and no failure is shown as a traceback."""

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tapc.base import tool

DEBUG = "TAPC_DEBUG"
_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_OUTPUT, _DOES_NOT_FIT, _FAULT = 8, 5, 1


class Stopped(BaseException):
    """A signal asked for the end.

    Attributes
    ----------
    exit_code : int
        128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the block from within, so that everything that it made is cleaned up.

    Programs that it started are killed at once, and none is started until the next block begins: a thread that the
    block's end does not wait for would go on with the next. Later signals are ignored until the block has ended.

    Raises
    ------
    KeyboardInterrupt
        SIGINT, as ever.
    Stopped
        The others.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        for asked in _ASKED:
            signal.signal(asked, signal.SIG_IGN)
        tool.end_all()
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    tool.begin()
    # What is ignored already stays so: nohup, or a shell's background jobs.
    before = {asked: signal.getsignal(asked) for asked in _ASKED}
    for asked, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(asked, stop)
    try:
        yield
    finally:
        for asked, handler in before.items():
            with contextlib.suppress(TypeError):  # None: set by something that is not Python
                signal.signal(asked, handler)


def explained(error: Exception) -> tuple[str, int]:
    """Return a message and an exit code for an exception that no part of tapc expected.

    With TAPC_DEBUG in the environment it is raised again instead, with its traceback.
    """
    if os.environ.get(DEBUG):
        raise error
    if isinstance(error, OSError) and error.errno in _FULL:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}", _OUTPUT
    if isinstance(error, MemoryError):
        return (
            "this machine's memory does not suffice; use a smaller network, fewer samples, or more memory",
            _DOES_NOT_FIT,
        )
    first = (str(error).strip().splitlines() or [""])[0][:300]
    return f"internal error: {type(error).__name__}: {first}; {DEBUG}=1 shows where it happened", _FAULT
