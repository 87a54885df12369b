"""Networks larger than internal flash: weights in external flash, proved in the simulator."""

import json
from pathlib import Path

import pytest

import tapc
from tapc.base.errors import BudgetError
from tapc.base.progress import Stages
from tapc.flow.rerun import rerun

ROOT = Path(__file__).resolve().parents[2]


def small_board(folder: Path, flash: str = "64K", axi: str = "512K") -> Path:
    """The STM32H747I-DISCO with less internal memory."""
    text = (ROOT / "boards" / "stm32h7.toml").read_text(encoding="utf-8")
    text = text.replace('size = "2M"', f'size = "{flash}"', 1).replace('name = "stm32h7"', 'name = "h7small"')
    path = folder / "h7small.toml"
    path.write_text(text.replace('size = "512K"', f'size = "{axi}"', 1), encoding="utf-8")
    return path


def options(**changes: object) -> tapc.Options:
    return tapc.Options(
        **{"wbits": (8,), "rounding": "nearest", "equalize": False, "eval": 4, "calibration": 64} | changes
    )  # type: ignore[arg-type]


def test_weights_beyond_internal_flash_are_read_from_qspi(tmp_path: Path) -> None:
    result = tapc.compile(
        "resnet8", board=str(small_board(tmp_path)), data="random", output=tmp_path / "b", options=options()
    )
    report = result.report
    assert report.exact
    outside = report.memory.external["qspi_flash"]
    assert outside.predicted == outside.measured
    inside = [layer for layer in report.layers if layer.region == "flash"]
    moved = [layer for layer in report.layers if layer.region == "qspi_flash"]
    assert moved
    assert sum(layer.flash_bytes for layer in moved) == outside.measured
    # The layer whose weights are read most is inside.
    largest = max(report.layers, key=lambda layer: layer.flash_bytes)
    assert largest in inside
    assert report.memory.flash.measured is not None
    assert (
        (tmp_path / "b" / "firmware.bin").stat().st_size == report.memory.flash.measured - outside.measured <= 64 << 10
    )
    assert (tmp_path / "b" / "firmware-qspi_flash.bin").stat().st_size == outside.measured
    refused = [one.what for one in report.refused if one.kind == "memory"]
    assert refused[-len(moved) :] == [
        f"constants of {layer.name} ({layer.flash_bytes:,} bytes) in flash" for layer in moved
    ]
    assert any("memory-mapped mode" in warning for warning in report.warnings)
    assert ".tapc_qspi_flash" in (tmp_path / "b" / "lib" / "README.md").read_text()
    tensors = json.loads((tmp_path / "b" / "report.json").read_text())["memory"]["tensors"]
    assert {tensor["region"] for tensor in tensors} == {"axi_sram"}
    assert max(tensor["offset"] + tensor["bytes"] for tensor in tensors) <= report.memory.arena.predicted
    again = rerun(tmp_path / "b", data=None, samples=2, seed=1, all_layers=True, stages=Stages())
    assert all(layer.exact for layer in again.layers)


def test_no_external_says_what_would_hold_the_weights(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"region flash without qspi_flash\): the budget is 65536 bytes"):
        tapc.compile(
            "resnet8", board=str(small_board(tmp_path)), data="random", output=tmp_path / "b",
            options=options(no_external=True),
        )  # fmt: skip
    assert not (tmp_path / "b").exists()


def test_activations_go_to_external_ram_as_a_last_resort(tmp_path: Path) -> None:
    # Not even in patches: the second stage's map has 8 KiB.
    board = str(small_board(tmp_path, flash="2M", axi="8K"))
    text = Path(board).read_text().replace('holds = ["data", "stack"]', 'holds = ["stack", "data"]')
    # Neither DTCM nor the other SRAMs may help out.
    text = text.replace('holds = ["arena", "data"]', 'holds = ["weights"]').replace('size = "128K"', 'size = "8K"', 1)
    Path(board).write_text(text)
    result = tapc.compile("resnet8", board=board, data="random", output=tmp_path / "b", options=options())
    assert result.report.exact
    assert result.report.memory.arena_region == "sdram"
    assert any("sdram" in warning for warning in result.report.warnings)
    assert "the activations in axi_sram" in [one.what for one in result.report.refused]
    with pytest.raises(BudgetError, match=r"let sdram \(33554432 bytes\) hold the activations"):
        tapc.compile("resnet8", board=board, data="random", output=tmp_path / "c", options=options(no_external=True))
