"""What is said about training: how it was done, what was tried, and what it changed."""

import numpy as np
import pytest

from tapc.base.options import Options
from tapc.data import Samples
from tapc.finetune import Trained, Training
from tapc.hardware.board import load_board
from tapc.report.advice import advice
from tapc.report.schema import Accuracy
from tapc.report.table import training_lines
from tapc.report.training import training_report

SAMPLES = Samples(np.zeros((41, 3, 2, 2), np.float32), np.zeros(41, np.int64), "images.zip: 41 samples", pictures=True)


def report(rate: float | None):
    made = Trained(None, rate, 0.5, ((0.0005, 0.6), (0.0002, 0.25)))  # type: ignore[arg-type]
    return training_report(SAMPLES, Training(epochs=7, batch=8), made, {"top1": 70.0}, {"top1": 81.5})


def test_training_is_reported() -> None:
    found = report(0.0002)
    assert (found.epochs, found.samples, found.kept_back, found.labels, found.augment) == (7, 41, 3, True, True)
    assert [(run.rate, run.loss) for run in found.runs] == [(0.0005, 0.6), (0.0002, 0.25)]
    assert (found.used_rate, found.loss_before, found.loss_after) == (0.0002, 0.5, 0.25)
    text = "\n".join(training_lines(found))
    for expected in ("7 epochs", "41 samples", "images.zip", "0.6 at rate 0.0005", "0.25 at rate 0.0002", "0.5 before",
                     "70.0 % before training, 81.5 % after"):  # fmt: skip
        assert expected in text
    assert "did not help" not in text


def test_training_that_did_not_help_says_so() -> None:
    found = report(None)
    assert found.loss_after == found.loss_before
    assert "did not help" in "\n".join(training_lines(found))


@pytest.mark.parametrize("trained", [True, False])
def test_advice_on_a_trained_network_is_to_train_longer(trained: bool) -> None:
    accuracy = Accuracy(float=90.0, onnx=50, device=50, samples=100, onnx_agreement=None, onnx_max_step=None)
    (text,) = advice(Options(), load_board("pico"), accuracy, trained)
    assert ("--epochs" in text) == trained
