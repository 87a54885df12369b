"""The picture of a build."""

import json
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest

import tapc
from graph_builder import residual
from tapc.base.errors import UsageError
from tapc.flow.showing import draw


def test_plot_names_layers_and_is_reproducible(tmp_path: Path) -> None:
    onnx.save(residual().onnx, tmp_path / "net.onnx")
    options = tapc.Options(wbits=(4,), calibration=8, eval=1, simulate=False)
    made = tapc.compile(tmp_path / "net.onnx", board="pico", data="random", output=tmp_path / "b", options=options)
    assert repr(made).startswith("net on pico: 4.00 weight bits, ")
    assert len(repr(made)) < 400
    first, second = (draw(tmp_path / "b", tmp_path / name) for name in ("a.svg", "b.svg"))
    text = first.read_text()
    assert "stem" in text
    for shown in ("scratch of a kernel", "size of the arena", "4-bit weights"):
        assert f"<!-- {shown} -->" in text
    assert text == second.read_text()
    # Layers above their steps: the upper panel has no labels of its own.
    assert text.count("<!-- stem -->") == 1
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    (tmp_path / "b" / "report.json").write_text(json.dumps(report | {"model": "a\x07b$\\frac$"}))
    drawn = ElementTree.parse(draw(tmp_path / "b", tmp_path / "c.svg")).getroot()
    assert drawn.tag.endswith("svg")
    with pytest.raises(UsageError, match=r"\.svg"):
        draw(tmp_path / "b", tmp_path / "a.txt")
