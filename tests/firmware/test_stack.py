"""The most stack: frames and calls of small programs whose stack is known, and a bound of what a simulator measures."""

import importlib.util
from pathlib import Path

import pytest

from device.test_qemu import SAMPLE, samples
from tapc.device.qemu import QemuDevice
from tapc.firmware import build_firmware
from tapc.firmware.stack import StackUse, stack_of
from tapc.firmware.toolchain import Gcc, Unit, compile_units
from tapc.firmware.zig import Zig
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from thorough import thorough

TOOLS = [
    Gcc(),
    pytest.param(
        Zig(), marks=pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="pip install ziglang")
    ),
]
MORE = """
extern int leaf(int n), more(int n);
static __attribute__((noinline)) int local(int n) { volatile char big[400]; big[n] = 1; return leaf(n) + big[n]; }
int more(int n) { volatile char some[100]; some[n] = 2; return local(n) + some[n]; }
"""
LEAF = "int leaf(int n) { volatile char few[40]; few[n] = 3; return few[n]; }"
RUN = """
extern int leaf(int n), more(int n);
static __attribute__((noinline)) int local(int n) { volatile char few[8]; few[n] = 1; return few[n] + leaf(n); }
int run(int n) { return more(n) + leaf(n) + local(n); }
"""


def use(folder: Path, tools: Gcc, **sources: str) -> StackUse | None:
    units = []
    for name, text in sources.items():
        (folder / f"{name}.c").write_text(text)
        units.append(Unit(name, folder / f"{name}.c", tools.frames))
    objects = compile_units(units, [*load_target("cortex-m7").cflags, "-O1", "-ffunction-sections"], folder, tools)
    return stack_of(list(objects.values()), "run")


@pytest.mark.parametrize("tools", TOOLS, ids=["gcc", "zig"])
def test_the_deepest_calls_of_several_files(tools: Gcc, tmp_path: Path) -> None:
    """Two static functions have one name; the one of more.c is in the path."""
    found = use(tmp_path, tools, run=RUN, more=MORE, leaf=LEAF)
    assert found is not None
    assert [frame.name for frame in found.path] == ["run", "more", "local", "leaf"]
    assert (found.unknown, found.unbounded) == ((), ())
    own = [frame.own for frame in found.path]
    for bytes_, array in zip(own, (0, 100, 400, 40), strict=True):
        assert array <= bytes_ <= array + 40  # and registers that are kept
    assert found.bytes == sum(own) == found.path[0].worst == found.functions[0].worst
    assert len(found.functions) == 5


@pytest.mark.parametrize("tools", TOOLS, ids=["gcc", "zig"])
def test_what_was_compiled_elsewhere_is_named(tools: Gcc, tmp_path: Path) -> None:
    found = use(tmp_path, tools, run=RUN, more="extern int leaf(int n); int more(int n) { return leaf(n); }")
    assert found is not None
    assert found.unknown == ("leaf",)


def test_what_has_no_bound_is_named(tmp_path: Path) -> None:
    sized = "int more(int n) { volatile char x[n]; x[0] = 1; return x[n - 1]; }"
    again = "int leaf(int n) { return n ? leaf(n - 1) * n + 1 : 1; } "
    found = use(tmp_path, Gcc(), run=RUN, more=sized, leaf=again.replace("leaf(n - 1)", "((int (*)(int))leaf)(n - 1)"))
    assert found is not None
    assert "more" in found.unbounded


def test_recursion_has_no_bound(tmp_path: Path) -> None:
    again = "int run(int n); __attribute__((noinline)) int leaf(int n) { return n ? run(n - 1) * n + 1 : 1; }"
    more = "extern int leaf(int n); int more(int n) { return leaf(n) + 1; }"
    found = use(tmp_path, Gcc(), run=RUN, more=more, leaf=again)
    assert found is not None
    assert "run" in found.unbounded


def test_nothing_is_said_where_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.c").write_text("int run(int n) { return n; }")
    objects = compile_units([Unit("run", tmp_path / "run.c")], ["-mcpu=cortex-m7", "-ffunction-sections"], tmp_path)
    assert stack_of(list(objects.values()), "run") is None


@pytest.mark.parametrize("toolchain", ["gcc", thorough("zig")])
def test_the_measured_mark_holds_all_of_it(toolchain: str, tmp_path: Path) -> None:
    """And main and start-up; the sample's functions are all known, and all run."""
    if toolchain == "zig":
        pytest.importorskip("ziglang")
    board = load_board("stm32h7")
    target = load_target(board.core)
    images = build_firmware(SAMPLE, board, target, tmp_path / "out", work=tmp_path / "work", toolchain=toolchain)
    assert images.stack is not None
    assert images.stack.path[0].name == "sample_run"
    assert images.stack.unknown == ()
    run = QemuDevice(target).load(images).run(samples(1))
    assert images.stack.bytes <= run.stack_high_water
