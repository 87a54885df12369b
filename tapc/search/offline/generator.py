"""Proxies from the grammar: code that carries its tree, and the reasoning in words."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tapc.proxy.columns import Column as ColumnInfo
from tapc.search.controllers import Operator
from tapc.search.offline.grammar import Grammar
from tapc.search.offline.printing import code, words
from tapc.search.offline.tree import Expression, from_json, to_json

LABEL = "offline grammar (no language model: not TAP)"
_MARK = "# tree: "


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


def written(tree: Expression) -> Written:
    """Return a tree as a program that carries the tree in a comment."""
    text = json.dumps(to_json(tree))
    reasoning = f"The error that a layer causes at the lowest bits is taken to grow with {words(tree)}."
    return Written(f"expression-{hashlib.sha256(text.encode()).hexdigest()[:8]}", reasoning, code(tree, _MARK + text))


def tree_of(program: str) -> Expression | None:
    """Return the tree of a program that `written` gave, or None: another author wrote it, or changed it since."""
    match = re.match(rf"\s*{re.escape(_MARK)}(.*)", program)
    if match is None:
        return None
    try:
        tree = from_json(json.loads(match.group(1)))
        same = written(tree).code.split() == program.split()
    except (ValueError, RecursionError):
        return None
    return tree if same else None


class OfflineGenerator:
    """Writes proxies without a language model.

    Parameters
    ----------
    columns : sequence of tapc.proxy.columns.Column
        What programs see.
    """

    def __init__(self, columns: Sequence[ColumnInfo]) -> None:
        self._grammar = Grammar(columns)

    def draft(self, operator: Operator, parents: Sequence[HasCode], rng: np.random.Generator) -> Written:
        """Write a proxy.

        Parameters
        ----------
        operator : {"initialization", "mutation", "crossover"}
        parents : sequence with an attribute ``code``
            Those without a tree of this grammar are left out; with too few left it is an initialization.
        rng : numpy Generator
            The only source of chance.
        """
        trees = [tree for p in parents if (tree := tree_of(p.code)) is not None and self._grammar.contains(tree)]
        if operator == "mutation" and trees:
            return written(self._grammar.mutated(trees[0], rng))
        if operator == "crossover" and len(trees) > 1:
            return written(self._grammar.crossed(trees[0], trees[1], rng))
        return written(self._grammar.fresh(rng))
