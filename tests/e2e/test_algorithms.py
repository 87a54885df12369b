"""--optimize balanced and speed: convolutions by transforms where flash and RAM allow it, and every layer exact."""

from pathlib import Path

import numpy as np
import pytest

import tapc
from e2e.settings import compiled, separable_maps
from graph_builder import Builder
from tapc.allocate import AllocationError
from tapc.base.errors import UsageError
from tapc.base.progress import Stages
from tapc.flow.algorithms import BALANCED, BALANCED_RAM
from tapc.flow.profile import profile
from tapc.flow.rerun import open_build, rerun
from tapc.flow.showing import describe
from tapc.hardware.board import load_board
from thorough import thorough


def transformed(report: tapc.Report) -> list[str]:
    return [layer.name for layer in report.layers if "-f" in layer.op]


@pytest.mark.parametrize("board", ["stm32h7", thorough("nrf52840dk"), "pico"])
def test_speed(board: str, tmp_path: Path) -> None:
    usual, fast = (compiled(tmp_path, board, name, optimize=name) for name in ("size", "speed"))
    assert fast.exact
    assert not transformed(usual)
    assert {"a1", "a2", "b2"} <= set(transformed(fast))
    assert fast.instructions is not None
    assert usual.instructions is not None
    assert fast.instructions < usual.instructions
    assert fast.predicted_instructions == pytest.approx(fast.instructions, rel=0.15)
    assert fast.memory.arena.predicted == fast.memory.arena.measured
    assert fast.memory.flash.measured is not None
    assert fast.memory.flash.predicted == pytest.approx(fast.memory.flash.measured, rel=0.05)
    # A build is opened with the algorithms that it has.
    again = rerun(tmp_path / "speed", data=None, samples=2, seed=1, all_layers=True, stages=Stages())
    assert all(layer.exact for layer in again.layers)
    assert {
        name for name, s in open_build(tmp_path / "speed").lowered().schedules.items() if s.algorithm != "direct"
    } == set(transformed(fast))
    if board != "pico":
        counted = {layer.name: layer.cycles for layer in profile(tmp_path / "speed").layers}
        assert all(counted[name] for name in transformed(fast))


@pytest.mark.parametrize("board", ["stm32h7", thorough("pico")])
def test_max_pooling_behind(board: str, tmp_path: Path) -> None:
    """In the tiles where windows fill them (c1), else a few lines at a time (c2)."""
    b = Builder((1, 3, 20, 20))
    y = b.node("Relu", [b.conv("x", "c1", 3, 8)], "c1.relu")
    y = b.node("MaxPool", [y], "p1", kernel_shape=[2, 2], strides=[2, 2])
    y = b.node("MaxPool", [b.conv(y, "c2", 8, 16)], "p2", kernel_shape=[3, 3], strides=[3, 3])
    y = b.node("Relu", [y], "p2.relu")
    model = b.build(b.gemm(b.node("Flatten", [y], "flatten", axis=1), "fc", 144, 5)).onnx
    usual, fast = (compiled(tmp_path, board, name, model, optimize=name) for name in ("size", "speed"))
    assert fast.exact
    ops = {layer.name: layer.op for layer in fast.layers}
    assert {layer.name: layer.op for layer in usual.layers}["c1"] == "conv+maxpool"
    assert all(ops[name].startswith("conv-f") and ops[name].endswith("+maxpool") for name in ("c1", "c2"))
    assert fast.instructions is not None
    assert usual.instructions is not None
    assert fast.instructions < 0.8 * usual.instructions
    assert fast.predicted_instructions == pytest.approx(fast.instructions, rel=0.15)
    assert {layer.name: layer.alternatives for layer in fast.layers}["c1"]


@pytest.mark.parametrize("board", [thorough("nrf52840dk"), "pico"])
def test_frequencies_that_each_call_makes(board: str, tmp_path: Path) -> None:
    """No more flash than the direct form but for code, and RAM instead."""
    b = Builder((1, 16, 24, 24))
    y = b.node("Relu", [b.conv("x", "c1", 16, 16)], "c1.relu")
    y = b.node("MaxPool", [y], "p1", kernel_shape=[2, 2], strides=[2, 2])
    y = b.node("GlobalAveragePool", [b.node("Relu", [b.conv(y, "c2", 16, 8)], "c2.relu")], "pool")
    model = b.build(b.gemm(b.node("Flatten", [y], "flatten", axis=1), "fc", 8, 5)).onnx
    usual = compiled(tmp_path, board, "size", model, optimize="size")
    assert usual.memory.flash.measured is not None
    flash = usual.memory.flash.measured + 9000
    fast = compiled(tmp_path, board, "speed", model, optimize="speed", flash=flash)
    assert fast.exact
    assert {layer.name: layer.op for layer in fast.layers}["c1"] == "conv-f4r+maxpool"
    assert fast.memory.flash.measured is not None
    assert fast.memory.flash.measured <= flash
    assert fast.memory.arena.predicted == fast.memory.arena.measured
    assert fast.memory.arena.measured is not None
    assert fast.memory.arena.measured > 16 * 16 * 36 * 2
    assert fast.predicted_instructions == pytest.approx(fast.instructions, rel=0.1)
    ways = {way.algorithm: way for way in fast.layers[0].alternatives}
    assert ways["f4r"].constant_bytes <= 1.02 * ways["direct"].constant_bytes < ways["f4"].constant_bytes / 4


@pytest.mark.parametrize("board", ["nrf52840dk", thorough("pico")])
def test_along_a_line(board: str, tmp_path: Path) -> None:
    b = Builder((1, 16, 1, 160))
    y = "x"
    for name, taps, inputs, outputs in (("c1", 3, 16, 16), ("c2", 5, 16, 16)):
        weights = b.rng.normal(0, (2 / (taps * inputs)) ** 0.5, (outputs, inputs, 1, taps)).astype(np.float32)
        w, bias = b.constant(f"{name}.weight", weights), b.constant(f"{name}.bias", np.zeros(outputs, np.float32))
        pads = [0, taps // 2] * 2
        y = b.node("Conv", [y, w, bias], name, kernel_shape=[1, taps], strides=[1, 1], pads=pads, group=1)
        y = b.node("MaxPool", [b.node("Relu", [y], f"{name}.relu")], f"{name}.p", kernel_shape=[1, 2], strides=[1, 2])
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flatten", axis=1)
    model = b.build(b.gemm(y, "fc", 16, 5)).onnx
    usual, fast = (compiled(tmp_path, board, name, model, optimize=name) for name in ("size", "speed"))
    assert fast.exact
    ops = {layer.name: layer.op.rstrip("r") for layer in fast.layers}
    assert (ops["c1"], ops["c2"]) == ("conv-f4", "conv-f2")
    assert fast.instructions is not None
    assert usual.instructions is not None
    assert fast.instructions < 0.85 * usual.instructions
    assert fast.predicted_instructions == pytest.approx(fast.instructions, rel=0.15)


def test_balanced(tmp_path: Path) -> None:
    """Some layers: as many as a quarter more flash holds."""
    usual, some, fast = (
        compiled(tmp_path, "nrf52840dk", name, optimize=name) for name in ("size", "balanced", "speed")
    )
    assert some.exact
    assert usual.memory.flash.measured is not None
    assert some.memory.flash.measured is not None
    assert some.memory.arena.measured is not None
    assert usual.memory.arena.measured is not None
    assert some.memory.flash.measured <= BALANCED * usual.memory.flash.measured
    assert some.memory.arena.measured <= BALANCED_RAM * usual.memory.arena.measured
    assert len(transformed(some)) < len(transformed(fast))


def test_size_on_a_core_that_issues_two(tmp_path: Path) -> None:
    """Single loads in a shorter loop: fewer cycles, and the code is no longer than that of other ARMv7E-M cores."""
    other, own = (compiled(tmp_path, board, board, optimize="size") for board in ("nrf52840dk", "stm32h7"))
    assert own.exact
    assert own.cycles_estimated is not None
    assert other.cycles_estimated is not None
    assert {schedule.single for schedule in own.schedules.values()} == {True}
    assert not other.schedules
    assert own.cycles_estimated < 0.8 * other.cycles_estimated
    code = {
        report.board: report.memory.flash.measured - sum(layer.flash_bytes for layer in report.layers)
        for report in (own, other)
        if report.memory.flash.measured is not None
    }
    assert code["stm32h7"] < 1.05 * code["nrf52840dk"]


def test_narrow_weights_as_bytes(tmp_path: Path) -> None:
    """Speed spends the flash of 8-bit weights on layers that are faster so; size never does."""
    usual, fast = (
        compiled(tmp_path, "stm32h7", name, separable_maps().onnx, optimize=name, wbits=(4,))
        for name in ("size", "speed")
    )
    nested = {name for name, schedule in fast.schedules.items() if schedule.nested}
    ways = {layer.name: {way.algorithm: way for way in layer.alternatives} for layer in fast.layers}
    named = {name for name, own in ways.items() if "nested" in own and own["nested"].taken}
    assert fast.exact
    assert not any(way.taken for layer in usual.layers for way in layer.alternatives if way.algorithm == "nested")
    assert named
    assert named <= nested
    for name in named:
        own, direct = ways[name]["nested"], ways[name]["direct"]
        assert own.cycles is not None
        assert direct.cycles is not None
        assert own.cycles < direct.cycles
        # All but biases and factors take 8 bits a weight.
        assert direct.constant_bytes < own.constant_bytes < 2 * direct.constant_bytes
        assert own.constant_bytes == next(layer.flash_bytes for layer in fast.layers if layer.name == name)


def test_the_report_names_algorithms_and_what_others_would_have_cost(tmp_path: Path) -> None:
    report = compiled(tmp_path, "stm32h7", "some", optimize="balanced", simulate=False)
    ways = {layer.name: {way.algorithm: way for way in layer.alternatives} for layer in report.layers}
    taken = {name: next(w for w in own.values() if w.taken) for name, own in ways.items() if own}
    assert {name for name, way in taken.items() if way.algorithm != "direct"} == set(transformed(report))
    for layer in report.layers:
        if layer.name in taken:
            assert taken[layer.name].instructions == layer.predicted_instructions
            assert taken[layer.name].constant_bytes == layer.flash_bytes
    for name in transformed(report):
        direct = ways[name]["direct"]
        assert taken[name].cycles is not None
        assert direct.cycles is not None
        assert taken[name].cycles < direct.cycles
        assert taken[name].constant_bytes > direct.constant_bytes
    text = describe(tmp_path / "some", "plan")
    for name, way in taken.items():
        line = next(line for line in text.splitlines() if line.split()[:2] == [name, "*"])
        assert line.split()[2] == way.algorithm
        assert f"{way.instructions:,}" in line


def test_a_budget_of_time(tmp_path: Path) -> None:
    """Balanced gives more flash where the time needs it; the unit is the budget's throughout."""
    board = load_board("nrf52840dk")
    usual, some = (compiled(tmp_path, board.name, name, optimize=name) for name in ("size", "balanced"))
    assert usual.cycles_estimated is not None
    assert some.cycles_estimated is not None
    milliseconds = some.cycles_estimated / board.clocks.cpu_hz * 1e3
    fast = compiled(tmp_path, board.name, "ms", optimize="balanced", latency=f"{0.9 * milliseconds:.6f}ms")
    assert fast.exact
    assert fast.cycles_estimated is not None
    assert fast.cycles_estimated <= 0.9 * some.cycles_estimated
    assert set(transformed(some)) < set(transformed(fast))
    assert fast.allocation.latency_unit == "ms"
    took = fast.cycles_estimated / board.clocks.cpu_hz * 1e3
    assert fast.allocation.used["latency"]["used"] == pytest.approx(took, 0.25)
    with pytest.raises(AllocationError, match=r"the smallest budget that works is [0-9.]+ ms"):
        compiled(tmp_path, board.name, "never", optimize="size", latency=f"{0.9 * milliseconds:.6f}ms")
    with pytest.raises(UsageError, match=r"nothing tells the cycles of rv32imc"):
        compiled(tmp_path, "hifive1", "riscv", latency="5ms")


def test_budgets(tmp_path: Path) -> None:
    """Flash and RAM that are given bound what speed may take."""
    usual = compiled(tmp_path, "nrf52840dk", "size", optimize="size")
    assert usual.memory.flash.measured is not None
    assert usual.memory.ram.measured is not None
    flash = usual.memory.flash.measured + 6000
    tight = compiled(tmp_path, "nrf52840dk", "flash", optimize="speed", flash=flash)
    assert tight.memory.flash.measured is not None
    assert tight.memory.flash.measured <= flash
    narrow = compiled(tmp_path, "nrf52840dk", "ram", optimize="speed", ram=usual.memory.ram.predicted + 200)
    assert narrow.memory.ram.measured is not None
    assert narrow.memory.ram.measured <= usual.memory.ram.predicted + 200
