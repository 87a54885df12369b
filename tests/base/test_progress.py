"""Bars: parts of one bar follow each other, and it never goes back."""

import numpy as np
import pytest

from graph_builder import residual
from tapc.base.progress import portion
from tapc.graph.analysis import Graph, analyse
from tapc.quantize import calibrate, quantize
from tapc.quantize.incremental import Effort
from tapc.quantize.model import uniform_bits


def test_portions_meet() -> None:
    told: list[float] = []

    def advance(done: int, total: int) -> None:
        told.append(done / total)

    first, second = portion(advance, 0, 0.25), portion(advance, 0.25, 1)
    assert first is not None
    assert second is not None
    for part in (first, second):
        for done in range(5):
            part(done, 4)
    assert told == pytest.approx([0, 0.062, 0.125, 0.188, 0.25, 0.25, 0.438, 0.625, 0.812, 1], abs=1e-3)
    assert portion(None, 0, 1) is None


@pytest.mark.parametrize("rounding", ["nearest", "gptq", "network"])
def test_rounding_moves_forward_to_the_end(rounding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Effort, "of", lambda macs: Effort(60, 8))
    model = residual()
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(0).normal(0, 1, (32, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)
    told: list[float] = []
    quantize(
        model, network, uniform_bits(network, 4, 8), calibrate(model, x, seed=0), x=x, rounding=rounding,
        advance=lambda done, total: told.append(done / total),
    )  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == 1
