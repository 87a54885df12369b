"""Warnings about results."""

from dataclasses import replace

import numpy as np
import pytest

from tapc.base.options import Options
from tapc.data import PixelUnits, Samples
from tapc.data.metrics import Metric
from tapc.hardware.board import load_board
from tapc.report.advice import advice, doubts
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


@pytest.mark.parametrize(("sqnr", "same", "count"), [(30.0, 99.0, 0), (None, None, 0), (9.0, None, 1), (9.0, 50.0, 2)])
def test_outputs_that_have_little_to_do_with_each_other(sqnr: float | None, same: float | None, count: int) -> None:
    found = advice(
        Options(), load_board("pico"), accuracy(None).model_copy(update={"sqnr_db": sqnr, "float_agreement": same})
    )
    assert len(found) == count


def test_lost_areas_and_r2() -> None:
    for name, title in (("auc", "AUC"), ("r2", "R2")):
        scores = {"float": {name: 0.9}, "device": {name: 0.7}}
        lost = Accuracy(float=None, onnx=None, device=None, samples=100, onnx_agreement=None, onnx_max_step=None,
                        scores=scores)  # fmt: skip
        (text,) = advice(Options(), load_board("pico"), lost)
        assert text.startswith(f"{title} fell from 0.900")


def test_a_kept_quantization_has_no_bits_to_give() -> None:
    (text,) = advice(Options(), load_board("pico"), accuracy(60.0), kept=True)
    assert "--requantize" in text
    assert "--target-bits" not in text


def pixels(units: PixelUnits, count: int = 100) -> Samples:
    y = np.arange(count) % 4
    return Samples(np.zeros((count, 1), np.float32), y, "d", units=units, raw=(0, 255), whole=True)


TOP1 = Metric("top1", 4)
RIGHT = 8 * np.eye(4, dtype=np.float32)[np.arange(100) % 4]
WRONG = np.roll(RIGHT, 1, axis=1)


@pytest.mark.parametrize(("units", "logits", "told"), [
    (PixelUnits(), RIGHT, ""),  # the network takes pixels as they are
    (PixelUnits(), WRONG, "integers from 0 to 255 and enter the network as they are"),
    (PixelUnits(), None, "integers from 0 to 255 and enter the network as they are"),
    (PixelUnits(given=True), None, ""),
    (PixelUnits(1 / 255), RIGHT, ""),
    (PixelUnits(1 / 255), WRONG, "check the inputs' units"),
    (PixelUnits(1 / 255), None, ""),
])  # fmt: skip
def test_units_that_are_probably_wrong(units: PixelUnits, logits: np.ndarray | None, told: str) -> None:
    found = doubts(pixels(units), TOP1, logits)
    assert bool(found) == bool(told)
    assert all(told in text for text in found)


def test_without_labels_integers_at_scale_1_are_doubtful() -> None:
    unlabelled = replace(pixels(PixelUnits()), y=None)
    assert len(doubts(unlabelled, Metric("none", 4), RIGHT)) == 1
    assert doubts(replace(unlabelled, whole=False), Metric("none", 4), RIGHT) == ()
