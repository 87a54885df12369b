"""Everything is measured once: known figures come from the cache, running measurements are waited for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from tapc.base.cache import Store
from tapc.graph.network import Bits
from tapc.search.configuration import DeviceFigures, code_digest, device_key, measure_device
from tapc.search.networks import Subject
from tapc.search.workers import Workers, lost


class Shared(Protocol):
    """What is sent to the workers once."""

    @property
    def digest(self) -> str:
        """Equal for equal content."""


class Measurements:
    """Measures on workers; safe to use from several threads.

    Parameters
    ----------
    workers : Workers
    store : Store
        What earlier runs measured; keyed by content.

    Attributes
    ----------
    measured, cached : int
        Configurations that were measured by this object, and that the store knew.
    """

    def __init__(self, workers: Workers, store: Store) -> None:
        self._workers = workers
        self._store = store
        self._code: str | None = None
        self._lock = threading.Lock()
        self._handles: dict[str, Any] = {}
        self._known: dict[str, Future[Any]] = {}
        self.measured = 0
        self.cached = 0

    def device(self, subject: Subject, bits: Bits) -> DeviceFigures:
        """Return what the device needs for a configuration; see `measure_device` for the errors."""
        with self._lock:
            self._code = self._code or code_digest()
        return DeviceFigures(**self.once(device_key(subject, bits, self._code), measure_device, subject, bits))

    def once(self, key: str, function: Callable[..., Any], subject: Shared, *arguments: Any) -> Any:
        """Return ``function(subject, *arguments)``, JSON values, which the key identifies."""
        with self._lock:
            known = self._known.get(key)
            if known is None:
                mine: Future[Any] = Future()
                self._known[key] = mine
        if known is not None:
            return known.result()
        try:
            values = self._values(key, function, subject, arguments)
        except BaseException as error:
            mine.set_exception(error)
            raise
        mine.set_result(values)
        return values

    def stored(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a record of the store, made here where there is none."""
        record = self._store.get(key)
        if isinstance(record, dict):
            return record
        made = make()
        self._store.put(key, made)
        return made

    def _values(self, key: str, function: Callable[..., Any], subject: Shared, arguments: tuple[Any, ...]) -> Any:
        record = self._store.get(key)
        if isinstance(record, dict):
            with self._lock:
                self.cached += 1
            return record
        values = self._run(function, subject, arguments)
        self._store.put(key, values)
        with self._lock:
            self.measured += 1
        return values

    def _run(self, function: Callable[..., Any], subject: Shared, arguments: tuple[Any, ...]) -> Any:
        while True:
            generation = self._workers.generation
            try:
                return self._submit(function, subject, arguments).result()
            except Exception as error:
                if not lost(error):
                    raise
                with self._lock:  # whoever sees the loss first repairs it for all
                    if generation == self._workers.generation:
                        if not self._workers.recover():
                            raise
                        self._handles.clear()

    def _submit(self, function: Callable[..., Any], subject: Shared, arguments: tuple[Any, ...]) -> Future[Any]:
        with self._lock:
            if subject.digest not in self._handles:
                self._handles[subject.digest] = self._workers.share(subject)
            handle = self._handles[subject.digest]
        return self._workers.submit(function, handle, *arguments)
