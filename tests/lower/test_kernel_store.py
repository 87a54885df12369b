"""Kernels in the cache are those that TVM prints; they are found again, and made in another process."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tapc.base.tool import start_python
from tapc.kernels.builder import Kernel
from tapc.kernels.elementwise import MoveSpec
from tapc.kernels.layout import Plane
from tapc.kernels.pool import PoolSpec
from tapc.kernels.spec import KernelSpec
from tapc.kernels.window import Window
from tapc.lower.ahead import generated_beside
from tapc.lower.kernel_store import kernel, missing

SPECS: tuple[KernelSpec, ...] = (
    MoveSpec(Plane(2, 3, 4, 8), Plane(2, 3, 4, 8), True),
    PoolSpec(Plane(4, 4, 2, 8), Plane(2, 2, 2, 8), Window(2, 2, 2, 2, 0, 0), "max", False, "fixed"),
)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, name: str) -> Kernel:
        raise AssertionError("generated again")

    for spec in SPECS:
        monkeypatch.setattr(type(spec), "kernel", fail)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_kernel_is_generated_once_and_has_the_name_asked_for(
    spec: KernelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = spec.kernel("first")
    assert kernel(spec, "first") == expected
    other = spec.kernel("second_name")
    forbid(monkeypatch)
    assert kernel(spec, "first") == expected
    assert kernel(spec, "second_name") == other


def test_another_specification_is_another_kernel() -> None:
    spec = SPECS[0]
    kernel(spec, "k")
    assert missing({spec, replace(spec, table=False)}) == [replace(spec, table=False)]  # type: ignore[type-var]


def test_another_process_generates_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [spec.kernel("k") for spec in SPECS]
    loaded = {name: module for name, module in sys.modules.items() if name != "tvm"}
    with monkeypatch.context() as context:
        context.setattr(sys, "modules", loaded)
        with generated_beside(SPECS):
            pass
    assert missing(set(SPECS)) == []
    forbid(monkeypatch)
    assert [kernel(spec, "k") for spec in SPECS] == expected


def test_work_that_fails_ends_the_process_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def recorded(*command: Any, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(start_python(*command, **options))
        return started[-1]

    monkeypatch.setattr("tapc.lower.ahead.start_python", recorded)
    monkeypatch.setattr(sys, "modules", {name: m for name, m in sys.modules.items() if name != "tvm"})
    with pytest.raises(ValueError, match="meanwhile"), generated_beside(SPECS):
        raise ValueError("meanwhile")
    assert [process.poll() is None for process in started] == [False]


def test_where_tvm_is_loaded_no_other_process_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    SPECS[0].kernel("k")
    monkeypatch.setattr("tapc.lower.ahead.start_python", None)
    with generated_beside(SPECS):
        assert len(missing(set(SPECS))) == len(SPECS)
