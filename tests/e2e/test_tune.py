"""Tuning with real measurements."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import tapc
from graph_builder import pooled
from kernels.programs import conv_op, lowered, program, tensor
from tapc.base.cache import Store
from tapc.flow.build import tune_for
from tapc.hardware.target import load_target
from tapc.kernels.conv import ConvSpec
from tapc.kernels.schedule import TuneFor
from tapc.lower import Lowered, scheduled
from tapc.tuning.tune import tune


def network(isa: str, mode: str) -> Lowered:
    rng = np.random.default_rng(3)
    x, middle, y = tensor("x", (6, 5, 8), 8, rng), tensor("middle", (6, 5, 12), 8, rng), tensor("y", (3, 3, 10), 8, rng)
    first = conv_op(rng, x, middle, (3, 3), (1, 1), (1, 1, 1, 1), 1, 4, "first")
    second = conv_op(rng, middle, y, (3, 3), (2, 2), (1, 1, 1, 1), 1, 8, "second")
    second = replace(second, inputs=("middle",))
    return lowered(program([first, second], [x, middle, y], mode, isa))


@pytest.mark.parametrize(
    ("core", "by"), [("cortex-m7", "cycles"), ("cortex-m4", "instructions"), ("cortex-m0plus", "instructions")]
)
def test_measurements_are_cached_and_the_fastest_wins(core: str, by: TuneFor, tmp_path: Path) -> None:
    target = load_target(core)
    net, store = network(target.isa, target.requantize), Store(tmp_path)
    seen: list[tuple[int, int]] = []
    first = tune(net, target, 5, by=by, store=store, advance=lambda done, total: seen.append((done, total)))
    assert first.measured > 2
    assert first.cached == 0
    assert seen[-1][0] == seen[-1][1] == first.measured
    assert first.after <= first.before
    again = tune(net, target, 5, by=by, store=store)
    assert (again.measured, again.cached) == (0, first.measured)
    assert again.schedules == first.schedules
    more = tune(net, target, 50, by=by, store=store)
    assert more.cached == first.measured
    assert more.after <= first.after


def test_single_loads_are_kept_where_cycles_count(tmp_path: Path) -> None:
    """They take more instructions and fewer cycles: what counts decides."""
    target = load_target("cortex-m7")
    net = network(target.isa, target.requantize)
    specs = {step.op.name: step.spec for step in net.steps if isinstance(step.spec, ConvSpec)}
    singles = {name: replace(spec.form.schedule, single=True) for name, spec in specs.items()}
    net = scheduled(net.program, singles)
    found = {by: tune(net, target, 9, by=by, store=Store(tmp_path)) for by in ("instructions", "cycles")}
    assert found["cycles"].schedules["second"].single
    assert not found["instructions"].schedules["second"].single
    assert found["instructions"].after < found["instructions"].before
    assert tune_for(tapc.Options(), target) == "cycles"
    assert tune_for(tapc.Options(), load_target("cortex-m4")) == "instructions"
    assert tune_for(tapc.Options(tune_for="instructions"), target) == "instructions"


def test_variants_never_need_more_memory(tmp_path: Path) -> None:
    target = load_target("cortex-m7")
    net = network(target.isa, target.requantize)
    result = tune(net, target, 8, store=Store(tmp_path))
    for step in net.steps:
        assert isinstance(step.spec, ConvSpec)
        schedule = result.schedules.get(step.op.name)
        if schedule is not None:
            tuned = replace(step.spec, tuned=schedule)
            assert tuned.scratch_bytes <= step.spec.scratch_bytes
            assert tuned.weight_words <= step.spec.weight_words


def test_the_second_tuned_build_simulates_nothing_and_gives_the_same_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(pooled().onnx, tmp_path / "net.onnx")
    options = tapc.Options(wbits=(4,), calibration=16, eval=2, tune=3, rounding="nearest")

    def compiled(name: str) -> tapc.Report:
        return tapc.compile(
            tmp_path / "net.onnx", board="nrf52840dk", data="random", output=tmp_path / name, options=options
        ).report

    first = compiled("a")
    monkeypatch.setattr("tapc.tuning.tune.simulate", lambda *a, **k: pytest.fail("a schedule was simulated"))
    second = compiled("b")
    assert first.exact
    assert second.exact
    assert first.schedules == second.schedules
    assert second.provenance["tuning"].startswith("0 schedules measured")
    assert (tmp_path / "a" / "firmware.elf").read_bytes() == (tmp_path / "b" / "firmware.elf").read_bytes()
