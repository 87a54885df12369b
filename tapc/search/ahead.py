"""Work that is begun before it is wanted, in threads that nobody waits for at the end of a program."""

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Some tasks, of which up to `workers` run at once, begun in the order given.

    Threads are daemons: whoever waits for a person's answer must not keep an interrupted program alive.

    Parameters
    ----------
    tasks : mapping of str to callable
        In the order in which their results will be wanted.
    workers : int
        With one, a task runs when its result is asked for, in the asking thread.
    """

    def __init__(self, tasks: Mapping[str, Callable[[], T]], workers: int) -> None:
        self._tasks = tasks
        self._futures: dict[str, Future[T]] = {}
        self._stopped = threading.Event()
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        if workers > 1:
            for key in tasks:
                self._futures[key] = Future()
                self._waiting.put(key)
            for _ in range(min(workers, len(tasks))):
                threading.Thread(target=self._work, daemon=True).start()

    def result(self, key: str) -> T:
        """Return what a task gives, or raise what it raises."""
        return self._futures[key].result() if key in self._futures else self._tasks[key]()

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                key = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._futures[key].set_result(self._tasks[key]())
            except BaseException as error:
                self._stopped.set()  # what failed stops the search: nothing more is begun
                self._futures[key].set_exception(error)

    def __enter__(self) -> "Ahead[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
