"""Bits that fit by prediction and not as built: the next choice is smaller, or the error names what was built."""

from pathlib import Path

import onnx
import pytest

import tapc
from graph_builder import residual
from tapc.allocate import AllocationError
from tapc.cost.model import Coefficients, load_coefficients
from tapc.firmware.toolchain import RegionOverflowError
from tapc.hardware.board import Board, load_board

OPTIONS = tapc.Options(
    calibration=8, eval=2, rounding="nearest", simulate=False, proxy="parameters", equalize=False, optimize="size"
)
SAVED = 1500
"""Bytes of code that the prediction leaves out."""


def with_flash(size: int, name: str = "nucleo-l4r5zi") -> Board:
    board = load_board(name)
    memory = tuple(r.model_copy(update={"size": size}) if r.name == board.flash.name else r for r in board.memory)
    return board.model_copy(update={"memory": memory})


@pytest.fixture
def flattered(monkeypatch: pytest.MonkeyPatch) -> None:
    def flattering(path: Path) -> Coefficients:
        honest = load_coefficients(path)
        return honest.model_copy(update={"runtime_bytes": honest.runtime_bytes - SAVED})

    monkeypatch.setattr("tapc.flow.latency.load_coefficients", flattering)


@pytest.mark.usefixtures("flattered")
def test_an_image_that_overflows_its_memory(tmp_path: Path) -> None:
    onnx.save(residual().onnx, tmp_path / "net.onnx")

    def flash(board: Board, name: str, **changes: object) -> tuple[int, tapc.Report]:
        options = tapc.Options(**{**vars(OPTIONS), **changes})
        report = tapc.compile(
            tmp_path / "net.onnx", board=board, data="random", output=tmp_path / name, options=options
        ).report
        assert report.memory.flash.measured is not None
        return report.memory.flash.measured, report

    large, _ = flash(with_flash(1 << 20), "large", wbits=(8,))
    size = large - SAVED // 2
    smaller, report = flash(with_flash(size), "smaller")
    assert smaller <= size
    assert any(one.kind == "build" and "bytes of flash too many" in one.why for one in report.refused)
    with pytest.raises(AllocationError, match=f"the budget is {size} bytes") as error:
        flash(with_flash(size), "none", wbits=(8,))
    # What it names works, and no less does.
    least = int(error.value.violations[0].smallest)
    assert flash(with_flash(least), "least", wbits=(8,))[0] <= least
    with pytest.raises(AllocationError):
        flash(with_flash(least - 8), "none", wbits=(8,))


@pytest.mark.thorough
def test_code_that_overflows_beside_external_flash(tmp_path: Path) -> None:
    """Fewer bits are of no use: what does not fit is no weights."""
    onnx.save(residual().onnx, tmp_path / "net.onnx")
    with pytest.raises(RegionOverflowError, match=r"region flash \(4000 bytes .* would hold it"):
        tapc.compile(
            tmp_path / "net.onnx", board=with_flash(4000, "nrf52840dk"), data="random", output=tmp_path / "b",
            options=OPTIONS,
        )  # fmt: skip
