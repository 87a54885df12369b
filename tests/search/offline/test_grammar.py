"""The operators: always valid, within the limits, reproducible; and what they do to trees."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.offline.evaluator import random_table, run
from tapc.proxy.columns import COLUMNS, columns, view
from tapc.proxy.columns import Column as ColumnInfo
from tapc.search.controllers import OPERATORS
from tapc.search.offline import LABEL, OfflineGenerator, Written
from tapc.search.offline.generator import tree_of, written
from tapc.search.offline.grammar import FAMILIES, IGNORED, MOST_DEPTH, MOST_NODES, STARTS, Grammar
from tapc.search.offline.tree import Apply, Column, Constant, Expression, Reduced, column_names, depth, nodes, size

Mode = Literal["statistics", "metadata"]
MODES = st.sampled_from(["statistics", "metadata"])
SEEDS = st.integers(0, 2**32 - 1)
FAMILY = {name: family for family, members in FAMILIES.items() for name in members.columns}


@dataclass(frozen=True)
class Parent:
    code: str


FOREIGN = Parent("def score(layers):\n    return [layer['macs'] for layer in layers]\n")


def history(mode: Mode, seed: int, steps: int) -> list[Written]:
    """Return the drafts of a chain of random operators."""
    generator, rng = OfflineGenerator(columns(mode)), np.random.default_rng(seed)
    drafts: list[Written] = []
    for _ in range(steps):
        operator = OPERATORS[int(rng.integers(3))]
        parents = [drafts[int(rng.integers(len(drafts)))] for _ in range(2)] if drafts else []
        drafts.append(generator.draft(operator, parents, rng))
    return drafts


@given(MODES, SEEDS)
def test_drafts_are_valid_and_reproducible(mode: Mode, seed: int) -> None:
    drafts = history(mode, seed, 12)
    assert drafts == history(mode, seed, 12)
    table = view(random_table(seed % 1000), mode)
    for draft in drafts:
        tree = tree_of(draft.code)
        assert tree is not None
        assert depth(tree) <= MOST_DEPTH
        assert size(tree) <= MOST_NODES
        assert column_names(tree)
        scores = run(draft.code, table)
        assert len(scores) == len(table)
        assert all(math.isfinite(s) and s >= 0 for s in scores)
        assert draft == written(tree)


@given(MODES, SEEDS)
def test_children_differ_from_their_parents(mode: Mode, seed: int) -> None:
    grammar, rng = Grammar(columns(mode)), np.random.default_rng(seed)
    first, second = grammar.fresh(rng), grammar.fresh(rng)
    assert grammar.mutated(first, rng) != first
    assert grammar.crossed(first, second, rng) not in (first, second)


def test_different_seeds_write_different_proxies() -> None:
    generator = OfflineGenerator(columns("statistics"))
    drafts = {generator.draft("initialization", (), np.random.default_rng(seed)) for seed in range(100)}
    assert len(drafts) > 80
    assert len({d.name for d in drafts}) == len(drafts)


@given(SEEDS)
def test_crossover_takes_from_both(seed: int) -> None:
    """Parents without a common column: the second one gives at least one of its own, and nothing else comes in."""
    grammar, rng = Grammar(columns("statistics")), np.random.default_rng(seed)
    first = Apply("*", (Column("weight_error_2"), Apply("+", (Column("macs"), Constant(0.5)))))
    second = Apply("/", (Reduced("norm", "channel_weight_l2"), Apply("sqrt", (Column("output_std"),))))
    child = grammar.crossed(first, second, rng)
    names = set(column_names(child))
    assert names <= {*column_names(first), *column_names(second)}
    assert names & set(column_names(second))


def single_change(grammar: Grammar, change: str, tree: Expression, seed: int) -> Expression | None:
    changed: Expression | None = getattr(grammar, change)(tree, np.random.default_rng(seed))
    return changed


NUMERIC = [c for c in COLUMNS if not c.text and c.name not in IGNORED]


@pytest.mark.parametrize("column", NUMERIC, ids=lambda c: c.name)
def test_columns_are_swapped_for_like_ones_only(column: ColumnInfo) -> None:
    grammar = Grammar(COLUMNS)
    leaf: Expression = Reduced("mean", column.name) if column.scope == "channel" else Column(column.name)
    tree = Apply("sqrt", (leaf,))
    swapped = [single_change(grammar, "_column", tree, seed) for seed in range(100)]
    names = {column_names(s)[0] for s in swapped if s is not None}
    assert names == set(FAMILIES[FAMILY[column.name]].columns) - {column.name}
    assert all(s is None or grammar.contains(s) for s in swapped)


def test_families_hold_every_numeric_column_once_with_its_unit() -> None:
    members = [name for family in FAMILIES.values() for name in family.columns]
    assert sorted(members) == sorted(c.name for c in NUMERIC)
    units = {c.name: c.unit for c in COLUMNS}
    for family in FAMILIES.values():
        assert len({units[name] for name in family.columns}) == 1, family.columns
        assert family.weight > 0
    assert all(FAMILY[name] == "relative error" for name in STARTS)
    with pytest.raises(ValueError, match="columns surprise are in no family"):
        Grammar([*COLUMNS, ColumnInfo("surprise", "bits", "")])


def test_changes_of_operations_and_constants() -> None:
    grammar = Grammar(COLUMNS)
    tree = Apply("power", (Apply("+", (Column("macs"), Constant(0.5))),), 0.25)
    operations = {single_change(grammar, "_operation", tree, seed) for seed in range(100)}
    shapes = {tuple(type(node) for _, node in nodes(o)) for o in operations if o is not None}
    assert shapes == {(Apply, Apply, Column, Constant)}
    assert len(operations) > 6
    constants = {single_change(grammar, "_constant", tree, seed) for seed in range(100)}
    values = {node.value for c in constants if c is not None for _, node in nodes(c) if isinstance(node, Constant)}
    assert values == {0.125, 0.25, 1.0, 2.0}
    assert single_change(grammar, "_constant", Column("macs"), 0) is None
    assert single_change(grammar, "_operation", Column("macs"), 0) is None


@pytest.mark.parametrize("operator", OPERATORS)
def test_without_enough_trees_it_is_an_initialization(
    operator: Literal["initialization", "mutation", "crossover"],
) -> None:
    generator = OfflineGenerator(columns("metadata"))
    fresh = generator.draft("initialization", (), np.random.default_rng(3))
    hidden = Parent(written(Apply("sqrt", (Column("weight_l2"),))).code)  # statistics, which metadata lacks
    unknown = Parent(written(Column('macs"] + layer["x')).code)
    large: Expression = Column("macs")
    for _ in range(MOST_DEPTH):
        large = Apply("sqrt", (large,))
    constant = Parent(written(Constant(1.0)).code)
    wrong = Parent(written(Reduced("mean", "macs")).code)
    for parent in (FOREIGN, hidden, unknown, Parent(written(large).code), constant, wrong):
        assert generator.draft(operator, (parent, parent), np.random.default_rng(3)) == fresh


def test_foreign_parents_are_left_out() -> None:
    generator = OfflineGenerator(columns("statistics"))
    own = Parent(written(Column("weight_error_2")).code)
    drafts = [generator.draft("mutation", (FOREIGN, own), np.random.default_rng(seed)) for seed in range(20)]
    assert drafts == [generator.draft("mutation", (own,), np.random.default_rng(seed)) for seed in range(20)]
    assert sum("weight_error_2" in draft.code for draft in drafts) > 10


def test_the_prior_prefers_errors_norms_and_sizes() -> None:
    grammar, rng = Grammar(COLUMNS), np.random.default_rng(0)
    names = [name for _ in range(2000) for name in column_names(grammar.fresh(rng))]
    share = {family: sum(FAMILY[n] == family for n in names) / len(names) for family in FAMILIES}
    assert share["relative error"] > 0.4
    assert share["weight"] > 2 * share["flag"]
    assert set(names) == {c.name for c in NUMERIC}


def test_label_says_what_it_is_not() -> None:
    assert LABEL == "offline grammar (no language model: not TAP)"
