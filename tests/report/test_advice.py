"""Warnings about results."""

import pytest

from tapc.board import load_board
from tapc.options import Options
from tapc.report.advice import advice
from tapc.report.schema import Accuracy


def accuracy(device: float | None, samples: int = 100) -> Accuracy:
    return Accuracy(float=90.0, onnx=device, device=device, samples=samples, onnx_agreement=None, onnx_max_step=None)


@pytest.mark.parametrize(("device", "samples", "count"), [
    (89.0, 100, 0), (86.0, 100, 0), (60.0, 100, 1), (60.0, 8, 0), (None, 100, 0),
])  # fmt: skip
def test_large_losses_of_accuracy(device: float | None, samples: int, count: int) -> None:
    found = advice(Options(), load_board("pico"), accuracy(device, samples))
    assert len(found) == count
    assert all("90.0 %" in text and f"{device:.1f} %" in text for text in found)


def test_more_flash_than_the_board_has() -> None:
    board = load_board("nrf52840dk")
    (text,) = advice(Options(flash=64 << 20), board, accuracy(None))
    assert f"{board.flash_bytes(external=True):,}" in text
    (text,) = advice(Options(flash=64 << 20, no_external=True), board, accuracy(None))
    assert f"{board.flash.size:,}" in text
    assert advice(Options(flash=board.flash.size), board, accuracy(None)) == ()
