"""Estimated cycles of a network's steps."""

from collections.abc import Sequence

from tapc.board import Board
from tapc.cycles.estimate import Estimate
from tapc.lower.library import function_names
from tapc.lower.steps import Step


def flash_stalls(constant_bytes: int, board: Board) -> float:
    """Return the cycles that reading constants once from flash takes at its peak bandwidth.

    A lower bound: weights that no cache holds are read again for every tile of pixels.
    """
    return constant_bytes / board.flash.bandwidth.at(board.clocks.cpu_hz)


def step_cycles(model: Estimate, steps: Sequence[Step], instructions: Sequence[int], board: Board) -> list[float]:
    """Return the cycles of each step: its instructions at its kernel's rate, and reading its constants.

    Parameters
    ----------
    model : Estimate
        Of a run that executed the steps at least once.
    steps : sequence of Step
    instructions : sequence of int
        Exact, per step.
    board : Board
    """
    names = function_names(steps)
    return [
        count * model.per_instruction(names[step.spec])
        + flash_stalls(sum(constant.bytes for constant in step.constants.values()), board)
        for step, count in zip(steps, instructions, strict=True)
    ]
