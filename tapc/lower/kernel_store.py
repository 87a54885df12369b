"""Generated kernels, kept in the user's cache: TVM is loaded, and runs, only for those that no network has had yet."""

import functools
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import tapc.base.arithmetic
import tapc.kernels
from tapc.base.cache import Store, cache_folder, digest, tree_digest
from tapc.kernels.builder import Kernel, Parameter
from tapc.kernels.spec import KernelSpec

_NAME = "tapc0kernel"
"""What kernels are called in the cache; no other name in C holds it."""


def kernel(spec: KernelSpec, name: str) -> Kernel:
    """Return the C function of a specification, from the cache where it is there.

    Parameters
    ----------
    spec : KernelSpec
    name : str
        C identifier.
    """
    store, key = _store(), _key(spec)
    known = store.get(key)
    if known is None:
        made = spec.kernel(_NAME)
        known = {"parameters": [asdict(parameter) for parameter in made.parameters], "source": made.source}
        store.put(key, known)
    parameters = tuple(Parameter(**parameter) for parameter in known["parameters"])
    return Kernel(name, parameters, str(known["source"]).replace(_NAME, name))


def missing(specs: set[KernelSpec]) -> list[KernelSpec]:
    """Return the specifications whose kernels are not in the cache, in a fixed order."""
    store = _store()
    return sorted((spec for spec in specs if store.get(_key(spec)) is None), key=repr)


def _store() -> Store:
    return Store(cache_folder() / "kernels")


def _key(spec: KernelSpec) -> str:
    return digest(_generator(), type(spec).__name__, repr(spec))


@functools.cache
def _generator() -> str:
    """Return a digest of everything that makes C of a specification."""
    folders = (Path(path).parent for path in (tapc.kernels.__file__, tapc.base.arithmetic.__file__))
    return digest([tree_digest(folder, "*.py") for folder in folders], version("apache-tvm"))
