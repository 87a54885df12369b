"""Selection against brute force."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapc.search.population import best_of_niches, choose_parents, library, ranked, survivors


@dataclass(frozen=True)
class One:
    born: int
    fitness: float | None
    behaviour: str


FITNESS = st.one_of(st.none(), st.sampled_from([-math.inf, math.nan, -0.5, 0.0, 0.25, 0.5, 0.75]))


@st.composite
def generations(draw: st.DrawFn, count: int = 2) -> list[list[One]]:
    sizes = draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))
    order = draw(st.permutations(range(sum(sizes))))
    members = [One(n, draw(FITNESS), draw(st.sampled_from("abcdefgh"))) for n in order]
    ends = np.cumsum([0, *sizes])
    return [members[a:b] for a, b in itertools.pairwise(ends)]


def valid(members: Sequence[One]) -> list[One]:
    return [m for m in members if m.fitness is not None and math.isfinite(m.fitness)]


@given(generations(), st.integers(1, 8))
def test_survivors(both: list[list[One]], size: int) -> None:
    old, new = both
    kept = survivors(old, new, size)
    union = valid([*old, *new])
    assert len(kept) == min(size, len(union))
    assert set(kept) <= set(union)

    def second(m: One) -> bool:
        return any(o.behaviour == m.behaviour and (o.fitness, o.born) > (m.fitness, m.born) for o in union)

    # Nobody is left out for one that is less: the best of a niche before the second of any, then the fitter, the newer.
    for m in set(union) - set(kept):
        assert all((not second(k), k.fitness, k.born) > (not second(m), m.fitness, m.born) for k in kept)
    assert kept == ranked(kept)
    assert survivors(new, old, size) == kept
    assert survivors(kept, [], size) == kept


def test_survivors_by_hand() -> None:
    old = [One(0, 0.9, "a"), One(1, 0.5, "b"), One(2, 0.7, "c")]
    new = [One(3, 0.7, "d"), One(4, 0.8, "a"), One(5, None, "e"), One(6, -math.inf, "f")]
    # the second of "a" waits until every niche has one; at 0.7 the newer one goes first
    assert [m.born for m in survivors(old, new, 3)] == [0, 3, 2]
    assert [m.born for m in survivors(old, new, 4)] == [0, 3, 2, 1]
    assert [m.born for m in survivors(old, new, 5)] == [0, 4, 3, 2, 1]


@given(generations(3), st.integers(1, 25))
def test_library(three: list[list[One]], size: int) -> None:
    previous, old, new = sorted(three[0], key=lambda m: m.born), three[1], three[2]
    previous = [replace(m, born=n - len(previous)) for n, m in enumerate(previous)]  # older than the others
    most = max(2, math.ceil(2 * size / 10))
    kept = library(previous, old, new, size)
    assert len(kept) <= most
    assert len({m.behaviour for m in kept}) == len(kept)
    assert set(kept) <= set(valid([*previous, *old, *new]))
    top = best_of_niches([*old, *new])[:most]
    assert set(kept) <= set(previous) | set(top)
    if top:  # the library is never worse than the generation at hand
        assert kept[0].fitness >= top[0].fitness


def test_library_of_eight_holds_two_and_of_eleven_or_fifteen_three() -> None:
    many = [One(n, n / 100, str(n)) for n in range(30)]
    assert [m.born for m in library([], many[:8], many[8:16], 8)] == [15, 14]
    assert [m.born for m in library([], many[:11], many[11:22], 11)] == [21, 20, 19]  # 2.2, rounded up
    assert [m.born for m in library([], many[:15], many[15:], 15)] == [29, 28, 27]
    assert [m.born for m in library([One(0, 0.9, "best")], many[1:8], many[8:16], 8)] == [0, 15]


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.data())
def test_parents_are_distinct_and_reproducible(seed: int, size: int, data: st.DataObject) -> None:
    population = [One(n, 1.0 - n / 10, str(n)) for n in range(size)]
    count = data.draw(st.integers(0, size))
    parents = choose_parents(np.random.default_rng(seed), population, count)
    assert len(set(parents)) == count
    assert set(parents) <= set(population)
    assert parents == choose_parents(np.random.default_rng(seed), population, count)


def test_fitter_parents_are_likelier() -> None:
    population = [One(n, 1.0 - n / 10, str(n)) for n in range(4)]
    rng = np.random.default_rng(0)
    counts = Counter(choose_parents(rng, population, 1)[0].born for _ in range(10_000))
    # standard deviation of a share: at most 0.005
    assert [counts[n] / 10_000 for n in range(4)] == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.02)
