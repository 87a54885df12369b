"""Estimated cycles of a network's steps."""

from collections.abc import Mapping, Sequence

from tapc.board import Board
from tapc.cycles.estimate import Estimate
from tapc.lower.library import function_names
from tapc.lower.steps import Step


def flash_stalls(constant_bytes: int, board: Board) -> float:
    """Return the cycles that reading constants once from flash takes at its peak bandwidth.

    A lower bound: weights that no cache holds are read again for every tile of pixels.
    """
    return constant_bytes / board.flash.bandwidth.at(board.clocks.cpu_hz)


def step_cycles(
    model: Estimate,
    steps: Sequence[Step],
    instructions: Sequence[int],
    board: Board,
    outside: Mapping[int, float] | None = None,
) -> list[float]:
    """Return the cycles of each step: its instructions at its kernel's rate, and reading its constants.

    Parameters
    ----------
    model : Estimate
        Of a run that executed the steps at least once.
    steps : sequence of Step
    instructions : sequence of int
        Exact, per step.
    board : Board
    outside : mapping of int to float, optional
        Step -> predicted stall cycles, of those whose constants are not in internal flash.
    """
    names = function_names(steps)
    stalls = [flash_stalls(sum(constant.bytes for constant in step.constants.values()), board) for step in steps]
    for index, predicted in (outside or {}).items():
        stalls[index] = predicted
    return [
        count * model.per_instruction(names[step.spec]) + stall
        for step, count, stall in zip(steps, instructions, stalls, strict=True)
    ]
