"""Printed programs against hand-computed values, an independent evaluator, the sandbox, and hostile numbers."""

import ast
import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.offline.evaluator import evaluate, random_table, run
from tapc.proxy.columns import COLUMNS, Table
from tapc.proxy.contract import scored
from tapc.proxy.sandbox import Sandbox
from tapc.search.offline.generator import tree_of, written
from tapc.search.offline.grammar import IGNORED
from tapc.search.offline.printing import words
from tapc.search.offline.tree import (
    ACROSS,
    BINARY,
    EXPONENTS,
    KINDS,
    REDUCTIONS,
    UNARY,
    Apply,
    Column,
    Constant,
    Expression,
    Reduced,
    depth,
    from_json,
    nodes,
    replaced,
    size,
    to_json,
)

NUMERIC = [c for c in COLUMNS if not c.text and c.name not in IGNORED]
LAYER = [c.name for c in NUMERIC if c.scope == "layer"]
CHANNEL = [c.name for c in NUMERIC if c.scope == "channel"]

TABLE: Table = [
    {"op": "conv", "macs": 4, "weight_l2": 3.0, "output_mean": -2.0, "depth": 0.0, "channel_weight_l2": [3.0, -4.0]},
    {"op": "depthwise", "macs": 9, "weight_l2": 0.0, "output_mean": 0.5, "depth": 0.5, "channel_weight_l2": [2.0]},
    {"op": "dense", "macs": 9, "weight_l2": 6.0, "output_mean": 0.0, "depth": 1.0, "channel_weight_l2": [0.0, 0.0]},
]
E = math.e


def unary(name: str, column: str = "macs") -> list[Any]:
    return [name, None, ["column", column]]


def binary(name: str) -> list[Any]:
    return [name, None, ["column", "macs"], ["column", "weight_l2"]]


def reduced(name: str) -> list[Any]:
    return ["reduced", name, "channel_weight_l2"]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (["column", "output_mean"], [2, 0.5, 0]),
        (reduced("mean"), [3.5, 2, 0]),
        (reduced("largest"), [4, 2, 0]),
        (reduced("smallest"), [3, 2, 0]),
        (reduced("std"), [0.5, 0, 0]),
        (reduced("norm"), [5, 2, 0]),
        (reduced("geometric_mean"), [math.sqrt(12), 2, 1e-12]),
        (unary("sqrt"), [2, 3, 3]),
        (unary("square"), [16, 81, 81]),
        (unary("log1p"), [math.log(5), math.log(10), math.log(10)]),
        (unary("reciprocal"), [1 / 4, 1 / 9, 1 / 9]),
        (unary("reciprocal", "weight_l2"), [1 / 3, 1e12, 1 / 6]),
        (unary("decay", "depth"), [1, E**-0.5, 1 / E]),
        (unary("over_max"), [4 / 9, 1, 1]),
        (unary("over_mean", "weight_l2"), [1, 0, 2]),
        (unary("rank"), [1 / 3, 2.5 / 3, 2.5 / 3]),
        (["power", 0.5, ["column", "macs"]], [2, 3, 3]),
        (["power", 1.5, ["column", "macs"]], [8, 27, 27]),
        (binary("+"), [7, 9, 15]),
        (binary("*"), [12, 0, 54]),
        (binary("/"), [4 / 3, 9e12, 1.5]),
        (binary("max"), [4, 9, 9]),
        (binary("min"), [3, 0, 6]),
        (binary("difference"), [1, 9, 3]),
        (["if", "depthwise", ["constant", 0.5], ["column", "macs"]], [4, 0.5, 9]),
        (["decay", None, ["*", None, ["constant", 2.0], ["column", "depth"]]], [1, 1 / E, E**-2]),
        (["+", None, ["constant", 2.0], ["constant", 0.5]], [2.5, 2.5, 2.5]),
        (["constant", 2.0], [2, 2, 2]),
    ],
)
def test_operations_by_hand(tree: list[Any], expected: list[float]) -> None:
    assert run(written(from_json(tree)).code, TABLE) == pytest.approx(expected, rel=1e-9, abs=0)
    assert evaluate(tree, TABLE) == pytest.approx(expected, rel=1e-9, abs=0)


def leaves() -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(Column, st.sampled_from(LAYER)),
        st.builds(Reduced, st.sampled_from(REDUCTIONS), st.sampled_from(CHANNEL)),
        st.builds(Constant, st.sampled_from([0.0, 0.1, 1.0, 2.0, 1e6, 1e30])),
    )


def grown(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    one, two = st.tuples(children), st.tuples(children, children)
    return st.one_of(
        st.builds(Apply, st.sampled_from((*UNARY, *ACROSS)), one),
        st.builds(Apply, st.just("power"), one, st.sampled_from(EXPONENTS)),
        st.builds(Apply, st.sampled_from(BINARY), two),
        st.builds(Apply, st.just("if"), two, st.sampled_from(KINDS)),
    )


TREES = st.recursive(leaves(), grown, max_leaves=12)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Cells at the ends of their ranges, zero, tiny and huge."""

    def cell(low: float, high: float) -> float:
        values = [v for v in (0.0, 5e-324, 1e-30, 0.5, 1.0, 7, 1e30, 1e300, -1e-30, -1e300) if low <= v <= high]
        return draw(st.sampled_from(values))

    table: Table = []
    for i in range(draw(st.integers(1, 4))):
        row: dict[str, Any] = {}
        for c in COLUMNS:
            if c.scope == "channel":
                row[c.name] = [cell(c.low, c.high) for _ in range(draw(st.integers(1, 3)))]
            else:
                row[c.name] = cell(c.low, c.high)
        table.append(row | {"name": str(i), "op": draw(st.sampled_from(KINDS))})
    return table


@given(TREES, st.data())
def test_scores_are_finite_and_never_negative(tree: Expression, data: st.DataObject) -> None:
    table = data.draw(tables())
    scores = run(written(tree).code, table)
    assert len(scores) == len(table)
    assert all(isinstance(s, float) and math.isfinite(s) and 0 <= s <= 1e30 for s in scores)


@pytest.mark.parametrize("value", [0, 0.0, 5e-324, 1e30, -1e300, 10**40])
def test_every_operation_on_extreme_cells(value: float) -> None:
    table: Table = [{"op": op, "input_mean": value, "channel_output_mean": [value, 0.0, value]} for op in KINDS]
    for leaf in (Column("input_mean"), *(Reduced(r, "channel_output_mean") for r in REDUCTIONS)):
        trees: list[Expression] = [Apply(name, (leaf,)) for name in (*UNARY, *ACROSS)]
        trees += [Apply(name, (leaf, leaf)) for name in BINARY]
        trees += [Apply("power", (leaf,), exponent) for exponent in EXPONENTS]
        for tree in trees:
            assert all(math.isfinite(s) and 0 <= s <= 1e30 for s in run(written(tree).code, table)), words(tree)


@given(TREES)
def test_json_words_and_navigation(tree: Expression) -> None:
    assert from_json(to_json(tree)) == tree
    assert tree_of(written(tree).code) == tree
    assert "{" not in words(tree)
    places = list(nodes(tree))
    assert len(places) == size(tree)
    assert depth(tree) == 1 + max(len(path) for path, _ in places)
    for path, node in places:
        assert replaced(tree, path, node) == tree
    assert {c.name for c in NUMERIC if f'"{c.name}"' in written(tree).code.split("\n", 1)[1]} == {
        n.name for _, n in places if isinstance(n, Column | Reduced)
    }


def random_tree(rng: np.random.Generator, levels: int) -> Expression:
    """Return a tree without ties that rounding could break: see `test_programs_equal_the_evaluator`."""
    draw = rng.random()
    if levels == 0 or draw < 0.15:
        if draw < 0.05:
            return Reduced(str(rng.choice(REDUCTIONS)), str(rng.choice(CHANNEL)))
        return Column(str(rng.choice(LAYER)))
    first, second = random_tree(rng, levels - 1), random_tree(rng, levels - 1)
    if draw < 0.5:
        return Apply(str(rng.choice((*UNARY, *ACROSS))), (first,))
    if draw < 0.6:
        return Apply("power", (first,), float(rng.choice(EXPONENTS)))
    if draw < 0.7:
        return Apply("if", (first, Constant(0.25) if draw < 0.65 else second), str(rng.choice(KINDS)))
    return Apply(str(rng.choice(BINARY)), (first, second))


@pytest.mark.parametrize("seed", range(300))
def test_programs_equal_the_evaluator(seed: int) -> None:
    tree, table = random_tree(np.random.default_rng(seed), 4), random_table(seed)
    expected = evaluate(to_json(tree), table)
    assert run(written(tree).code, table) == pytest.approx(expected, rel=1e-8, abs=1e-12 * expected.max())


@pytest.mark.parametrize("mode", ["statistics", "metadata"])
def test_programs_pass_the_sandbox(mode: Literal["statistics", "metadata"]) -> None:
    table = random_table(0)
    visible = [c.name for c in NUMERIC if mode == "statistics" or c.mode == "metadata"]
    product: Expression = Constant(1.0)
    for i, name in enumerate(visible):
        leaf = Reduced(REDUCTIONS[i % len(REDUCTIONS)], name) if name in CHANNEL else Column(name)
        product = Apply(BINARY[i % len(BINARY)], (product, Apply((*UNARY, *ACROSS)[i % 8], (leaf,))))
    product = Apply("if", (product, Apply("power", (Column("macs"),), 0.25)), "conv")
    code = written(product).code
    with Sandbox() as sandbox:
        assert scored(sandbox, code, [table], mode) == [run(code, table)]


def test_no_column_hides_a_name_of_the_programs() -> None:
    leaves = [*(Apply(name, (Column("macs"),)) for name in ACROSS), Reduced("std", CHANNEL[0]), Column("macs")]
    tree: Expression = Apply("if", (Constant(1.0), Constant(2.0)), "conv")
    for leaf in leaves:
        tree = Apply("+", (tree, Apply("sqrt", (leaf,))))
    variables = {"macs", f"{CHANNEL[0]}_std"}
    used = {node.id for node in ast.walk(ast.parse(written(tree).code)) if isinstance(node, ast.Name)} - variables
    assert {"layers", "layer", "x", "y", "z", "bounded", "rank", "math", "t1"} <= used
    assert not used & {c.name for c in NUMERIC}


def test_a_program() -> None:
    tree = Apply(
        "*", (Apply("over_mean", (Column("macs"),)), Apply("+", (Reduced("largest", CHANNEL[0]), Constant(0.5))))
    )
    assert (
        written(tree).code
        == """# tree: ["*", null, ["over_mean", null, ["column", "macs"]], \
["+", null, ["reduced", "largest", "channel_weight_l2"], ["constant", 0.5]]]
import math


def bounded(x):
    return float(min(1e+30, max(0.0, x)))


def over_mean(values):
    mean = sum(values) / len(values) or 1.0
    return [bounded(x / mean) for x in values]


def score(layers):
    macs = [bounded(abs(layer["macs"])) for layer in layers]
    t1 = over_mean(macs)
    channel_weight_l2_largest = [bounded(max(z)) for z in [[bounded(abs(x)) for x in layer["channel_weight_l2"]] \
for layer in layers]]
    t2 = [bounded(x + 0.5) for x in channel_weight_l2_largest]
    t3 = [bounded(x * y) for x, y in zip(t1, t2)]
    return t3
"""
    )
    assert written(tree).reasoning == (
        "The error that a layer causes at the lowest bits is taken to grow with (macs relative to the mean of all "
        "layers) times ((the largest over the channels of channel_weight_l2) plus 0.5)."
    )


@pytest.mark.parametrize(
    "bad",
    ["[]", "{}", "1", '["column"]', '["column", 1]', '["constant", -1.0]', '["constant", NaN]', '["constant", 1e400]',
     '["exec", null, ["column", "macs"]]', '["power", 3.0, ["column", "macs"]]', '["*", null, ["column", "macs"]]',
     '["if", "pool", ["column", "macs"], ["column", "macs"]]', '["reduced", "sum", "channel_weight_l2"]',
     "[" * 5000 + "]" * 5000, "no json"],
)  # fmt: skip
def test_comments_that_are_no_trees(bad: str) -> None:
    assert tree_of(f"# tree: {bad}\ndef score(layers):\n    return [1.0] * len(layers)\n") is None


def test_a_changed_program_has_no_tree() -> None:
    code = written(Column("macs")).code
    assert tree_of(code) == Column("macs")
    assert tree_of(f"\n{code}\n\n") == Column("macs")
    assert tree_of(code.replace('"macs"]))', '"parameters"]))')) is None
    assert tree_of(code.split("\n", 1)[1]) is None
