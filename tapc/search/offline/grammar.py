"""The three operators of the search on expression trees, without any language model."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tapc.proxy.columns import Column as ColumnInfo
from tapc.search.controllers import Operator
from tapc.search.offline.tree import (
    ACROSS,
    BINARY,
    EXPONENTS,
    OPERATORS,
    REDUCTIONS,
    UNARY,
    Apply,
    Column,
    Constant,
    Reduced,
    Tree,
    depth,
    from_json,
    lines,
    nodes,
    replaced,
    to_json,
    words,
)

LABEL = "offline grammar (no language model: not TAP)"
MOST_DEPTH = 6
MOST_NODES = 24
_TRIES = 20
_MARK = "# tree: "
_HEADER = """import math


def bounded(x):
    return min(max(x, 0.0), 1e30)


def score(layers):
"""


@dataclass(frozen=True)
class Written:
    """A proxy that the grammar wrote."""

    name: str
    reasoning: str
    code: str


class HasCode(Protocol):
    """A parent."""

    @property
    def code(self) -> str:
        """Its program."""


def written(tree: Tree) -> Written:
    """Return a tree as a program that carries the tree in a comment."""
    text = json.dumps(to_json(tree))
    body = "".join(f"    {line}\n" for line in lines(tree))
    name = f"expression-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    reasoning = f"The error that a layer causes at the lowest bits is taken to grow with {words(tree)}."
    return Written(name, reasoning, f"{_HEADER}    {_MARK}{text}\n{body}")


def tree_of(code: str) -> Tree | None:
    """Return the tree that a program carries, or None: another author wrote it."""
    match = re.search(rf"^\s*{re.escape(_MARK)}(.*)$", code, re.MULTILINE)
    if match is None:
        return None
    try:
        return from_json(json.loads(match.group(1)))
    except (ValueError, RecursionError):
        return None


class OfflineGenerator:
    """Grows, changes and crosses expression trees.

    Columns that are errors or norms are drawn three times as often as others, since an error is what is looked for.

    Parameters
    ----------
    columns : sequence of Column
        What programs see.
    """

    def __init__(self, columns: Sequence[ColumnInfo]) -> None:
        usable = [c for c in columns if not c.text and c.name not in ("index", "layers")]
        self._info = {c.name: c for c in usable}
        self._names = [c.name for c in usable]
        likely = np.array([3.0 if re.search("error|_l2|parameters|macs", name) else 1.0 for name in self._names])
        self._weights = likely / likely.sum()
        self._errors = [name for name in self._names if re.fullmatch("(weight|output)_error_[24]", name)]

    def draft(self, operator: Operator, parents: Sequence[HasCode], rng: np.random.Generator) -> Written:
        """Write a proxy; parents that hold no tree make it an initialization."""
        trees = [tree for tree in (tree_of(parent.code) for parent in parents) if tree is not None]
        if operator == "mutation" and trees:
            return written(self._fitting(lambda: self._mutated(trees[0], rng), trees[0]))
        if operator == "crossover" and len(trees) > 1:
            return written(self._fitting(lambda: _crossed(trees[0], trees[1], rng), trees[0]))
        return written(self._fresh(rng))

    def _fitting(self, make: Callable[[], Tree], fallback: Tree) -> Tree:
        for _ in range(_TRIES):
            tree = make()
            if depth(tree) <= MOST_DEPTH and len(nodes(tree)) <= MOST_NODES and tree != fallback:
                return tree
        return fallback

    def _leaf(self, rng: np.random.Generator) -> Tree:
        name = str(rng.choice(self._names, p=self._weights))
        if self._info[name].scope == "channel":
            return Reduced(str(rng.choice(list(REDUCTIONS))), name)
        return Column(name)

    def _decorated(self, tree: Tree, rng: np.random.Generator) -> Tree:
        """Return the tree, in half of the cases under a unary operation."""
        draw = rng.random()
        if draw < 0.25:
            return Apply("power", (tree,), float(rng.choice(EXPONENTS)))
        if draw < 0.4:
            return Apply(str(rng.choice(list(UNARY))), (tree,))
        if draw < 0.5:
            return Apply(str(rng.choice(list(ACROSS))), (tree,))
        return tree

    def _fresh(self, rng: np.random.Generator) -> Tree:
        """Return a product of one to three terms; half of the trees start from a column that is an error itself."""
        if self._errors and rng.random() < 0.5:
            tree: Tree = Column(str(rng.choice(self._errors)))
            return self._weighed(tree, rng) if rng.random() < 0.75 else tree
        tree = self._term(rng)
        for _ in range(int(rng.integers(0, 3))):
            tree = Apply("*" if rng.random() < 0.7 else "/", (tree, self._term(rng)))
        return tree

    def _weighed(self, tree: Tree, rng: np.random.Generator) -> Tree:
        """Return the tree times or over a small power of a column: a step that changes few ranks."""
        leaf = self._leaf(rng)
        exponent = float(rng.choice((0.25, 0.5, 1.0), p=(0.45, 0.3, 0.25)))
        factor = leaf if exponent == 1.0 else Apply("power", (leaf,), exponent)
        return Apply(str(rng.choice(("*", "/"))), (tree, factor))

    def _term(self, rng: np.random.Generator) -> Tree:
        first = self._decorated(self._leaf(rng), rng)
        draw = rng.random()
        if draw < 0.1:
            return Apply("if", (first, self._leaf(rng)), str(rng.choice(OPERATORS)))
        if draw < 0.25:
            return Apply(str(rng.choice(list(BINARY))), (first, self._decorated(self._leaf(rng), rng)))
        if draw < 0.35:
            return Apply("+", (first, Constant(float(rng.choice((0.1, 0.5, 1.0))))))
        return first

    def _mutated(self, tree: Tree, rng: np.random.Generator) -> Tree:
        places = nodes(tree)
        path, node = places[int(rng.integers(len(places)))]
        kind = str(rng.choice(["weigh", "point", "subtree", "hoist", "decorate"], p=[0.5, 0.2, 0.15, 0.05, 0.1]))
        if kind == "weigh":
            return self._weighed(tree, rng)
        if kind == "point":
            return replaced(tree, path, self._changed(node, rng))
        if kind == "subtree":
            return replaced(tree, path, self._term(rng))
        if kind == "hoist":
            return node
        return replaced(tree, path, self._decorated(node, rng))

    def _changed(self, node: Tree, rng: np.random.Generator) -> Tree:
        """Return a node of the same kind: a column of like unit, another operation, a near constant."""
        match node:
            case Column(name):
                info = self._info.get(name)
                like = [
                    n
                    for n in self._names
                    if info and self._info[n].unit == info.unit and self._info[n].scope == "layer"
                ]
                return Column(str(rng.choice(like))) if like else self._leaf(rng)
            case Reduced(_, name):
                return Reduced(str(rng.choice(list(REDUCTIONS))), name)
            case Constant(value):
                return Constant(min(value * float(rng.choice((0.25, 0.5, 2.0, 4.0))), 1e6))
            case Apply("power", operands, _):
                return Apply("power", operands, float(rng.choice(EXPONENTS)))
            case Apply("if", operands, _):
                return Apply("if", operands, str(rng.choice(OPERATORS)))
            case Apply(operation, operands, _):
                table = UNARY if operation in UNARY else ACROSS if operation in ACROSS else BINARY
                return Apply(str(rng.choice(list(table))), operands)


def _crossed(first: Tree, second: Tree, rng: np.random.Generator) -> Tree:
    """Exchange subtrees, or join the parents."""
    if rng.random() < 0.5:
        return Apply(str(rng.choice(["*", "+", "max", "min"])), (first, second))
    places, gifts = nodes(first), nodes(second)
    path, _ = places[int(rng.integers(len(places)))]
    return replaced(first, path, gifts[int(rng.integers(len(gifts)))][1])
