"""Cycles of Cortex-M0+ and M4 against figures worked out by hand from Arm's manuals.

M0+: Technical Reference Manual r0p1 (DDI 0484C), table 3-1. M4: r0p1 (100166), table 3-1, "Load/store timings" and the
FPU's table, jumps with a refill of two cycles.
"""

from pathlib import Path

import pytest

from cycles.assembly import block
from tapc.cycles import armv6m, cortex_m4

M0 = "cortex-m0plus"
M4 = "cortex-m4"


@pytest.mark.parametrize(("text", "expected"), [
    ("movs r0, #1", 1),
    ("adds r0, r1, r2; mov r8, r0; muls r0, r1, r0; lsls r0, r0, #3", 4),
    ("uxtb r0, r1; sxth r2, r3; rev r0, r0; tst r0, r1; rsbs r0, r0, #0", 5),
    ("ldr r0, [r1, #4]", 2),
    ("ldrb r0, [r1]; ldrsh r2, [r1, r3]; strh r0, [r1]; str r0, [sp, #8]", 8),
    ("ldmia r0!, {r1, r2, r3}", 1 + 3),
    ("stmia r0!, {r1-r7}", 1 + 7),
    ("push {r4, lr}", 1 + 2),
    ("push {r4-r7, lr}", 1 + 5),
    ("pop {r4-r7}", 1 + 4),
    ("pop {r4, pc}", 3 + 2),
    ("bl f", 3),
    ("blx r3", 2),
    ("bx lr", 2),
    ("mov pc, r3", 2),
    ("add pc, r3", 2),
    ("mrs r0, primask", 3),
    ("dmb", 3),
    ("wfi", 2),
    ("nop; cpsid i; bics r0, r1", 3),
    # A dot product's step: two loads of 2, multiply, add, two pointers, compare.
    ("ldrsb r4, [r0, r2]; ldrsb r5, [r1, r2]; muls r4, r5, r4; adds r3, r3, r4; adds r2, #1; cmp r2, r6", 8),
])  # fmt: skip
def test_m0plus_straight_code(text: str, expected: int, tmp_path: Path) -> None:
    assert armv6m.block_cycles(block(text, M0, tmp_path, executions=10)) == 10 * expected


@pytest.mark.parametrize(("branch", "taken", "expected"), [
    ("bne f", 9, 9 * 2 + 1), ("bne f", 0, 10), ("bls.n f", 10, 20), ("b f", 10, 20),
])  # fmt: skip
def test_m0plus_branches_cost_one_more_when_taken(branch: str, taken: int, expected: int, tmp_path: Path) -> None:
    """B<cc> takes 2 cycles when taken and 1 when not, B takes 2; SUBS takes 1."""
    assert armv6m.block_cycles(block(f"subs r0, #1; {branch}", M0, tmp_path, 10, taken)) == 10 + expected


@pytest.mark.parametrize(("text", "expected"), [
    ("add r0, r1, r2, lsl #4; smlad r3, r4, r5, r3; sxtb16 r0, r1, ror #8; mla r0, r1, r2, r3", 4),
    ("ldr r0, [r1]; add r2, r3", 2 + 1),
    ("ldr r0, [r1]; ldr r1, [r2]", 3),
    ("ldr r0, [r1, r5]; ldr r1, [r2]; ldr r2, [r3, #4]", 4),
    ("ldr r0, [r1, r2]; str r0, [r3, #20]", 3),
    ("ldr r0, [r1, r2]; str r1, [r3, r2]", 3),
    ("ldr r0, [r1]; ldr r2, [r0]", 4),
    ("str r0, [r1, #4]; str r2, [r1]", 2),
    ("str r0, [r1, r2]", 2),
    ("ldrd r0, r1, [r2]", 3),
    ("ldrd r0, r1, [r2]; ldrd r4, r5, [r2, #8]; strd r0, r1, [r3]", 9),
    ("ldm r0, {r1-r4}", 1 + 4),
    ("push {r4-r8, lr}", 1 + 6),
    ("vpush {d8-d9}", 1 + 4),
    ("vldr s0, [r0]; vmul.f32 s0, s0, s1; vcvtr.s32.f32 s0, s0; vmov r0, s0", 2 + 3),
    ("vldr d0, [r0]; vmov r0, r1, d0; vmov d1, r0, r1", 3 + 2 + 2),
    ("vfma.f32 s0, s1, s2; vmls.f32 s0, s1, s2; vdiv.f32 s0, s1, s2; vsqrt.f32 s0, s1", 3 + 3 + 14 + 14),
    ("cmp r0, #0; it ne; ldrne r1, [r2]; it lt; rsblt r0, r0, #0", 1 + 1 + 2 + 1 + 1),
    ("usat r0, #8, r1; ssat16 r0, #8, r1; pkhbt r0, r1, r2, lsl #16", 3),
])  # fmt: skip
def test_m4_straight_code(text: str, expected: int, tmp_path: Path) -> None:
    assert cortex_m4.block_cycles(block(text, M4, tmp_path, executions=10)) == 10 * expected


@pytest.mark.parametrize(("text", "taken", "expected"), [
    ("subs r0, #1; bne f", 9, 2 * 10 + 9 * 2),
    ("cbz r0, 1f; 1:", 0, 10),
    ("bx lr", 10, 10 * (1 + 2)),
    ("pop {r4, pc}", 10, 10 * (1 + 2 + 2)),
])  # fmt: skip
def test_m4_jumps_refill_the_pipeline(text: str, taken: int, expected: int, tmp_path: Path) -> None:
    assert cortex_m4.block_cycles(block(text, M4, tmp_path, 10, taken)) == expected
