"""The front: measured images, what beats what, and pages that say so."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from tapc.cli import main
from tapc.flow.accuracy import Summary
from tapc.pareto.run import Point, _with_best


def summary(name: str, top1: float) -> Summary:
    return Summary(name, "gptq", 3, 100, 90.0, top1, 0.5, 90.0 - top1, 0.5, 95.0, 1000, 2000, "top1", 90.0, top1, 0.5)


def point(name: str, flash: float | None, top1: float) -> Point:
    problem = "too large" if flash is None else None
    return Point(summary(name, top1), name[0] == "m", flash, flash, flash, False, problem)


def test_the_front() -> None:
    given = [point("w2a8", 10, 50), point("m3a8", 15, 80), point("w4a8", 20, 80), point("w8a8", 40, 90)]
    assert [p.best for p in _with_best(given)] == [True, True, False, True]
    twins = [point("w4a8", 20, 80), point("m4a8", 20, 80)]
    assert [p.best for p in _with_best(twins)] == [True, True]
    assert [p.best for p in _with_best([replace(point("w8a8", None, 99)), point("w4a8", 20, 80)])] == [False, True]


def test_pages_of_real_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "d.npz"
    np.savez(data, x=rng.integers(0, 256, (24, 3, 32, 32)).astype(np.uint8), y=rng.integers(0, 10, 24))
    arguments = ["pareto", "resnet8", "--board", "nucleo-l4r5zi", "--data", str(data), "--set", "w4a8", "--set", "w2a8"]
    arguments += ["--seeds", "1", "--calibration", "8", "--rounding", "nearest", "-o", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["kind"] == "pareto"
    wide, narrow = report["points"]
    assert narrow["flash"] < wide["flash"]
    assert narrow["accuracy"]["weight_bytes"] == wide["accuracy"]["weight_bytes"] // 2
    assert wide["instructions"] > 1e6
    assert (tmp_path / "out" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "pareto.html").read_text()
    assert f"{wide['flash']:,.0f}" in page
    assert "http" not in page.replace("http-equiv", "")
