"""Accuracy over seeds: settings, what is tested, what is counted."""

from pathlib import Path

import numpy as np
import pytest

from tapc.base.errors import DataError, UsageError
from tapc.cli.accuracy import print_summary
from tapc.data import load_samples
from tapc.flow.accuracy import Figure, Summary, evidence_of, figure, parse_setting, summarize, trials, with_bits
from tapc.frontend import load
from tapc.graph.network import Bits
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.lower import lower


@pytest.mark.parametrize("text", ["w3a8", "m1a8", "m9a8", "w4", "w4a16", "", "wxa8", "w4r4", "m4r8"])
def test_no_setting(text: str) -> None:
    with pytest.raises(UsageError, match="no setting"):
        parse_setting(text)


def test_settings() -> None:
    assert parse_setting("w4a8").mixed is False
    half = parse_setting("m4.5a4")
    assert (half.weights, half.activations, half.mixed) == (4.5, (4,), True)
    assert parse_setting("m4r4").activations == (4, 8)


def write(path: Path, count: int, *, labels: bool = True) -> Path:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)
    np.savez(path, x=x, **({"y": rng.integers(0, 10, count)} if labels else {}))
    return path


def test_seeds_divide_a_single_set_anew(tmp_path: Path) -> None:
    data = write(tmp_path / "d.npz", 40)
    model = load("resnet8")
    found = list(trials(model, data, seeds=2, calibration=12, equalize=False))
    everything = load_samples(data, model.input_shape, pixel_scale=model.units, count=None, split="all").x
    for trial in found:
        assert len(trial.x) == 12
        assert len(trial.test.x) == 28
        both = np.concatenate([trial.x, trial.test.x]).reshape(40, -1)
        assert len(np.unique(both, axis=0)) == 40
        assert np.isin(both.sum(axis=1), everything.reshape(40, -1).sum(axis=1)).all()
    assert not np.array_equal(found[0].x, found[1].x)


def test_labels_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labels"):
        next(trials(load("resnet8"), write(tmp_path / "d.npz", 10, labels=False), seeds=1, calibration=4))


def test_figures_count_bits_and_an_average_is_kept(tmp_path: Path) -> None:
    model = load("resnet8")
    board = load_board("stm32h7")
    target = load_target(board.core)
    trial = next(trials(model, write(tmp_path / "d.npz", 40), seeds=1, calibration=12, equalize=False))
    evidence = evidence_of(trial, "error", "gptq")
    parameters = sum(layer.parameters for layer in trial.network.layers)
    macs = sum(layer.macs for layer in trial.network.layers)
    _, four = with_bits(trial, evidence, parse_setting("w4a8"), board, target)
    measured, _ = figure(trial, four, "w4a8", "nearest")
    assert measured.weight_bytes == parameters // 2
    assert measured.bops == macs * 32
    assert 0 <= measured.agreement <= 100
    _, mixed = with_bits(trial, evidence, parse_setting("m3a8"), board, target)
    used = sum(layer.parameters * mixed.weights[layer.name] for layer in trial.network.layers)
    assert used <= 3 * parameters
    assert set(mixed.weights.values()) <= {2, 4, 8}
    by_channel = evidence_of(trial, "error", "nearest", score_exponent=0.5, granularity="channel")
    divided, parts = with_bits(trial, by_channel, parse_setting("m2.5a8"), board, target)
    assert len(divided.network.layers) > len(trial.network.layers)
    measured, _ = figure(divided, parts, "m2.5a8", "nearest")
    assert measured.weight_bytes <= parameters * 2.5 / 8
    assert measured.bops == sum(layer.macs * np.prod(parts.pair(layer)).item() for layer in divided.network.layers)
    _, alone = with_bits(trial, by_channel, parse_setting("w4a8"), board, target)
    assert alone == four


def test_wider_activations_take_no_more_ram(tmp_path: Path) -> None:
    model, board = load("resnet8"), load_board("stm32h7")
    target = load_target(board.core)
    trial = next(trials(model, write(tmp_path / "d.npz", 40), seeds=1, calibration=12, equalize=False))
    evidence = evidence_of(trial, "uniform", "nearest")
    narrow, wide, eight = (
        with_bits(trial, evidence, parse_setting(text), board, target)[1] for text in ("w4a4", "m4r4", "w4a8")
    )  # fmt: skip

    def ram(bits: Bits) -> int:
        """Bytes of the arena of the integer program that these bits give."""
        _, quantized = figure(trial, bits, "x", "nearest")
        return lower(quantized.onnx, "net", target.requantize, target.isa).plan.size

    assert ram(wide) <= ram(narrow) < ram(eight)
    assert sum(wide.activations.values()) > sum(narrow.activations.values())
    assert set(wide.activations.values()) == {4, 8}


def test_mean_and_deviation() -> None:
    def one(seed: int, top1: float) -> Figure:
        return Figure("w4a8", "gptq", seed, 100, 90.0, top1, 95.0, 0.1, 1000, 2000, "top1", 90.0, top1, {})

    (summary,) = summarize([one(0, 88.0), one(1, 90.0), one(2, 86.0)])
    assert (summary.seeds, summary.top1, summary.top1_sd, summary.drop) == (3, 88.0, 2.0, 2.0)
    assert summarize([one(0, 88.0)])[0].top1_sd == 0.0


def test_r2_is_no_percentage(capsys: pytest.CaptureFixture[str]) -> None:
    row = Summary(
        setting="w4a8", rounding="gptq", seeds=1, samples=9, float_top1=None, top1=None, top1_sd=None, drop=1.5,
        drop_sd=0.0, agreement=None, weight_bytes=10, bops=10, metric="regression", float_score=91.25, score=89.75,
        score_sd=0.0,
    )  # fmt: skip
    print_summary("net", (row,))
    printed = capsys.readouterr().out
    assert "91.25" in printed
    assert "%" not in printed
