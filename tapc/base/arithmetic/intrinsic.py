"""What an intrinsic is: a C function that kernels call."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Intrinsic:
    """One intrinsic.

    Attributes
    ----------
    name : str
        C name; kernels call it through `call_extern`.
    result : str
        C result type, also the TensorIR dtype when followed by _t.
    parameters : tuple of str
        C parameter declarations.
    meaning : callable or None
        The semantics on Python numbers; None for memory accesses.
    portable : str
        C body.
    dsp, fpu, v6m, mve : str
        Replacement bodies, empty where there is none.
    called : bool
        A function of its own rather than code in place: for what is long and hardly ever runs.
    """

    name: str
    result: str
    parameters: tuple[str, ...]
    meaning: Callable[..., int] | None
    portable: str
    dsp: str = ""
    fpu: str = ""
    v6m: str = ""
    mve: str = ""
    called: bool = False


CLAMP = "return q < low ? low : (q > high ? high : q);"
"""C that ends in the code q, clamped."""
