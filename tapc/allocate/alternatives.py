"""What an allocation was chosen before: uniform bits, more bits for one layer, and what each would exceed or lose."""

from collections.abc import Iterator, Sequence

from tapc.allocate.engine import TOLERANCE, Engine
from tapc.allocate.problem import HIGH_BITS, LOW_BITS, Allocation, AllocationProblem, Choice
from tapc.base.refusal import Kind, Refusal

_UNITS = {"flash": "bytes of flash", "ram": "bytes of RAM", "target_bits": "weight bits", "bops": "BOPs"}


def alternatives(problem: AllocationProblem, allocation: Allocation) -> tuple[Refusal, ...]:
    """Return the same bits for all layers, the same for all activations, and the next wider bits of every layer.

    Parameters
    ----------
    problem : AllocationProblem
    allocation : Allocation
        Its solution.
    """
    return tuple(_Comparison(problem, allocation).refusals())


class _Comparison:
    def __init__(self, problem: AllocationProblem, allocation: Allocation) -> None:
        self.problem, self.bits = problem, allocation.bits
        self.engine = Engine(problem, 1.0)
        self.limits = self.engine.limits()
        self.chosen = self._choices(dict(self.bits.weights), dict(self.bits.activations))
        self.loss = self.engine.total("loss", self.chosen)

    def refusals(self) -> Iterator[Refusal]:
        """Yield them; what is the chosen allocation itself is left out."""
        offered = sorted({choice.w_bits for layer in self.problem.layers for choice in layer.choices})
        groups = dict(self.bits.activations)
        for width in offered if len(offered) > 1 else ():
            weights = {layer.name: width for layer in self.problem.layers}
            yield from self._refused("bits", f"{width} bits for all weights", weights, groups)
        for width in (LOW_BITS, HIGH_BITS) if self.engine.ram.free else ():
            wanted = {i: width if width in group.allowed else groups[i] for i, group in enumerate(self.problem.groups)}
            yield from self._refused("bits", f"{width} bits for all activations", dict(self.bits.weights), wanted)
        for layer, own in zip(self.problem.layers, self.chosen, strict=True):
            wider = sorted(c.w_bits for c in layer.choices if c.a_bits == own.a_bits and c.w_bits > own.w_bits)
            if wider:
                what = f"{layer.name}: {wider[0]} bits for its weights, not {own.w_bits}"
                yield from self._refused("layer", what, {**self.bits.weights, layer.name: wider[0]}, groups)

    def _choices(self, weights: dict[str, int], groups: dict[int, int]) -> list[Choice]:
        """Return each layer's choice: the nearest that it has, where its bits are fixed or others are not on offer."""
        found = []
        for layer in self.problem.layers:
            own = [choice for choice in layer.choices if choice.a_bits == groups[layer.input_group]]
            wanted = weights[layer.name]
            found.append(min(own, key=lambda choice: (abs(choice.w_bits - wanted), choice.w_bits)))
        return found

    def _refused(self, kind: Kind, what: str, weights: dict[str, int], groups: dict[int, int]) -> Iterator[Refusal]:
        """Say why other bits were not chosen; nothing where they are the chosen ones."""
        choices = self._choices(weights, groups)
        if choices == self.chosen and groups == self.bits.activations:
            return
        high = frozenset(i for i in self.engine.ram.free if groups[i] == HIGH_BITS)
        over = self.engine.exceeded(choices, high, self.limits)
        loss = self.engine.total("loss", choices)
        if over:
            why = "; ".join(self._over(name, choices, high) for name in over)
        elif loss > self.loss * (1 + TOLERANCE):
            why = f"fits, and loses more: {loss:.4g} instead of {self.loss:.4g}"
        elif loss < self.loss * (1 - TOLERANCE):
            why = f"fits, and loses less: {loss:.4g} instead of {self.loss:.4g}; it lies within the gap"
        else:
            why = "fits, and loses as much in more bytes"
        yield Refusal(kind, what, why)

    def _over(self, name: str, choices: Sequence[Choice], high: frozenset[int]) -> str:
        used = self.engine.ram.use(high).bytes if name == "ram" else self.engine.total(name, choices)
        limit: float = self.limits[name]
        if name == "target_bits":
            used, limit = used / max(self.engine.parameters, 1), self.problem.budgets.target_bits or 0.0
            return f"{used:.2f} weight bits on average, {used - limit:.2f} too many"
        unit = _UNITS.get(name, self.problem.latency_unit)
        digits = 3 if unit == "ms" else 0
        return f"{used:,.{digits}f} {unit}, {used - limit:,.{digits}f} too many"
