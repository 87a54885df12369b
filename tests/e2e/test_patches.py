"""Networks whose activations fit in patches only."""

from pathlib import Path

import onnx
import pytest

import tapc
from graph_builder import Builder, Model
from tapc.allocate import AllocationError
from tapc.base.progress import Stages
from tapc.flow.profile import profile
from tapc.flow.rerun import open_build, rerun
from tapc.flow.showing import describe
from thorough import thorough


def blocks() -> Model:
    """Return MobileNetV2's blocks on an image of 40 x 40: the second adds its input, the third halves the map."""
    b = Builder((1, 3, 40, 40))
    y = b.node("Relu", [b.conv("x", "stem", 3, 8, stride=2)], "stem.relu")
    for name, outputs, stride in (("a", 8, 1), ("b", 8, 1), ("c", 12, 2)):
        x = y
        y = b.clip(b.conv(y, f"{name}.expand", 8, 40, kernel=1), f"{name}.clip1", 0.0, 6.0)
        y = b.clip(b.conv(y, f"{name}.dw", 40, 40, stride=stride, groups=40), f"{name}.clip2", 0.0, 6.0)
        y = b.conv(y, f"{name}.project", 40, outputs, kernel=1)
        y = b.node("Add", [x, y], f"{name}.add") if name == "b" else y
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flatten", axis=1)
    return b.build(b.gemm(y, "fc", 12, 5))


def compiled(folder: Path, name: str, **changes: object) -> tapc.Report:
    onnx.save(blocks().onnx, folder / "net.onnx")
    given = {
        "wbits": (8,),
        "calibration": 8,
        "eval": 2,
        "rounding": "nearest",
        "equalize": False,
        "board": "nrf52840dk",
    }
    return tapc.compile(folder / "net.onnx", data="random", output=folder / name, **given | changes).report  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tapc.Report, tapc.Report]:
    """A folder with the network compiled as it is, and in half of the RAM."""
    folder = tmp_path_factory.mktemp("patches")
    plain = compiled(folder, "plain")
    return folder, plain, compiled(folder, "patched", ram=plain.memory.ram.predicted // 2)


def test_ram_has_patches_computed(builds: tuple[Path, tapc.Report, tapc.Report]) -> None:
    _, plain, report = builds
    assert plain.patches == ()
    assert report.patches
    assert report.exact
    assert report.memory.ram.measured is not None
    assert report.memory.ram.measured <= report.memory.ram.limit == plain.memory.ram.predicted // 2
    assert report.memory.arena.measured == report.memory.arena.predicted
    assert plain.instructions is not None
    assert plain.instructions < report.instructions < 1.15 * plain.instructions
    assert report.predicted_instructions == pytest.approx(report.instructions, rel=0.08)


def test_weights_are_there_once_and_layers_are_told_once(builds: tuple[Path, tapc.Report, tapc.Report]) -> None:
    _, plain, report = builds
    assert [layer.name for layer in report.layers] == [layer.name for layer in plain.layers]
    assert [layer.flash_bytes for layer in report.layers] == [layer.flash_bytes for layer in plain.layers]
    assert [layer.macs for layer in report.layers] == [layer.macs for layer in plain.layers]
    assert sum(layer.instructions or 0 for layer in report.layers) == report.instructions
    extra = sum(patch.extra_macs for patch in report.patches)
    assert report.live_macs - plain.live_macs == extra > 0
    assert report.memory.flash.predicted == pytest.approx(report.memory.flash.measured, rel=0.1)
    for patch in report.patches:
        assert set(patch.layers) <= {layer.name for layer in report.layers}


def test_a_build_in_patches_runs_again_and_shows_them(builds: tuple[Path, tapc.Report, tapc.Report]) -> None:
    folder, _, report = builds
    again = rerun(folder / "patched", data=None, samples=3, seed=1, all_layers=True, stages=Stages())
    assert [layer.name for layer in again.layers] == [layer.name for layer in report.layers]
    assert all(layer.exact for layer in again.layers)
    assert again.instructions == report.instructions
    text = describe(folder / "patched", "plan")
    for patch in report.patches:
        assert f"in patches: {patch.layers[0]} to {patch.layers[-1]} in {patch.bands} bands" in text
    assert open_build(folder / "patched").lowered().plan.size == report.memory.arena.predicted
    rows = profile(folder / "patched").layers
    assert [row.name for row in rows] == [layer.name for layer in report.layers]
    page = (folder / "patched" / "report.html").read_text()
    assert all(f"In patches: <bdi>{patch}</bdi>" in page for patch in report.patches)


def test_what_fits_not_even_in_patches_is_told_what_would(tmp_path: Path) -> None:
    with pytest.raises(
        AllocationError, match=r"smallest budget that works.*computed in patches: .* bands of"
    ) as caught:
        compiled(tmp_path, "build", ram=2048)
    (violation,) = caught.value.violations
    report = compiled(tmp_path, "build", ram=int(violation.smallest))
    assert report.patches
    assert report.exact
    with pytest.raises(AllocationError) as whole:
        compiled(tmp_path, "build", ram=2048, no_patches=True)
    assert whole.value.violations[0].smallest > violation.smallest
    assert "patches" not in str(whole.value)


@pytest.mark.parametrize(
    ("board", "optimize"), [("stm32h7", "speed"), thorough("pico", "balanced"), thorough("mps3-an547", "size")]
)
def test_patches_on_other_cores(tmp_path: Path, board: str, optimize: str) -> None:
    report = compiled(tmp_path, "build", board=board, ram=20_000, optimize=optimize)
    assert report.patches
    assert report.exact
