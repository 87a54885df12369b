"""Where constants live: hot ones in internal flash, what it cannot hold in memory-mapped external flash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tapc.base.errors import BudgetError
from tapc.hardware.board import Board, Region
from tapc.ir.program import Constant, Step

_NAMED = 3


@dataclass(frozen=True)
class Placed:
    """A step's constants.

    Attributes
    ----------
    region : str
    bytes : int
    fetched : int
        Bytes that an inference reads from the region.
    stalls : float
        Predicted CPU cycles that reading them takes at the region's peak bandwidth.
    """

    region: str
    bytes: int
    fetched: int
    stalls: float


def constant_bytes(step: Step) -> int:
    """Return the bytes of a step's constants."""
    return sum(constant.bytes for constant in step.constants.values())


def own_bytes(steps: Sequence[Step]) -> list[int]:
    """Return the bytes of each step's constants, without those that an earlier step has."""
    seen: set[Constant] = set()
    sizes = []
    for step in steps:
        new = set(step.constants.values()) - seen
        seen |= new
        sizes.append(sum(constant.bytes for constant in new))
    return sizes


def sharing(steps: Sequence[Step]) -> list[int]:
    """Return for each step the first one that it shares constants with, through others too; else itself."""
    first: dict[Constant, int] = {}
    leaders = list(range(len(steps)))
    for index, step in enumerate(steps):
        found = sorted({leaders[first[c]] for c in step.constants.values() if c in first} | {index})
        leaders = [found[0] if leader in found else leader for leader in leaders]
        for constant in step.constants.values():
            first.setdefault(constant, index)
    return leaders


def summed(values: Sequence[float], leaders: Sequence[int]) -> dict[int, float]:
    """Return the sums of what steps have that share constants, by the first of them."""
    sums: dict[int, float] = {}
    for value, leader in zip(values, leaders, strict=True):
        sums[leader] = sums.get(leader, 0) + value
    return sums


def fetched_bytes(step: Step, cache: int) -> int:
    """Return how many bytes of constants an inference reads from memory.

    A convolution reads all its weights once per tile of output pixels. Where they take at most half of the data
    cache (the input has the rest), only the first pass reaches memory. Without a cache every pass does.

    Parameters
    ----------
    step : Step
    cache : int
        Bytes of the data cache, 0 for none.
    """
    size = constant_bytes(step)
    return size if 2 * size <= cache else size * step.spec.passes


def place(steps: Sequence[Step], board: Board, room: int, cache: int, *, external: bool) -> tuple[Placed, ...]:
    """Choose a region for the constants of every step so that the predicted stalls are least.

    A knapsack over internal flash, solved exactly with HiGHS; everything stays inside where it fits. Steps that share
    constants go to one region; these are the first step's bytes.

    Parameters
    ----------
    steps : sequence of Step
    board : Board
    room : int
        Bytes of internal flash that constants may take.
    cache : int
        Bytes of the core's data cache, 0 for none.
    external : bool
        External flash may be used. Where it may not, everything is inside, and the linker tells whether it fits.

    Returns
    -------
    tuple of Placed
        One per step.

    Raises
    ------
    BudgetError
        The constants do not fit both: names the regions, the bytes that are missing and the largest layers.
    """
    sizes, leaders = own_bytes(steps), sharing(steps)
    fetched = [fetched_bytes(step, cache) for step in steps]
    inside, outside = board.flash, board.external_flash if external else None
    chosen = [True] * len(steps)
    if outside is not None and sum(sizes) > room:
        if sum(sizes) > max(room, 0) + outside.size:
            raise _too_large(steps, sizes, board, room, outside)
        gain = summed([f / _rate(outside, board) - f / _rate(inside, board) for f in fetched], leaders)
        groups = list(gain)
        taken = summed(sizes, leaders)
        found = knapsack([gain[g] for g in groups], [int(taken[g]) for g in groups], room, outside.size)
        kept = dict(zip(groups, found, strict=True))
        chosen = [kept[leader] for leader in leaders]

    def placed(index: int) -> Placed:
        region = inside if chosen[index] or outside is None else outside
        return Placed(region.name, sizes[index], fetched[index], fetched[index] / _rate(region, board))

    return tuple(placed(index) for index in range(len(steps)))


def outside_steps(placed: Sequence[Placed], board: Board) -> Mapping[int, str]:
    """Return step index -> region, of the steps whose constants are in external flash."""
    return {i: p.region for i, p in enumerate(placed) if p.region != board.flash.name and p.fetched}


def _rate(region: Region, board: Board) -> float:
    return region.bandwidth.at(board.clocks.cpu_hz)


def knapsack(gain: list[float], sizes: list[int], room: int, outside: int) -> list[bool]:
    """Return which items go inside: largest total gain with at most `room` bytes inside and `outside` bytes outside.

    Raises
    ------
    BudgetError
        There is no such choice.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    weights = np.array([sizes], float)
    scale = max(max(gain), 1e-9)
    # A pinch of gain per byte: of equal choices, the one that fills internal flash.
    value = np.array(gain) / scale + 1e-6 * weights[0] / max(weights.sum(), 1.0)
    result = milp(
        -value,
        constraints=LinearConstraint(weights, weights.sum() - outside, max(room, 0)),
        integrality=np.ones(len(sizes), np.int64),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise BudgetError(
            f"the constants fit internal and external flash together, but no layer can be divided between "
            f"{max(room, 0)} and {outside} bytes"
        )
    return [bool(x > 0.5) for x in result.x]


def _too_large(steps: Sequence[Step], sizes: list[int], board: Board, room: int, outside: Region) -> BudgetError:
    largest = sorted(zip(sizes, (step.op.name for step in steps), strict=True), reverse=True)[:_NAMED]
    layers = ", ".join(f"{name} ({size} bytes)" for size, name in largest)
    limit = max(room, 0) + outside.size
    return BudgetError(
        f"weights do not fit {board.name}: {sum(sizes)} bytes, {limit} are free for them in {board.flash.name} and "
        f"{outside.name}, {sum(sizes) - limit} too few; largest: {layers}; use fewer bits"
    )
