"""Bits that a sum over layers prefers, against those that keep to wider weights: the whole network says which.

Losses of single layers do not add up: layers behind make up for some of an error, and errors meet. The fewer bits, the
larger the errors and the less the sum knows of them. So the least sum must stand up to the least sums in which the
fewest bits on offer count for several times their losses, which give them to fewer layers, and to those without them,
which include the same bits for all layers where those fill the budget.
"""

from collections.abc import Callable
from dataclasses import replace

from tapc.allocate import Allocation, AllocationProblem, Choice, LayerChoices, solved
from tapc.allocate.engine import TimeLimitError
from tapc.graph.network import Bits

_DOUBTS = (2.0, 4.0)
"""How many times its loss a layer's fewest bits count for."""


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
    """Return the solutions that doubt the fewest weight bits, those without them, without the two fewest and so on.

    Each is there once, with the problem's own sum.
    """
    free = [layer for layer in problem.layers if not layer.fixed_by]
    widths = sorted({choice.w_bits for layer in free for choice in layer.choices})
    found: list[Allocation] = []
    doubted = [_doubting(problem, widths[0], factor) for factor in _DOUBTS] if len(widths) > 1 else []
    for stated in [*doubted, *(_without(problem, width) for width in widths[1:])]:
        try:
            rival = solved(stated)
        except TimeLimitError:
            continue
        if rival is None:
            break  # wider ones fit even less
        if all(rival.bits != other.bits for other in (least, *found)):
            found.append(replace(rival, objective=_sum(problem, rival.bits)))
    return found


def _doubting(problem: AllocationProblem, width: int, factor: float) -> AllocationProblem:
    """Return the problem with the losses of a weight width multiplied, where the allocator decides."""

    def seen(choice: Choice) -> Choice:
        return replace(choice, loss=factor * choice.loss) if choice.w_bits == width else choice

    layers = tuple(
        layer if layer.fixed_by else replace(layer, choices=tuple(seen(choice) for choice in layer.choices))
        for layer in problem.layers
    )
    return replace(problem, layers=layers)


def _without(problem: AllocationProblem, width: int) -> AllocationProblem:
    """Return the problem without fewer weight bits than these, where the allocator decides and there are more."""

    def kept(layer: LayerChoices) -> LayerChoices:
        least = min(width, max(choice.w_bits for choice in layer.choices))
        return replace(layer, choices=tuple(choice for choice in layer.choices if choice.w_bits >= least))

    layers = tuple(layer if layer.fixed_by else kept(layer) for layer in problem.layers)
    return replace(problem, layers=layers)


def _sum(problem: AllocationProblem, bits: Bits) -> float:
    """Return the problem's loss of some bits."""
    total = 0.0
    for layer in problem.layers:
        pair = bits.weights[layer.name], bits.activations[layer.input_group]
        # Algorithms lose nothing: of several choices with these bits each has their loss.
        total += next(choice.loss for choice in layer.choices if (choice.w_bits, choice.a_bits) == pair)
    return total
