"""Where measurements run: processes of this machine, or a dask.distributed cluster. One interface for both."""

import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from tapc.base.errors import ToolError
from tapc.base.files import scratch_folder
from tapc.flow.losses.partial import end_with

T = TypeVar("T")
RESTARTS = 3


class Workers(Protocol):
    """Runs functions elsewhere."""

    def share(self, value: Any) -> Any:
        """Return a handle that `submit` takes in place of a large value, which then travels once."""

    def submit(self, function: Callable[..., T], handle: Any, *arguments: Any) -> "Future[T]":
        """Run ``function(value, *arguments)`` and return its future."""

    @property
    def generation(self) -> int:
        """How often `recover` has repaired something."""

    def recover(self) -> bool:
        """Repair what a lost worker broke; whether failed calls are worth another try."""

    def close(self) -> None:
        """Stop everything."""


@lru_cache(maxsize=16)
def _load(path: str) -> Any:
    return pickle.loads(Path(path).read_bytes())  # written by this very process's parent


def _call(function: Callable[..., T], path: str, *arguments: Any) -> T:
    return function(_load(path), *arguments)


class ProcessWorkers:
    """Fresh processes on this machine.

    Parameters
    ----------
    jobs : int
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._scratch = ExitStack()
        self._folder = self._scratch.enter_context(scratch_folder())
        self._count = 0
        self.generation = 0
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # Not forked: the parent holds threads of onnxruntime and torch.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._jobs, mp_context=context, initializer=end_with, initargs=(os.getpid(),))

    def share(self, value: Any) -> str:
        """Write a value to a file that every worker reads once."""
        self._count += 1
        path = self._folder / f"{self._count}.pickle"
        path.write_bytes(pickle.dumps(value))
        return str(path)

    def submit(self, function: Callable[..., T], handle: Any, *arguments: Any) -> "Future[T]":
        """Run ``function(value, *arguments)`` in a process."""
        return self._pool.submit(_call, function, handle, *arguments)

    def recover(self) -> bool:
        """Start the processes again after one of them died, a few times at most."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self.generation == RESTARTS:
            return False
        self.generation += 1
        self._pool = self._start()
        return True

    def close(self) -> None:
        """Stop the processes."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._scratch.close()


class DaskWorkers:
    """A dask.distributed cluster; its scheduler gives the work of a lost worker to another one.

    Parameters
    ----------
    address : str
        Of the scheduler, e.g. ``tcp://host:8786``.
    patience : float
        Seconds after which nobody is there.

    Attributes
    ----------
    generation : int
        How often what a lost worker alone held was sent again.

    Raises
    ------
    ToolError
        dask.distributed is not installed, or nobody answers there.
    """

    generation = 0

    def __init__(self, address: str, patience: float = 10) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ToolError("--scheduler needs dask.distributed: pip install 'tapc[search]'") from error
        try:
            self._client: Any = cast(Any, Client)(address, timeout=patience, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ToolError(
                f"no dask scheduler answers at {address}: {error}; start one with `dask scheduler`"
            ) from None

    def share(self, value: Any) -> Any:
        """Send a value to the cluster."""
        return self._client.scatter(value, broadcast=True, hash=False)

    def submit(self, function: Callable[..., T], handle: Any, *arguments: Any) -> "Future[T]":
        """Run ``function(value, *arguments)`` on a worker."""
        future = self._client.submit(function, handle, *arguments, pure=False, retries=2)
        return cast("Future[T]", future)

    def recover(self) -> bool:
        """Count a loss; shared values have to be sent again, the rest the cluster's scheduler repairs."""
        if self.generation == RESTARTS:
            return False
        self.generation += 1
        return True

    def close(self) -> None:
        """Leave the cluster; it keeps running."""
        self._client.close()


def lost(error: BaseException) -> bool:
    """Whether a call failed because its worker died, not because of what it did."""
    return isinstance(error, BrokenProcessPool | CancelledError)
