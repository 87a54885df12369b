"""Selection: who survives, who is remembered, who has offspring. Pure functions over members."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np

LIBRARY_LEAST = 2


class Member(Protocol):
    """What selection needs to know of a proxy."""

    @property
    def fitness(self) -> float | None:
        """Eq. 6; None where it has none."""

    @property
    def born(self) -> int:
        """Rank of birth."""

    @property
    def behaviour(self) -> str:
        """A niche: equal for members that lead to the same bits."""


M = TypeVar("M", bound=Member)


def ranked(members: Iterable[M]) -> list[M]:
    """Return the members with a finite fitness, the fittest first; among equals the newer one."""
    valid = [m for m in members if m.fitness is not None and math.isfinite(m.fitness)]
    return sorted(valid, key=lambda m: (m.fitness, m.born), reverse=True)


def survivors(old: Sequence[M], new: Sequence[M], size: int) -> list[M]:
    """Return the fittest `size` of both (Algorithm 1, line 20), the fittest first.

    The best of a niche comes before the second of any: members that lead to the same bits differ in little.
    """
    members = ranked([*old, *new])
    first = best_of_niches(members)
    others = [member for member in members if member not in first]
    return ranked([*first, *others][:size])


def best_of_niches(members: Iterable[M]) -> list[M]:
    """Return the fittest of each niche, the fittest first."""
    first: dict[str, M] = {}
    for member in ranked(members):
        first.setdefault(member.behaviour, member)
    return list(first.values())


def library(previous: Sequence[M], old: Sequence[M], new: Sequence[M], size: int) -> list[M]:
    """Return the context library: the best of what it had and of the union's top tenth (Algorithm 1, line 19).

    A tenth of the union of two populations of `size`, rounded up, at least two, is also the most that it holds; one of
    each niche.
    """
    share = max(LIBRARY_LEAST, -(-2 * size // 10))
    top = best_of_niches([*old, *new])[:share]
    return best_of_niches([*previous, *top])[:share]


def choose_parents(rng: np.random.Generator, population: Sequence[M], count: int) -> list[M]:
    """Draw distinct parents, the fittest of n with weight n, the last with weight 1 (linear ranking).

    Parameters
    ----------
    rng : numpy Generator
    population : sequence, the fittest first
    count : int
        At most the size of the population.
    """
    weights = np.arange(len(population), 0, -1, dtype=np.float64)
    chosen = rng.choice(len(population), size=count, replace=False, p=weights / weights.sum())
    return [population[int(i)] for i in chosen]
