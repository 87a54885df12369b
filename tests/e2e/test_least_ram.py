"""--optimize ram: the smallest peak of RAM, and every layer exact."""

from pathlib import Path

import onnx
import pytest

import tapc
from e2e.settings import separable_maps
from graph_builder import Builder, Model
from tapc.base.progress import Stages
from tapc.flow.rerun import open_build, rerun
from thorough import thorough


def residual_maps() -> Model:
    """Return a network like ResNet-8: three stacks, of which the first has the largest maps."""
    b = Builder((1, 3, 20, 20))
    y, inputs = b.node("Relu", [b.conv("x", "stem", 3, 8)], "stem.relu"), 8
    for name, outputs, stride in (("a", 8, 1), ("b", 16, 2)):
        own = b.node("Relu", [b.conv(y, f"{name}1", inputs, outputs, stride=stride)], f"{name}1.relu")
        own = b.conv(own, f"{name}2", outputs, outputs)
        other = y if stride == 1 else b.conv(y, f"{name}s", inputs, outputs, kernel=1, stride=2)
        y, inputs = b.node("Relu", [b.node("Add", [own, other], f"{name}.add")], f"{name}.relu"), outputs
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flatten", axis=1)
    return b.build(b.gemm(y, "fc", 16, 5))


def compiled(folder: Path, name: str, model: Model, **changes: object) -> tapc.Report:
    onnx.save(model.onnx, folder / "net.onnx")
    given = {
        "wbits": (8,),
        "calibration": 8,
        "eval": 2,
        "rounding": "nearest",
        "equalize": False,
        "board": "nucleo-l4r5zi",
    }
    return tapc.compile(folder / "net.onnx", data="random", output=folder / name, **given | changes).report  # type: ignore[arg-type]


@pytest.mark.parametrize("network", [thorough(residual_maps), separable_maps])
def test_the_smallest_peak(tmp_path: Path, network: object) -> None:
    model = network()  # type: ignore[operator]
    reports = {name: compiled(tmp_path, name, model, optimize=name) for name in ("balanced", "size", "ram")}
    taken = {name: report.memory.ram.measured or 0 for name, report in reports.items()}
    assert taken["ram"] < 0.8 * taken["size"]
    assert taken["size"] <= taken["balanced"]
    least = reports["ram"]
    assert least.exact
    assert least.patches
    assert least.memory.arena.measured == least.memory.arena.predicted
    assert (least.instructions or 0) <= 2 * (reports["size"].instructions or 0)
    assert "--optimize ram" in least.provenance["least RAM"]
    # A build is opened with the patches and schedules that it has.
    again = rerun(tmp_path / "ram", data=None, samples=2, seed=1, all_layers=True, stages=Stages())
    assert all(layer.exact for layer in again.layers)
    assert open_build(tmp_path / "ram").lowered().plan.size == least.memory.arena.measured


@pytest.mark.thorough
def test_without_patches_scratch_memory_is_what_is_left(tmp_path: Path) -> None:
    """One pixel a tile where the scratch memory is part of the peak, two wherever else."""
    model = residual_maps()
    whole = compiled(tmp_path, "whole", model, optimize="ram", no_patches=True)
    usual = compiled(tmp_path, "usual", model, optimize="size")
    assert whole.exact
    assert not whole.patches
    assert whole.memory.arena.measured is not None
    assert usual.memory.arena.measured is not None
    # a1 reads and makes a map of 20 x 20 x 8 while nothing else is alive; a2 has its residual beside both.
    column = 2 * 9 * 8
    assert whole.memory.arena.measured == usual.memory.arena.measured - column
    assert {whole.schedules[name].pixels for name in ("a1", "a2")} == {1}
    assert {whole.schedules[name].pixels for name in ("b1", "b2")} == {2}


def test_budgets_come_first(tmp_path: Path) -> None:
    model = separable_maps()
    least = compiled(tmp_path, "least", model, optimize="ram")
    whole = compiled(tmp_path, "whole", model, optimize="ram", no_patches=True)
    assert least.memory.ram.measured is not None
    assert whole.memory.ram.measured is not None
    assert whole.instructions is not None
    some = compiled(tmp_path, "some", model, optimize="ram", latency=f"{int(1.03 * whole.instructions)}")
    assert some.instructions is not None
    assert some.instructions <= 1.03 * whole.instructions
    assert some.memory.ram.measured is not None
    assert least.memory.ram.measured <= some.memory.ram.measured <= whole.memory.ram.measured
    mixed = compiled(tmp_path, "mixed", model, optimize="ram", wbits=(2, 4, 8), target_bits=4, abits=(4, 8),
                     proxy="parameters", ram=least.memory.ram.predicted)  # fmt: skip
    assert mixed.exact
    assert mixed.memory.ram.measured is not None
    assert mixed.memory.ram.measured <= least.memory.ram.predicted
