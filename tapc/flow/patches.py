"""When a network is computed in patches: where its activations do not fit otherwise."""

from tapc.base.options import Options
from tapc.cost.model import CostModel, load_coefficients
from tapc.cost.patches import fitting
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.lower import Lowered, scheduled

WORTH = 0.25
"""Instructions that may be computed twice, relative to all, rather than have the activations in external RAM."""
MOST_EXTRA = 1.0
"""The same where the least RAM counts, `--optimize ram`."""


def most_extra(board: Board, options: Options) -> float | None:
    """Return how many instructions patches may add, relative to all; None where nothing could take their place."""
    inside = board.arena_region.kind == "ram"
    worth = MOST_EXTRA if options.optimize == "ram" else WORTH
    return worth if inside and board.external_ram and options.ram is None and not options.no_external else None


def ram_limit(board: Board, options: Options, besides: int) -> int:
    """Return the most bytes of RAM that an image may take, `besides` bytes of them for stack and variables."""
    available = board.ram_limit(besides)
    return available if options.ram is None else min(options.ram, available)


def with_patches(lowered: Lowered, board: Board, target: Target, options: Options) -> Lowered:
    """Return the network in patches where its arena does not fit as it is, but in patches."""
    cost = CostModel(load_coefficients(target.cost))
    besides = cost.coefficients.besides_arena
    limit = ram_limit(board, options, besides) - besides
    if options.no_patches or lowered.plan.size <= limit:
        return lowered
    found = fitting(lowered.program, limit, cost, most=most_extra(board, options))
    if not found.patches:
        return lowered
    return scheduled(found.program, lowered.schedules, source=lowered.source, seed=options.seed)
