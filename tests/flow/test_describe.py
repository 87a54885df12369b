"""What a build writes into its C library when all is measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from graph_builder import residual
from tapc.base.options import Options
from tapc.cli import main
from tapc.cli.compile import command_line
from tapc.data import PixelUnits, Samples
from tapc.flow.describe import call, units_of

X = np.zeros((1, 3, 4, 4), np.float32)
PLAIN = PixelUnits()
SCALED = PixelUnits(1 / 255, (0.5,), (0.5,))


class Model:
    """As much of a float model as tells its units."""

    def __init__(self, units: PixelUnits) -> None:
        self.units = units


@pytest.mark.parametrize(
    ("model", "units", "raw", "expected"),
    [
        (SCALED, SCALED, (0.0, 255.0), SCALED),  # pictures
        (PLAIN, PLAIN, (0.0, 255.0), PLAIN),  # bytes, as they are
        (PLAIN, PLAIN, (0.0, 1.0), None),  # floats, as they are
        (PLAIN, PLAIN, (-128.0, 127.0), None),
        (SCALED, PLAIN, None, SCALED),  # random inputs: what the network says
        (PLAIN, PLAIN, None, None),
        (PLAIN, SCALED, (-3.5, 9.25), SCALED),  # floats that were normalized
    ],
)
def test_units(model: Any, units: PixelUnits, raw: tuple[float, float] | None, expected: PixelUnits | None) -> None:
    network: Any = Model(model)
    assert units_of(network, Samples(X, None, "", units=units, raw=raw)) == expected


def test_a_call_is_told_without_defaults() -> None:
    options = replace(Options(), wbits=(4,), seed=3)
    told = call("net.onnx", "pico", options, data=Path("a b.npz"), train=None)
    assert told == "tapc.compile('net.onnx', board='pico', data='a b.npz', options=Options(wbits=(4,), seed=3))"
    assert call(object(), "pico", Options(), data=X) == "tapc.compile(object, board='pico', data=ndarray)"


def test_the_command_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was given and changes the result, in words that a shell reads back."""
    told: list[str] = []

    def compiled(*given: Any, **options: Any) -> None:
        told.append(command_line(click.get_current_context()))
        raise click.exceptions.Exit(0)

    monkeypatch.setattr("tapc.flow.pipeline.compile", compiled)
    monkeypatch.chdir(tmp_path)
    onnx.save(residual().onnx, "my net.onnx")
    line = ["compile", "my net.onnx", "--board", "pico", "--mean", "0.5,0.25", "--wbits", "4,8", "--no-equalize",
            "--no-external", "--prefix", "kws"]  # fmt: skip
    result = CliRunner().invoke(main, [*line, "-o", "elsewhere", "--json"])
    assert result.exit_code == 0, result.output
    words = told[0].split(" --")
    assert words[0] == "tapc compile 'my net.onnx'"
    assert set(words[1:]) == {"board pico", "mean 0.5,0.25", "wbits 4,8", "no-equalize", "no-external", "prefix kws"}


def test_a_prefix_that_cannot_be_is_refused_before_any_work() -> None:
    result = CliRunner().invoke(main, ["compile", "resnet8", "--board", "pico", "--prefix", "int"])
    assert result.exit_code == 2
    assert "prefix 'int'" in result.output
