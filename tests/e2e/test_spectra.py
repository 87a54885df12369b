"""A network whose features are its own, from samples to a spectrum, logarithms and means, on the device."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tapc
from e2e.settings import few
from frontend.test_spectra import Features


@pytest.mark.parametrize(("board", "abits"), [("stm32h7", 16), ("pico", 8)])
def test_features_of_its_own(board: str, abits: int, tmp_path: Path) -> None:
    torch.onnx.export(Features().eval(), (torch.zeros(1, 400),), tmp_path / "net.onnx", dynamo=True, opset_version=20)
    x = np.random.default_rng(0).normal(0, 0.3, (24, 400)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=x)
    options = few(tapc.Options(abits=(abits,), metric="none"), board)
    report = tapc.compile(
        tmp_path / "net.onnx", board=board, data=tmp_path / "d.npz", output=tmp_path / "b", options=options
    ).report
    assert report.exact
    assert report.accuracy is not None
    assert report.accuracy.sqnr_db is not None
    assert report.accuracy.sqnr_db > (20 if abits == 16 else 8)
