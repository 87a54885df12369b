"""Peak RAM as a constraint: the planner is asked, and its answers become cuts.

Memory does not fall when an activation group grows from 4 to 8 bits. So when a set of 8-bit groups does not fit, no
superset of it fits either, and a minimal such set (a cover) excludes many assignments with one inequality.
"""

from tapc.allocate.problem import HIGH_BITS, LOW_BITS, AllocationProblem, RamUse

Groups = frozenset[int]


class RamOracle:
    """Memoized access to the RAM model, and the covers found so far.

    Parameters
    ----------
    problem : AllocationProblem
    """

    def __init__(self, problem: AllocationProblem) -> None:
        self._model = problem.ram
        self._count = len(problem.groups)
        self._fixed = {i: g.allowed[0] for i, g in enumerate(problem.groups) if len(set(g.allowed)) == 1}
        self.free = tuple(i for i, g in enumerate(problem.groups) if len(set(g.allowed)) == 2)
        self._known: dict[Groups, RamUse] = {}
        self._covers: dict[Groups, int] = {}

    def use(self, high: Groups) -> RamUse:
        """Return the peak RAM when exactly these free groups have 8 bits (and those that must)."""
        if high not in self._known:
            assert self._model is not None
            bits = {i: self._fixed.get(i, HIGH_BITS if i in high else LOW_BITS) for i in range(self._count)}
            self._known[high] = self._model(bits)
        return self._known[high]

    def covers(self, budget: int) -> list[Groups]:
        """Return the known sets of groups that may not all have 8 bits under a budget in bytes."""
        return [cover for cover, size in self._covers.items() if size > budget]

    def separate(self, high: Groups, budget: int) -> bool:
        """Find disjoint minimal covers within a set of 8-bit groups; return whether it is over budget.

        An empty cover means that even the narrowest activations do not fit.
        """
        if self.use(high).bytes <= budget:
            return False
        rest = high
        while self.use(rest).bytes > budget:
            cover = frozenset(self._minimal([], sorted(rest), budget))
            self._covers[cover] = self.use(cover).bytes
            if not cover:
                break
            rest -= cover
        return True

    def _minimal(self, base: list[int], candidates: list[int], budget: int) -> list[int]:
        """Return a minimal part of `candidates` that is over budget together with `base` (QuickXplain)."""
        if self.use(frozenset(base)).bytes > budget:
            return []
        if len(candidates) <= 1:
            return candidates
        middle = len(candidates) // 2
        first, second = candidates[:middle], candidates[middle:]
        from_second = self._minimal(base + first, second, budget)
        return self._minimal(base + from_second, first, budget) + from_second
