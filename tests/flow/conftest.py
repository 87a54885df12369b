"""A build for tests that look at what a build holds."""

from pathlib import Path

import onnx
import pytest

import tapc
from graph_builder import residual


@pytest.fixture(scope="session")
def pico_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile a small network for pico, without running it; whoever changes the folder takes a copy."""
    folder = tmp_path_factory.mktemp("build")
    onnx.save(residual().onnx, folder / "net.onnx")
    options = tapc.Options(wbits=(8,), calibration=8, eval=1, simulate=False, rounding="nearest", equalize=False)
    tapc.compile(folder / "net.onnx", board="pico", data="random", output=folder / "b", options=options)
    return folder / "b"
