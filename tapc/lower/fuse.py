"""Rewrites of the integer program that do not change a single output bit: those of its operators."""

import tapc.operators  # noqa: F401 - they bring their rewrites
from tapc.ir.keeping import settled
from tapc.ir.program import Program
from tapc.ir.rewriting import rewritten


def fuse(program: Program) -> Program:
    """Apply all rewrites."""
    return settled(rewritten(program))
