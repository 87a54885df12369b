"""Bits that a sum over layers prefers, against those that keep to wider weights: the whole network says which.

Losses of single layers do not add up: layers behind make up for some of an error, and errors meet. The fewer bits, the
larger the errors and the less the sum knows of them. So the least sum must stand up to the least sums without the
fewest bits on offer, which include the same bits for all layers where those fill the budget.
"""

from collections.abc import Callable
from dataclasses import replace

from tapc.allocate import Allocation, AllocationProblem, solved
from tapc.allocate.engine import TimeLimitError
from tapc.graph.network import Bits


def best_together(problem: AllocationProblem, least: Allocation, loss: Callable[[Bits], float]) -> Allocation:
    """Return the allocation with which the whole network loses least: that of the least sum or a rival.

    Parameters
    ----------
    problem : AllocationProblem
    least : Allocation
        Its solution.
    loss : callable
        What the network loses with all layers at their bits. Not asked where there is no rival.
    """
    found = [least, *_rivals(problem, least)]
    if len(found) == 1:
        return least
    losses = [loss(allocation.bits) for allocation in found]
    best = found[min(range(len(found)), key=losses.__getitem__)]
    if best is least:
        return least
    gap = (best.objective - least.bound) / best.objective if best.objective > 0 else 0.0
    return replace(best, bound=least.bound, gap=gap, status="together")


def _rivals(problem: AllocationProblem, least: Allocation) -> list[Allocation]:
    """Return the solutions without the fewest weight bits, without the two fewest and so on, each once."""
    free = [layer for layer in problem.layers if not layer.fixed_by]
    widths = sorted({choice.w_bits for layer in free for choice in layer.choices})
    found: list[Allocation] = []
    for width in widths[1:]:
        layers = tuple(
            layer if layer.fixed_by else replace(layer, choices=tuple(c for c in layer.choices if c.w_bits >= width))
            for layer in problem.layers
        )
        try:
            rival = solved(replace(problem, layers=layers))
        except TimeLimitError:
            continue
        if rival is None:
            break  # wider ones fit even less
        if all(rival.bits != other.bits for other in (least, *found)):
            found.append(rival)
    return found
