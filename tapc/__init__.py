"""tapc: a deployment compiler for microcontrollers.

>>> import tapc
>>> result = tapc.compile("resnet8", board="stm32h7")  # doctest: +SKIP
>>> result.report.memory.flash.measured  # doctest: +SKIP

Options are keyword arguments of `compile`; `Options` lists them. Errors are subclasses of `TapcError`.
"""

import os
from typing import TYPE_CHECKING, Any

# onnxruntime collects what its users run, and reports it, unless this is set before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from tapc.base.errors import TapcError
    from tapc.base.options import Options
    from tapc.finetune import Training
    from tapc.flow.pipeline import Result, compile
    from tapc.hardware.board import load_board
    from tapc.report import Report

__all__ = ["Options", "Report", "Result", "TapcError", "Training", "compile", "load_board"]

_HOME = {
    "Options": "tapc.base.options",
    "Report": "tapc.report",
    "Result": "tapc.flow.pipeline",
    "TapcError": "tapc.base.errors",
    "Training": "tapc.finetune",
    "compile": "tapc.flow.pipeline",
    "load_board": "tapc.hardware.board",
}


def __getattr__(name: str) -> Any:
    """Import the interface when it is first used: `tapc --help` must not wait for numpy and onnx."""
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(_HOME[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("tapc")
    raise AttributeError(f"module 'tapc' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the interface, so that it can be completed before it is imported."""
    return sorted((*__all__, "__version__", "__doc__"))
