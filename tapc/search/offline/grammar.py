"""The grammar: which columns are likely, which are alike, and how expressions are grown, changed and crossed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tapc.proxy.columns import Column as ColumnInfo
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
    column_names,
    depth,
    nodes,
    replaced,
    size,
)

T = TypeVar("T")

MOST_DEPTH = 6
"""Nodes on a path: five operations over a leaf."""

MOST_NODES = 24
_TRIES = 50
_CONSTANTS = (0.1, 0.5, 1.0, 2.0)
_COMPARABLE = ("+", "max", "min", "difference")
"""Operations that make sense between values of like unit only."""


@dataclass(frozen=True)
class Family:
    """Columns of like unit: their values can be added, compared and put in each other's place.

    Attributes
    ----------
    weight : float
        How much likelier than a column of weight 1 each of them is drawn.
    columns : tuple of str
    """

    weight: float
    columns: tuple[str, ...]


def _family(weight: float, columns: str) -> Family:
    return Family(weight, tuple(columns.split()))


FAMILIES: dict[str, Family] = {
    "relative error": _family(
        3.0,
        "weight_error_2 weight_error_4 weight_error_8 input_error_4 input_error_8 output_error_2 output_error_4 "
        "output_error_8 gptq_error_2 gptq_error_4 channel_weight_error_2 channel_gptq_error_2 channel_gptq_error_4",
    ),
    "weight": _family(2.0, "weight_l1 weight_l2 weight_max weight_std channel_weight_l2 channel_weight_max"),
    "activation": _family(
        2.0,
        "input_min input_max input_mean input_std output_mean output_std output_max channel_output_mean "
        "channel_output_std",
    ),
    "parameters": _family(2.0, "parameters"),
    "MACs": _family(2.0, "macs"),
    "elements": _family(2.0, "input_size output_size"),
    "share of the network": _family(2.0, "parameter_share mac_share"),
    "bits": _family(1.0, "weight_entropy input_entropy output_entropy"),
    "shape of a distribution": _family(0.5, "weight_kurtosis input_kurtosis weight_range_ratio"),
    "share of zeros": _family(0.5, "input_sparsity"),
    "position": _family(1.0, "depth"),
    "gain": _family(2.0, "downstream_gain logit_gain logit_gain_alike channel_logit_gain"),
    "share of the signal": _family(1.0, "addition_share activation_slope"),
    "pooling": _family(0.5, "average_pooled max_pooled"),
    "places": _family(0.5, "output_pixels"),
    "uses": _family(0.5, "readers layers_behind"),
    "channels": _family(0.5, "in_channels out_channels groups width_before width_behind"),
    "pixels": _family(0.25, "kernel_h kernel_w stride output_height output_width"),
    "flag": _family(0.25, "first last residual relu"),
}
"""The prior: a score predicts an error, so errors are likeliest, then norms and sizes, which errors scale with.

These are finer than the units of `tapc.proxy.columns`, where ratios, weights and activations all have none.
"""

STARTS = ("weight_error_2", "weight_error_4", "output_error_2", "output_error_4", "gptq_error_2", "gptq_error_4")
"""Half of all fresh trees start from one of these errors, which alone rank layers usefully."""

GAINS = ("downstream_gain", "logit_gain", "logit_gain_alike")
"""What becomes of an error on its way to the logits."""

IGNORED = ("index", "layers")
"""Numeric columns no expression uses: `depth` is `index` on a scale that networks share; `layers` ranks no layer."""


class Grammar:
    """Grows, changes and crosses expressions over some columns.

    Parameters
    ----------
    columns : sequence of tapc.proxy.columns.Column
        What programs see.
    """

    def __init__(self, columns: Sequence[ColumnInfo]) -> None:
        visible = {c.name: c for c in columns if not c.text and c.name not in IGNORED}
        families = [replace(f, columns=tuple(name for name in f.columns if name in visible)) for f in FAMILIES.values()]
        self._family = {name: f.columns for f in families for name in f.columns}
        if unknown := sorted(set(visible) - set(self._family)):
            raise ValueError(f"columns {', '.join(unknown)} are in no family of {__name__}.FAMILIES")
        self._channel = {name for name, c in visible.items() if c.scope == "channel"}
        self._names = list(self._family)
        self._errors = [name for name in STARTS if name in visible]
        self._gains = [name for name in GAINS if name in visible]
        weights = np.array([f.weight for f in families for _ in f.columns])
        self._prior = weights / weights.sum()

    def contains(self, tree: Expression) -> bool:
        """Return whether a tree is within the limits, sees visible columns only, and at least one."""
        for _, node in nodes(tree):
            if isinstance(node, Column) and (node.name not in self._family or node.name in self._channel):
                return False
            if isinstance(node, Reduced) and node.name not in self._channel:
                return False
        return depth(tree) <= MOST_DEPTH and size(tree) <= MOST_NODES and bool(column_names(tree))

    def fresh(self, rng: np.random.Generator) -> Expression:
        """Return a product of one to three terms; in half of the cases an error's column, mostly weighed by another.

        That is a gain in half of these cases: an error of the logits is the layer's own times what becomes of it.
        """
        if self._errors and rng.random() < 0.5:
            error = Column(_any(self._errors, rng))
            if rng.random() < 0.25:
                return error
            if not self._gains or rng.random() < 0.5:
                return self._weighed(error, rng)
            gain, exponent = Column(_any(self._gains, rng)), _any((0.5, 1.0), rng)
            felt = Apply("*", (error, gain if exponent == 1.0 else Apply("power", (gain,), exponent)))
            return self._weighed(felt, rng) if rng.random() < 0.5 else felt
        tree = self._term(rng)
        for _ in range(int(rng.choice(3, p=[0.2, 0.5, 0.3]))):
            longer = Apply("*" if rng.random() < 0.8 else "/", (tree, self._term(rng)))
            tree = longer if self.contains(longer) else tree
        return tree

    def _weighed(self, tree: Expression, rng: np.random.Generator) -> Expression:
        """Return the tree times or over a power of a column; small powers, which change few ranks, are likelier."""
        part, exponent = self._part(rng), float(rng.choice((0.25, 0.5, 1.0), p=(0.45, 0.3, 0.25)))
        factor = part if exponent == 1.0 else Apply("power", (part,), exponent)
        return Apply("*" if rng.random() < 0.5 else "/", (tree, factor))

    def mutated(self, tree: Expression, rng: np.random.Generator) -> Expression:
        """Return a tree with one change: a factor, subtree, operation, column or constant; or only a part of the tree.

        Where none of 50 attempts differs and stays within the limits, it is a fresh tree.
        """
        changes = (self._weighed, self._subtree, self._decorate, self._operation, self._column, self._constant, _hoist)

        def make() -> Expression | None:
            return changes[int(rng.choice(len(changes), p=[0.4, 0.15, 0.1, 0.1, 0.15, 0.05, 0.05]))](tree, rng)

        return self._first(make, (tree,), rng)

    def crossed(self, first: Expression, second: Expression, rng: np.random.Generator) -> Expression:
        """Return the first tree with a part of the second, or both joined.

        They are joined by their product; by kind of layer, one parent for each, as in the paper's example; or by their
        sum, maximum or minimum, each relative to its mean over the layers.
        """

        def make() -> Expression | None:
            if rng.random() < 0.5:
                gift = _any(list(nodes(second)), rng)[1]
                return replaced(first, _any(list(nodes(first)), rng)[0], gift)
            join = _any(("*", "*", "if", "+", "max", "min"), rng)
            if join == "*":
                return Apply("*", (first, second))
            if join == "if":
                return Apply("if", (first, second), _any(KINDS, rng))
            return Apply(join, (_relative(first), _relative(second)))

        return self._first(make, (first, second), rng)

    def _first(
        self, make: Callable[[], Expression | None], parents: Sequence[Expression], rng: np.random.Generator
    ) -> Expression:
        for _ in range(_TRIES):
            tree = make()
            if tree is not None and tree not in parents and self.contains(tree):
                return tree
        return self.fresh(rng)

    def _named(self, name: str, rng: np.random.Generator) -> Expression:
        return Reduced(_any(REDUCTIONS, rng), name) if name in self._channel else Column(name)

    def _leaf(self, rng: np.random.Generator) -> Expression:
        return self._named(str(rng.choice(self._names, p=self._prior)), rng)

    def _part(self, rng: np.random.Generator) -> Expression:
        """Return a column that a term is made of."""
        leaf = self._leaf(rng)
        if isinstance(leaf, Column) and leaf.name == "depth" and rng.random() < 0.7:
            return Apply("decay", (Apply("*", (Constant(_any(_CONSTANTS, rng)), leaf)),))
        if isinstance(leaf, Column) and leaf.name in FAMILIES["flag"].columns:
            return Apply("+", (leaf, Constant(_any(_CONSTANTS, rng))))  # a product with 0 would rank nothing
        return leaf

    def _decorated(self, tree: Expression, rng: np.random.Generator) -> Expression:
        draw = rng.random()
        if draw < 0.5:
            return tree
        if draw < 0.75:
            return Apply("power", (tree,), _any(EXPONENTS, rng))
        if draw < 0.85:
            return Apply("log1p", (tree,))
        return Apply(_any((*ACROSS, *UNARY), rng), (tree,))

    def _term(self, rng: np.random.Generator) -> Expression:
        """Return one column, in half of the cases transformed, sometimes with another one or a constant."""
        first = self._part(rng)
        draw = rng.random()
        other = self._like(first, rng) if draw < 0.1 and isinstance(first, Column | Reduced) else None
        if other is not None:
            return self._decorated(Apply(_any(_COMPARABLE, rng), (first, other)), rng)
        first = self._decorated(first, rng)
        if draw < 0.2:
            return Apply("if", (_relative(first), Constant(_any(_CONSTANTS, rng))), _any(KINDS, rng))
        if draw < 0.3:
            return Apply("+", (_relative(first), Constant(_any(_CONSTANTS, rng))))
        return first

    def _like(self, leaf: Column | Reduced, rng: np.random.Generator) -> Expression | None:
        """Return another column of like unit, or None."""
        others = [name for name in self._family[leaf.name] if name != leaf.name]
        return self._named(_any(others, rng), rng) if others else None

    def _subtree(self, tree: Expression, rng: np.random.Generator) -> Expression:
        return replaced(tree, _any(list(nodes(tree)), rng)[0], self._term(rng))

    def _decorate(self, tree: Expression, rng: np.random.Generator) -> Expression:
        path, node = _any(list(nodes(tree)), rng)
        return replaced(tree, path, self._decorated(node, rng))

    def _column(self, tree: Expression, rng: np.random.Generator) -> Expression | None:
        places = [(path, node) for path, node in nodes(tree) if isinstance(node, Column | Reduced)]
        if not places:
            return None
        path, node = _any(places, rng)
        other = self._like(node, rng)
        return None if other is None else replaced(tree, path, other)

    def _constant(self, tree: Expression, rng: np.random.Generator) -> Expression | None:
        places = [(path, node) for path, node in nodes(tree) if isinstance(node, Constant)]
        if not places:
            return None
        path, node = _any(places, rng)
        return replaced(tree, path, Constant(min(node.value * _any((0.25, 0.5, 2.0, 4.0), rng), 1e6)))

    def _operation(self, tree: Expression, rng: np.random.Generator) -> Expression | None:
        """Put another operation of as many operands in the place of one, or another exponent, kind or reduction."""
        places = [(path, node) for path, node in nodes(tree) if isinstance(node, Apply | Reduced)]
        if not places:
            return None
        path, node = _any(places, rng)
        match node:
            case Reduced(_, name):
                return replaced(tree, path, Reduced(_any(REDUCTIONS, rng), name))
            case Apply("power", operands):
                return replaced(tree, path, Apply("power", operands, _any(EXPONENTS, rng)))
            case Apply("if", operands):
                return replaced(tree, path, Apply("if", operands, _any(KINDS, rng)))
            case Apply(_, (operand,)):
                return replaced(tree, path, Apply(_any((*UNARY, *ACROSS), rng), (operand,)))
            case Apply(_, operands):
                return replaced(tree, path, Apply(_any(BINARY, rng), operands))
        raise AssertionError(node)


def _hoist(tree: Expression, rng: np.random.Generator) -> Expression:
    return _any(list(nodes(tree)), rng)[1]


def _relative(tree: Expression) -> Expression:
    return tree if isinstance(tree, Apply) and tree.operation in ACROSS else Apply("over_mean", (tree,))


def _any(values: Sequence[T], rng: np.random.Generator) -> T:
    return values[int(rng.integers(len(values)))]
