"""Random small allocation problems, and solvers too simple to be wrong."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from hypothesis import strategies as st

from tapc.allocate import AllocationProblem, Budgets, Choice, GroupChoices, LayerChoices, RamUse

ALL = ("flash", "latency", "bops", "target_bits", "ram")
Assignment = tuple[tuple[Choice, ...], tuple[int, ...]]


def weighted_ram(sizes: tuple[int, ...], pairs: tuple[tuple[int, int], ...]):
    """Peak of pairs of neighbouring groups: monotone, and not a sum over all groups."""

    def ram(bits: dict[int, int]) -> RamUse:
        used = [sizes[a] * bits[a] + sizes[b] * bits[b] for a, b in pairs]
        peak = max(range(len(used)), key=used.__getitem__)
        return RamUse(used[peak], (f"peak {pairs[peak]}",))

    return ram


def totals(problem: AllocationProblem, assignment: Assignment) -> dict[str, float]:
    """Return every quantity of an assignment."""
    choices, groups = assignment
    parameters = sum(layer.parameters for layer in problem.layers)
    bits = sum(layer.parameters * c.w_bits for layer, c in zip(problem.layers, choices, strict=True))
    result = {
        "loss": sum(c.loss for c in choices),
        "flash": problem.fixed_flash
        + sum(c.flash_bytes for c in choices)
        + sum(size for kernel, size in problem.kernels.items() if any(c.kernel == kernel for c in choices)),
        "latency": problem.fixed_latency + sum(c.latency for c in choices),
        "bops": sum(c.bops for c in choices),
        "target_bits": bits / parameters,
        "bits": sum(c.w_bits for c in choices) + sum(groups),
    }
    if problem.ram is not None:
        result["ram"] = problem.ram(dict(enumerate(groups))).bytes
    return result


def fits(problem: AllocationProblem, used: dict[str, float]) -> bool:
    limits = {name: getattr(problem.budgets, name) for name in ALL}
    return all(limit is None or used[name] <= limit for name, limit in limits.items())


def assignments(problem: AllocationProblem) -> Iterator[Assignment]:
    """Enumerate every assignment, feasible or not."""
    for groups in product(*(group.allowed for group in problem.groups)):
        options = [[c for c in layer.choices if c.a_bits == groups[layer.input_group]] for layer in problem.layers]
        for choices in product(*options):
            yield choices, groups


def brute_force(problem: AllocationProblem) -> dict[str, float] | None:
    """Return the quantities of the best assignment: least loss, then fewest bytes, then most bits."""
    feasible = [used for a in assignments(problem) if fits(problem, used := totals(problem, a))]
    return min(feasible, key=lambda used: (used["loss"], used["flash"], -used["bits"]), default=None)


def greedy(problem: AllocationProblem) -> dict[str, float] | None:
    """Start at the widest assignment; take the cheapest single step down in weight bits until it fits."""
    groups = tuple(max(group.allowed) for group in problem.groups)
    current = [
        max((c for c in layer.choices if c.a_bits == groups[layer.input_group]), key=lambda c: c.w_bits)
        for layer in problem.layers
    ]
    while not fits(problem, used := totals(problem, (tuple(current), groups))):
        steps = [
            (c.loss - current[i].loss, i, c)
            for i, layer in enumerate(problem.layers)
            for c in layer.choices
            if c.a_bits == current[i].a_bits and c.w_bits < current[i].w_bits
        ]
        if not steps:
            return None
        _, i, choice = min(steps, key=lambda step: step[:2])
        current[i] = choice
    return used


@st.composite
def problems(draw: st.DrawFn, constraints: tuple[str, ...] = ALL, tight: bool = False):
    """Draw a problem with up to 4 layers and 3 free groups. Losses are whole, so that ties are real ties.

    `tight` budgets are about as small as each quantity can be alone, so that many problems are infeasible.
    """
    group_count = draw(st.integers(1, 4))
    groups = [GroupChoices(True, (8,))]
    groups += [GroupChoices(False, draw(st.sampled_from([(4, 8), (8,), (4,)]))) for _ in range(group_count - 1)]
    kernels = {name: draw(st.integers(0, 60)) for name in draw(st.sampled_from([(), ("k0",), ("k0", "k1")]))}
    layers = []
    for i in range(draw(st.integers(1, 4))):
        group = draw(st.integers(0, group_count - 1))
        parameters = draw(st.integers(1, 40))
        widths = draw(st.sampled_from([(2, 4, 8), (4, 8), (8,), (2,)]))
        cost = draw(st.integers(0, 9))
        choices = tuple(
            Choice(
                w,
                a,
                draw(st.integers(0, 20)),
                parameters * w,
                cost * draw(st.integers(1, 9)),
                parameters * w * a,
                draw(st.sampled_from(["", *kernels])),
            )
            for a in groups[group].allowed
            for w in widths
        )
        layers.append(LayerChoices(f"layer{i}", group, parameters, choices))
    sizes = tuple(draw(st.lists(st.integers(1, 30), min_size=group_count, max_size=group_count)))
    index = st.integers(0, group_count - 1)
    pairs = tuple(draw(st.lists(st.tuples(index, index), min_size=1, max_size=4)))
    free = AllocationProblem(
        tuple(layers), tuple(groups), fixed_flash=7, fixed_latency=3, ram=weighted_ram(sizes, pairs), kernels=kernels
    )
    used = [totals(free, a) for a in assignments(free)]
    limits = {}
    for name in constraints:
        if draw(st.booleans()):
            values = sorted({u[name] for u in used})[: 2 if tight else None]
            slack = (
                draw(st.sampled_from([-1, 0, 0.5]))
                if name == "target_bits"
                else draw(st.integers(-1, 0 if tight else 1))
            )
            limits[name] = max(draw(st.sampled_from(values)) + slack, 0.25 if name == "target_bits" else 1)
    budgets = Budgets(**limits)
    return replace(free, budgets=budgets)
