"""Rewrites of programs, which operators bring along."""

from collections.abc import Callable

from tapc.ir.program import Program

Rewrite = Callable[[Program], Program]
_known: list[Rewrite] = []


def rewrites(function: Rewrite) -> Rewrite:
    """Decorate what changes a program but none of its output bits; applied once, in the order of declaration."""
    _known.append(function)
    return function


def rewritten(program: Program) -> Program:
    """Apply the rewrites of all operators that were imported."""
    for rewrite in _known:
        program = rewrite(program)
    return program
