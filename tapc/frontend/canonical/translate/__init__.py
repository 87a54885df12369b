"""From the operators of any source to those of the canonical graph, one file per family."""

from tapc.frontend.canonical.translate import (  # noqa: F401 - they register themselves
    elementwise,
    joining,
    layers,
    normalization,
    recurrent,
    reductions,
    spectra,
    views,
)

elementwise.register_unary()
