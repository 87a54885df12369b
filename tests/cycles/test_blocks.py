"""Basic blocks: what ran, how often, and whether it jumped."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cycles.assembly import assemble
from tapc.base.errors import ToolError
from tapc.cycles import estimate
from tapc.cycles.blocks import Block, Instruction, disassemble, executed_blocks
from tapc.device import DeviceRun, device_for
from tapc.firmware import build_firmware
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target

SAMPLE = Path(__file__).parents[1] / "firmware" / "sample_library"
SAMPLES = 3


@pytest.fixture(scope="module", params=["stm32h7", "nucleo-l4r5zi", "pico"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, DeviceRun]:
    folder = tmp_path_factory.mktemp(request.param)
    board = load_board(request.param)
    target = load_target(board.core)
    images = build_firmware(SAMPLE, board, target, folder / "out", work=folder / "work")
    inputs = np.random.default_rng(7).integers(-128, 128, (SAMPLES, 16)).astype(np.int8)
    run = device_for(target, timeout=60).load(images).run(inputs)
    return board.core, run.image, run


def split(text: str, counts: list[tuple[int, int, int]], folder: Path, core: str = "cortex-m4") -> list[Block]:
    body = list(assemble(text, core, folder))
    rows = [(body[first].address | 1, length, executions) for first, length, executions in counts]
    return executed_blocks({"f": body}, np.array(rows, np.uint64))


def test_blocks_sum_to_qemus_instructions(real: tuple[str, Path, DeviceRun]) -> None:
    _, twin, run = real
    blocks = executed_blocks(disassemble(twin), run.blocks)
    assert sum(block.total for block in blocks) == int((run.blocks[:, 1] * run.blocks[:, 2]).sum())
    assert all(0 <= block.taken <= block.executions for block in blocks)


def test_a_loop_counted_by_hand(real: tuple[str, Path, DeviceRun]) -> None:
    """sample_k_spin: 2 instructions, 1000 turns of 2, then 5; its loop jumps back 999 times per sample."""
    core, twin, run = real
    spin = [b for b in executed_blocks(disassemble(twin), run.blocks) if b.function == "sample_k_spin"]
    assert [len(b.instructions) for b in spin] == [2, 2, 5]
    assert [b.executions for b in spin] == [SAMPLES, 1000 * SAMPLES, SAMPLES]
    assert [b.taken for b in spin] == [0, 999 * SAMPLES, SAMPLES]
    if core == "cortex-m7":
        return
    # M0+: 2, (1 + 2) x 999 + (1 + 1), then MOVS 1, LDRSB 2, RSBS 1, STRB 2, BX 2.
    # M4: 2, (1 + 1 + 2) x 999 + (1 + 1), then MOVS 1, LDRSB 2, RSBS 1, STRB [r, r] 2, BX 1 + 2.
    once = {"cortex-m0plus": 2 + 2999 + 8, "cortex-m4": 2 + 3998 + 9}[core]
    model = estimate(twin, run.blocks, core)
    found = [c for b, c in zip(model.blocks, model.cycles, strict=True) if b.function == "sample_k_spin"]
    assert sum(found) == once * SAMPLES
    assert model.per_instruction("sample_k_spin") == pytest.approx(once / 2007)
    assert model.per_instruction("no such function") == 1


def test_overlapping_translations_add_up(tmp_path: Path) -> None:
    """QEMU translates a loop twice where it is also entered from above: instructions 0 to 3, and 1 to 3."""
    found = split(
        "movs r0, #5; 1: adds r1, r0; subs r0, #1; bne 1b; bx lr", [(0, 4, 2), (1, 3, 8), (4, 1, 2)], tmp_path
    )
    assert [(len(b.instructions), b.executions, b.taken) for b in found] == [(1, 2, 0), (3, 10, 8), (1, 2, 2)]


def test_conditional_branch_taken_and_not(tmp_path: Path) -> None:
    """Of 10 turns 3 skip the middle."""
    text = "cmp r0, #0; beq 1f; adds r1, #1; 1: bx lr"
    found = split(text, [(0, 2, 10), (2, 1, 7), (3, 1, 10)], tmp_path)
    assert [(b.executions, b.taken) for b in found] == [(10, 3), (7, 0), (10, 10)]


def test_branch_over_an_alternative_is_always_taken(tmp_path: Path) -> None:
    """`b` jumps however often the code behind it runs."""
    text = "cmp r0, #0; beq 1f; adds r1, #1; b 2f; 1: subs r1, #1; 2: bx lr"
    found = split(text, [(0, 2, 10), (2, 2, 6), (4, 1, 4), (5, 1, 10)], tmp_path)
    assert [(b.executions, b.taken) for b in found] == [(10, 4), (6, 6), (4, 0), (10, 10)]


def test_what_did_not_run_is_no_block(tmp_path: Path) -> None:
    found = split("cbz r0, 1f; adds r1, #1; 1: bx lr", [(0, 1, 4), (2, 1, 4)], tmp_path)
    assert [(b.instructions[0].mnemonic, b.executions) for b in found] == [("cbz", 4), ("bx", 4)]
    assert found[0].taken == 4


@pytest.mark.parametrize(("mnemonic", "operands", "jumps"), [
    ("b.n", "10 <f+0x10>", True), ("bl", "10 <g>", True), ("bx", "lr", True), ("pop", "{r4, pc}", True),
    ("ldmia.w", "sp!, {r4, r5, pc}", True), ("ldr.w", "pc, [sp], #4", True), ("mov", "pc, r3", True),
    ("bne.n", "10 <f+0x10>", False), ("cbz", "r0, 10 <f+0x10>", False), ("pop", "{r4, lr}", False),
    ("ldr", "r0, [pc, #4]", False), ("bics", "r0, r1", False), ("add", "r0, pc, #4", False),
])  # fmt: skip
def test_jumps(mnemonic: str, operands: str, jumps: bool) -> None:
    assert Instruction(0, mnemonic, operands).jumps is jumps


def test_missing_objdump_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install binutils-arm-none-eabi"):
        disassemble(tmp_path / "image.elf")


def test_objdump_refuses_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "image.elf").write_text("nothing")
    assert shutil.which("arm-none-eabi-objdump")
    with pytest.raises(ToolError, match="objdump failed"):
        disassemble(tmp_path / "image.elf")
