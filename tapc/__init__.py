"""tapc: a deployment compiler for microcontrollers.

>>> import tapc
>>> result = tapc.compile("resnet8", board="stm32h7")  # doctest: +SKIP
>>> result.report.memory.flash.measured  # doctest: +SKIP
"""

import os
from typing import TYPE_CHECKING, Any

# onnxruntime collects what its users run, and reports it, unless this is set before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from tapc.board import load_board
    from tapc.options import Options
    from tapc.pipeline import Result, compile
    from tapc.report import Report

__all__ = ["Options", "Report", "Result", "compile", "load_board"]

_HOME = {
    "Options": "tapc.options",
    "Report": "tapc.report",
    "Result": "tapc.pipeline",
    "compile": "tapc.pipeline",
    "load_board": "tapc.board",
}


def __getattr__(name: str) -> Any:
    """Import the interface when it is first used: `tapc --help` must not wait for numpy and onnx."""
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tapc' has no attribute {name!r}")
