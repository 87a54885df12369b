"""The picture of a build."""

from pathlib import Path

import onnx
import pytest
from graph_builder import residual

import tapc
from tapc.errors import UsageError
from tapc.rerun import draw


def test_plot_names_layers_and_is_reproducible(tmp_path: Path) -> None:
    onnx.save(residual().onnx, tmp_path / "net.onnx")
    options = tapc.Options(wbits=(4,), calibration=8, eval=1, simulate=False)
    made = tapc.compile(tmp_path / "net.onnx", board="pico", data="random", output=tmp_path / "b", options=options)
    assert repr(made).startswith("net on pico: 4.00 weight bits, ")
    assert len(repr(made)) < 400
    first, second = (draw(tmp_path / "b", tmp_path / name) for name in ("a.svg", "b.svg"))
    text = first.read_text()
    assert "stem" in text
    assert text == second.read_text()
    with pytest.raises(UsageError, match=r"\.svg"):
        draw(tmp_path / "b", tmp_path / "a.txt")
