"""Forms: how an instruction set computes a kernel. They register themselves; specifications only ask for them."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from tapc.base.isa import Isa

FormT = TypeVar("FormT", bound=Callable[[Any], Any])
_known: dict[tuple[str, Isa], Callable[[Any], Any]] = {}


def register(kernel: str, isa: Isa) -> Callable[[FormT], FormT]:
    """Return a decorator for the class that computes a kernel ("conv", "depthwise") on an instruction set.

    The class takes the kernel's specification, and lies in `tapc.kernels.ISA.KERNEL`.
    """

    def add(form: FormT) -> FormT:
        _known[kernel, isa] = form
        return form

    return add


def form_of(kernel: str, isa: Isa) -> Callable[[Any], Any]:
    """Return what makes a kernel's form of its specification."""
    if (kernel, isa) not in _known:
        import_module(f"tapc.kernels.{isa}.{kernel}")
    return _known[kernel, isa]
