"""Measurements in parallel processes, and the files of lines that they are kept in: a killed run goes on."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tapc.base.errors import OutputError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _nothing() -> None:
    """Do nothing: a function that pickles."""


def in_processes(
    jobs: int,
    measure: Callable[..., dict[str, Any]],
    tasks: Iterable[tuple[Any, ...]],
    start: Callable[..., None] = _nothing,
    given: tuple[Any, ...] = (),
) -> Iterator[dict[str, Any]]:
    """Yield what `measure` returns for each task's arguments, each as soon as it is known.

    Parameters
    ----------
    jobs : int
        Processes; each measures with one thread, and ends with this one, however that ends.
    measure : callable
        A function of a module.
    tasks : iterable of tuple
        Its arguments.
    start : callable
        Called once in each process.
    given : tuple
        Its arguments.
    """
    # Processes only read this when they start.
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, _begin, (os.getpid(), start, given)) as pool:
            futures = [pool.submit(measure, *task) for task in tasks]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin(parent: int, start: Callable[..., None], given: tuple[Any, ...]) -> None:
    end_with(parent)
    start(*given)


def end_with(parent: int) -> None:
    """End this process when its parent is gone: one that was killed cannot stop its workers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def append_line(partial: Path, line: Mapping[str, Any]) -> None:
    """Append a line of JSON to a file, and see it on the disk.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    try:
        with partial.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {partial}: {error.strerror or error}") from error
