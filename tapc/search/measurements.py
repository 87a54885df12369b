"""Every bit configuration is measured once: known ones come from the cache, running ones are waited for."""

import threading
from concurrent.futures import Future
from typing import Any

from tapc.base.cache import Store
from tapc.graph.network import Bits
from tapc.search.configuration import ConfigurationFigures, code_digest, configuration_key, measure_configuration
from tapc.search.networks import Subject
from tapc.search.workers import Workers, lost


class Measurements:
    """Measures configurations on workers; safe to use from several threads.

    Parameters
    ----------
    workers : Workers
    store : Store
        What earlier runs measured; keyed by content.
    on_device : bool
        Build and run the firmware, too.

    Attributes
    ----------
    measured, cached : int
        Configurations that were measured by this object, and that the store knew.
    """

    def __init__(self, workers: Workers, store: Store, *, on_device: bool) -> None:
        self._workers = workers
        self._store = store
        self._on_device = on_device
        self._code = code_digest()
        self._lock = threading.Lock()
        self._handles: dict[str, Any] = {}
        self._known: dict[str, Future[ConfigurationFigures]] = {}
        self.measured = 0
        self.cached = 0

    def measure(self, subject: Subject, bits: Bits, *, on_device: bool | None = None) -> ConfigurationFigures:
        """Return the figures of a configuration; see `measure_configuration` for the errors."""
        wanted = self._on_device if on_device is None else on_device
        key = configuration_key(subject, bits, wanted, self._code)
        with self._lock:
            known = self._known.get(key)
            if known is None:
                mine: Future[ConfigurationFigures] = Future()
                self._known[key] = mine
        if known is not None:
            return known.result()
        try:
            figures = self._figures(key, subject, bits, wanted)
        except BaseException as error:
            mine.set_exception(error)
            raise
        mine.set_result(figures)
        return figures

    def _figures(self, key: str, subject: Subject, bits: Bits, on_device: bool) -> ConfigurationFigures:
        record = self._store.get(key)
        if isinstance(record, dict):
            with self._lock:
                self.cached += 1
            return ConfigurationFigures.from_dict(record)
        figures = self._run(subject, bits, on_device)
        self._store.put(key, figures.to_dict())
        with self._lock:
            self.measured += 1
        return figures

    def _run(self, subject: Subject, bits: Bits, on_device: bool) -> ConfigurationFigures:
        while True:
            generation = self._workers.generation
            try:
                return self._submit(subject, bits, on_device).result()
            except Exception as error:
                if not lost(error):
                    raise
                with self._lock:  # whoever sees the loss first repairs it for all
                    if generation == self._workers.generation:
                        if not self._workers.recover():
                            raise
                        self._handles.clear()

    def _submit(self, subject: Subject, bits: Bits, on_device: bool) -> Future[ConfigurationFigures]:
        with self._lock:
            if subject.digest not in self._handles:
                self._handles[subject.digest] = self._workers.share(subject)
            handle = self._handles[subject.digest]
        return self._workers.submit(measure_configuration, handle, bits, on_device)
