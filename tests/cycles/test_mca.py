"""llvm-mca: what it is given, what it gives, and what happens without it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cycles.assembly import block
from tapc.base.errors import ToolError
from tapc.cycles import available, mca, source
from tapc.cycles.blocks import OBJDUMP

M7 = "cortex-m7"
needs_mca = pytest.mark.skipif(
    not mca.available("cortex-m7"), reason="llvm-mca is not installed: apt-get install llvm-19"
)


def test_it_blocks_become_plain_code_of_as_many_instructions(tmp_path: Path) -> None:
    text = "cmp r0, #0; ittee ne; addne r1, r2; vmovne.f32 s0, s1; moveq r3, r4; ldreq.w r5, [r6, #4]; muls r0, r1, r0"
    lines = mca._assembly(block(text, M7, tmp_path))
    assert [line.split()[0] for line in lines] == ["cmp", "nop", "add", "vmov.f32", "mov", "ldr", "muls"]


def test_names_that_only_look_conditional_stay(tmp_path: Path) -> None:
    lines = mca._assembly(block("movs r0, #1; teq r0, r1; vmls.f32 s0, s1, s2; lsls r0, r0, #2", M7, tmp_path))
    assert [line.split()[0] for line in lines] == ["movs", "teq", "vmls.f32", "lsls"]


def test_branch_targets_become_labels(tmp_path: Path) -> None:
    lines = mca._assembly(block("1: cbz r3, 2f; subs r0, #1; bne 1b; 2: nop", M7, tmp_path))
    assert lines[0] == "cbz r3, .Ltarget"
    assert lines[2].split()[1] == ".Ltarget"


@needs_mca
def test_dependent_code_cannot_be_issued_in_pairs(tmp_path: Path) -> None:
    """A Cortex-M7 issues two instructions a cycle (TRM, section 1.1), but not one that needs the other's result."""
    chain = block("adds r0, r0, r1; adds r0, r0, r1; adds r0, r0, r1; adds r0, r0, r1", M7, tmp_path, 10)
    free = block("add r0, r8, r9; add r1, r8, r9; add r2, r8, r9; add r3, r8, r9", M7, tmp_path, 10)
    slow, fast = mca.block_cycles(M7, [chain, free])
    assert slow == pytest.approx(10 * 4, rel=0.05)
    assert fast == pytest.approx(10 * 2, rel=0.05)


@needs_mca
def test_cycles_are_proportional_to_executions(tmp_path: Path) -> None:
    once = block("ldr r0, [r1]; smlad r2, r0, r3, r2; subs r4, #1; bne f", M7, tmp_path, 1)
    assert mca.block_cycles(M7, [replace(once, executions=1000)]) == pytest.approx(
        [1000 * mca.block_cycles(M7, [once])[0]]
    )
    assert mca.block_cycles(M7, []) == []


@needs_mca
def test_it_block_counts_every_instruction(tmp_path: Path) -> None:
    conditional = block("cmp r0, #0; ite eq; ldreq r1, [r2]; ldrne r1, [r3]", M7, tmp_path, 100)
    (cycles,) = mca.block_cycles(M7, [conditional])
    assert 100 * 2 <= cycles <= 100 * 6


@needs_mca
def test_write_back_and_negative_offsets_are_taken(tmp_path: Path) -> None:
    """LLVM 14 refuses them with the width that objdump prints; a refused line would be left out, with success."""
    text = "strb.w r1, [r2], #2; ldrsb.w r6, [r4], #1; ldr.w r4, [lr, #-8]; strh.w r9, [r2, #-2]; strb.w r6, [r5, #1]!"
    lines = mca._assembly(block(text, M7, tmp_path))
    done = mca._run(M7, lines)
    assert done.returncode == 0
    assert done.stderr == ""


@needs_mca
def test_what_llvm_cannot_take_counts_a_cycle(tmp_path: Path) -> None:
    """The other blocks of the same call keep their figures, and its own instructions are still paired."""
    good = block("add r0, r8, r9; add r1, r8, r9; add r2, r8, r9; add r3, r8, r9", M7, tmp_path, 10)
    (alone,) = mca.block_cycles(M7, [good])
    strange = replace(good.instructions[0], mnemonic="frobnicate")
    bad = replace(good, instructions=(*good.instructions, strange))
    first, second, third = mca.block_cycles(M7, [good, bad, good])
    assert first == third == alone
    assert alone < second < len(bad.instructions) * 10


def test_missing_tool_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippet = block("nop", M7, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not available("cortex-m4")  # nothing disassembles
    (tmp_path / OBJDUMP).write_text("#!/bin/sh\n")
    (tmp_path / OBJDUMP).chmod(0o755)
    assert not available(M7)
    assert available("cortex-m0plus")
    assert available("cortex-m4")
    with pytest.raises(ToolError, match="apt-get install llvm-19"):
        mca.block_cycles(M7, [snippet])


@pytest.mark.parametrize("core", ["cortex-m33", "rv32imc"])
def test_cores_without_a_model_have_no_cycles(core: str) -> None:
    assert not available(core)
    assert source(core) == f"none: no model of {core}"
