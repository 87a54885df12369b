"""Estimated cycles of a network's steps."""

from collections.abc import Mapping, Sequence

from tapc.cycles.estimate import Estimate
from tapc.hardware.board import Board
from tapc.lower import Lowered


def flash_stalls(constant_bytes: int, board: Board) -> float:
    """Return the cycles that reading constants once from flash takes at its peak bandwidth.

    A lower bound: weights that no cache holds are read again for every tile of pixels.
    """
    return constant_bytes / board.flash.bandwidth.at(board.clocks.cpu_hz)


def step_cycles(
    model: Estimate,
    network: Lowered,
    instructions: Sequence[int],
    board: Board,
    outside: Mapping[int, float] | None = None,
) -> list[float]:
    """Return the cycles of each step: its instructions at its kernel's rate, and reading its constants.

    Parameters
    ----------
    model : Estimate
        Of a run that executed the network's steps at least once.
    network : Lowered
    instructions : sequence of int
        Exact, per step.
    board : Board
    outside : mapping of int to float, optional
        Step -> predicted stall cycles, of those whose constants are not in internal flash.
    """
    names, steps = network.functions, network.steps
    stalls = [flash_stalls(sum(constant.bytes for constant in step.constants.values()), board) for step in steps]
    for index, predicted in (outside or {}).items():
        stalls[index] = predicted
    return [
        count * model.per_instruction(names[step.spec]) + stall
        for step, count, stall in zip(steps, instructions, stalls, strict=True)
    ]
