import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tapc.base.errors import BudgetError, DataError, ToolError
from tapc.device.plugin import counters_plugin, read_counts
from tapc.device.qemu import QemuDevice, QemuTwin
from tapc.firmware import build_firmware
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target

SAMPLE = Path(__file__).parents[1] / "firmware" / "sample_library"
BOARDS = ("stm32h7", "nucleo-l4r5zi", "nrf52840dk", "pico", "mps3-an547", "hifive1")
WEIGHTS = (
    (1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12, 13, -14, 15, -16),
    (0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1, 2, 2, 2, 2),
    (127, *(0,) * 14, -127),
    (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3),
)
BIASES = (0, 100, -1000, 7)
SHIFTS = (1, 2, 3, 4)


def expected(x: npt.NDArray[np.int8]) -> tuple[list[int], list[int], list[int]]:
    """Compute the sample library's three steps in Python integers."""
    first = [min(int(v) + 3, 127) for v in x]
    second = [(-first[0] + 128) % 256 - 128, *first[1:]]
    sums = [sum(w * v for w, v in zip(row, second, strict=True)) + b for row, b in zip(WEIGHTS, BIASES, strict=True)]
    scaled = [abs(s) >> shift if s >= 0 else -(abs(s) >> shift) for s, shift in zip(sums, SHIFTS, strict=True)]
    return first, second, [max(-128, min(127, v)) for v in scaled]


def samples(count: int) -> npt.NDArray[np.int8]:
    return np.random.default_rng(7).integers(-128, 128, (count, 16)).astype(np.int8)


def build_twin(library: Path, board_name: str, folder: Path) -> Path:
    board = load_board(board_name)
    return build_firmware(library, board, load_target(board.core), folder / "out", work=folder / "work").twin


def variant(folder: Path, old: str, new: str) -> Path:
    """Copy the sample library with another piece of sample_kernels.c."""
    library = folder / "library"
    shutil.copytree(SAMPLE, library)
    text = (library / "sample_kernels.c").read_text()
    assert old in text
    (library / "sample_kernels.c").write_text(text.replace(old, new, 1))
    return library


def opened(twin: Path, board_name: str, timeout: float = 60) -> QemuTwin:
    return QemuDevice(load_target(load_board(board_name).core), timeout).load_twin(twin)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build_twin(SAMPLE, name, tmp_path_factory.mktemp(name)) for name in BOARDS}


@pytest.mark.parametrize("name", BOARDS)
def test_outputs_and_layers(name: str, twins: dict[str, Path]) -> None:
    x = samples(20)
    run = opened(twins[name], name).run(x, layers=3)
    assert run.outputs.shape == (20, 4)
    assert run.outputs.dtype == np.int8
    assert run.outputs.tolist() == [expected(sample)[2] for sample in x]
    assert len(run.layer_outputs) == 3
    for sample, steps in zip(x, run.layer_outputs, strict=False):
        assert [np.frombuffer(step, np.int8).tolist() for step in steps] == list(expected(sample))
    assert 0 < run.stack_high_water < 256


@pytest.mark.parametrize("name", BOARDS)
def test_instructions_are_exact(name: str, twins: dict[str, Path]) -> None:
    run = opened(twins[name], name).run(samples(1))
    # k_spin is 2007 instructions by hand; sample_run adds one for its argument and one branch
    assert run.instructions_per_step[1] == 2009
    assert run.instructions == sum(run.instructions_per_step)
    assert len(run.instructions_per_step) == 3
    assert run.layer_outputs == ()


def test_instructions_do_not_depend_on_what_is_dumped(twins: dict[str, Path]) -> None:
    x = samples(6)
    runs = [opened(twins["stm32h7"], "stm32h7").run(x[:n], layers=k) for n, k in ((1, 0), (6, 0), (6, 6))]
    assert len({run.instructions_per_step for run in runs}) == 1
    assert len({run.stack_high_water for run in runs}) == 1


def test_block_counts(twins: dict[str, Path]) -> None:
    x = samples(5)
    run = opened(twins["nrf52840dk"], "nrf52840dk").run(x)
    pairs = {(int(a), int(n)) for a, n, _ in run.blocks}
    assert len(pairs) == len(run.blocks)
    # the loop of k_spin: 2 instructions; its first pass belongs to the block before it
    loops = [int(count) for _, length, count in run.blocks if length == 2 and count == 999 * len(x)]
    assert loops == [999 * 5]


def test_progress_ends_at_all(twins: dict[str, Path]) -> None:
    seen: list[tuple[int, int]] = []
    opened(twins["stm32h7"], "stm32h7").run(samples(4), progress=lambda *at: seen.append(at))
    assert seen[-1] == (4, 4)
    assert seen == sorted(seen)


def test_twin_info(twins: dict[str, Path]) -> None:
    info = opened(twins["pico"], "pico")
    assert (info.steps, info.input_bytes, info.output_bytes) == (3, 16, 4)
    with pytest.raises(DataError, match="not a twin image"):
        opened(twins["pico"].with_name("firmware.elf"), "pico")


@pytest.mark.parametrize("x", [np.zeros((1, 15), np.int8), np.zeros((1, 16), np.uint8), np.zeros((0, 16), np.int8)])
def test_wrong_inputs(x: npt.NDArray[np.int8], twins: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"int8 inputs of shape \(samples, 16\)"):
        opened(twins["pico"], "pico").run(x)


@pytest.mark.parametrize("name", ["stm32h7", "pico", "hifive1"])
def test_fault_is_reported(name: str, tmp_path: Path) -> None:
    old, new = ("    li a2, 0\\n", "    unimp\\n") if name == "hifive1" else ("    movs r2, #0\\n", "    udf #0\\n")
    twin = build_twin(variant(tmp_path, old, new), name, tmp_path)
    with pytest.raises(ToolError, match=r"the firmware faulted in QEMU: fault at 0x[0-9a-f]{8}, called from 0x"):
        opened(twin, name).run(samples(1))


def test_unaligned_access_faults_where_the_core_has_none(tmp_path: Path) -> None:
    library = variant(tmp_path, "    ldrsb r3, [r0, r2]\\n", "    adds r0, #1\\n    ldr r3, [r0]\\n")
    opened(build_twin(library, "nrf52840dk", tmp_path), "nrf52840dk").run(samples(1))
    with pytest.raises(ToolError, match="faulted"):
        opened(build_twin(library, "pico", tmp_path), "pico").run(samples(1))


def test_stack_high_water_sees_a_deep_kernel(tmp_path: Path, twins: dict[str, Path]) -> None:
    library = variant(
        tmp_path,
        "        int32_t sum = sample_b_0_dense[o];",
        "        volatile int8_t deep[5000];\n        deep[0] = 1;\n"
        "        int32_t sum = sample_b_0_dense[o] + deep[0] - 1;",
    )
    shallow = opened(twins["stm32h7"], "stm32h7").run(samples(1)).stack_high_water
    deep = opened(build_twin(library, "stm32h7", tmp_path), "stm32h7").run(samples(1)).stack_high_water
    assert 4900 < deep - shallow < 5100


def test_stack_overflow(tmp_path: Path) -> None:
    # the stack has 256 KiB less the 64 bytes of the arena on this board
    library = variant(
        tmp_path,
        "        int32_t sum = sample_b_0_dense[o];",
        "        volatile int8_t deep[262030];\n        for (int i = 0; i < 262030; ++i) deep[i] = 1;\n"
        "        int32_t sum = sample_b_0_dense[o] + deep[o] - 1;",
    )
    with pytest.raises(BudgetError, match="the stack overflowed"):
        opened(build_twin(library, "nrf52840dk", tmp_path), "nrf52840dk").run(samples(1))


def test_endless_firmware_is_stopped(tmp_path: Path) -> None:
    twin = build_twin(variant(tmp_path, "    bne 1b\\n", "    b 1b\\n"), "stm32h7", tmp_path)
    with pytest.raises(ToolError, match="stopped after 1 s with 0 of 2 samples done"):
        opened(twin, "stm32h7", timeout=1).run(samples(2))


def test_missing_qemu_names_the_command(
    twins: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install qemu-system-arm"):
        opened(twins["stm32h7"], "stm32h7").run(samples(1))


def test_plugin_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = counters_plugin()
    assert path.is_relative_to(tmp_path / "tapc")
    assert [entry.name for entry in path.parent.iterdir()] == ["counters.so"]
    time = path.stat().st_mtime_ns
    monkeypatch.setenv("PATH", "/nowhere")
    assert counters_plugin() == path
    assert path.stat().st_mtime_ns == time
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    with pytest.raises(ToolError, match="apt-get install gcc"):
        counters_plugin()


def test_without_a_writable_cache_the_plugin_is_built_for_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = counters_plugin()
    assert path.is_file()
    assert counters_plugin() == path


def test_counts_of_blocks_translated_twice_are_added(tmp_path: Path) -> None:
    path = tmp_path / "counts.bin"
    np.array([2, 10, 20, 3, 64, 5, 1, 32, 2, 7, 64, 5, 3], np.uint64).tofile(path)
    counts = read_counts(path)
    assert counts.marks == (10, 20)
    assert counts.blocks.tolist() == [[32, 2, 7], [64, 5, 4]]
    for broken in ([], [2, 10], [0, 1, 64]):
        np.array(broken, np.uint64).tofile(path)
        with pytest.raises(ToolError, match="incomplete"):
            read_counts(path)
