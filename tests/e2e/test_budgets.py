"""Budgets hold as measured, not only as predicted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest

import tapc
from e2e.settings import OPTIONS, few
from graph_builder import residual


def test_budgets_hold_as_measured(tmp_path: Path) -> None:
    """Flash between the sizes at 8 and at 2 bits, and a latency: the built image meets both."""
    onnx.save(residual().onnx, tmp_path / "net.onnx")

    def measured(options: tapc.Options, name: str) -> tapc.Report:
        return tapc.compile(
            tmp_path / "net.onnx", board="nrf52840dk", data="random", output=tmp_path / name, options=options
        ).report

    large, small = (measured(few(OPTIONS[bits], "nrf52840dk"), bits) for bits in ("w8a8", "w2a8"))
    assert large.memory.flash.measured is not None
    assert small.memory.flash.measured is not None
    flash = (large.memory.flash.measured + small.memory.flash.measured) // 2
    latency = max(large.instructions or 0, small.instructions or 0) * 1.1
    for limit in (flash, small.memory.flash.measured + 8):
        report = measured(few(tapc.Options(flash=limit, latency=latency), "nrf52840dk"), f"b{limit}")
        assert report.memory.flash.measured is not None
        assert report.instructions is not None
        assert report.memory.flash.measured <= limit
        assert report.instructions <= latency
        assert report.exact


@pytest.mark.thorough
def test_ram_holds_as_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the prediction is too low, the next choice is tighter, or the error names what was measured."""
    from tapc.allocate import AllocationError, RamUse
    from tapc.cost.layers import NetworkCost

    onnx.save(residual().onnx, tmp_path / "net.onnx")

    def measured(name: str, **changes: object) -> int:
        options = few(OPTIONS["w8a8"], "nrf52840dk", optimize="size", **changes)
        memory = tapc.compile(
            tmp_path / "net.onnx", board="nrf52840dk", data="random", output=tmp_path / name, options=options
        ).report.memory
        assert memory.ram.measured is not None
        return memory.ram.measured

    wide, narrow = measured("wide"), measured("narrow", abits=(4,))
    limit = (wide + narrow) // 2
    honest = NetworkCost.ram

    def flattering(self: NetworkCost, groups: Mapping[int, int], *_: Any) -> RamUse:
        use = honest(self, groups)
        return RamUse(use.bytes - (wide - limit) - 200, use.limiting)

    monkeypatch.setattr(NetworkCost, "ram", flattering)
    monkeypatch.setattr("tapc.flow.attempt.with_patches", lambda lowered, *_: lowered)  # which would keep the limit
    assert measured("b", abits=(4, 8), ram=limit) <= limit
    refused = json.loads((tmp_path / "b" / "report.json").read_text())["refused"]
    assert f"measured: {wide - limit} bytes of RAM too many" in [
        one["why"] for one in refused if one["kind"] == "build"
    ]
    with pytest.raises(AllocationError, match=rf"the budget is {limit} bytes.* is {wide} bytes"):
        measured("c", ram=limit)
