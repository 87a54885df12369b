"""Expression trees over the statistics table: one number >= 0 per layer, whatever the table holds.

The meaning of the operations is the code that `tapc.search.offline.printing` writes for them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

BOUND = 1e30
"""Every value of a tree lies in [0, BOUND], so that none overflows."""

GUARD = 1e-12
"""Added to denominators and to what a logarithm is taken of."""

EXPONENTS = (0.25, 0.5, 1.5, 2.0)
KINDS = ("conv", "depthwise", "dense")
"""Values of the column ``op``."""

REDUCTIONS = ("mean", "largest", "smallest", "std", "norm", "geometric_mean")
"""Over the channels of a layer."""

UNARY = ("sqrt", "square", "log1p", "reciprocal", "decay")
ACROSS = ("over_max", "over_mean", "rank")
"""Of a layer among all layers of its network."""

BINARY = ("+", "*", "/", "max", "min", "difference")


@dataclass(frozen=True)
class Column:
    """A numeric column of the layer; its magnitude where it can be negative."""

    name: str


@dataclass(frozen=True)
class Reduced:
    """The magnitudes of a channel column, reduced over the channels."""

    reduction: str
    name: str


@dataclass(frozen=True)
class Constant:
    """The same number in [0, BOUND] for all layers."""

    value: float


@dataclass(frozen=True)
class Apply:
    """An operation on one or two expressions.

    Attributes
    ----------
    operation : str
        One of `UNARY`, `ACROSS` or `BINARY`, "power", or "if".
    operands : tuple of Expression
    argument : float, str or None
        A power's exponent; the kind of layer for which "if" takes its first operand.
    """

    operation: str
    operands: "tuple[Expression, ...]"
    argument: float | str | None = None


Leaf: TypeAlias = Column | Reduced | Constant
Expression: TypeAlias = Leaf | Apply
Path: TypeAlias = tuple[int, ...]


def to_json(tree: Expression) -> list[Any]:
    """Return a tree as JSON values."""
    match tree:
        case Column(name):
            return ["column", name]
        case Reduced(reduction, name):
            return ["reduced", reduction, name]
        case Constant(value):
            return ["constant", value]
        case Apply(operation, operands, argument):
            return [operation, argument, *(to_json(operand) for operand in operands)]


def from_json(values: Any) -> Expression:
    """Return the tree that `to_json` gave. Names of columns are not checked here.

    Raises
    ------
    ValueError
        It is none.
    """
    match values:
        case ["column", str(name)]:
            return Column(name)
        case ["reduced", str(reduction), str(name)] if reduction in REDUCTIONS:
            return Reduced(reduction, name)
        case ["constant", float(value)] if 0 <= value <= BOUND:
            return Constant(value)
        case [str(operation), None, operand] if operation in UNARY or operation in ACROSS:
            return Apply(operation, (from_json(operand),))
        case ["power", float(exponent), operand] if exponent in EXPONENTS:
            return Apply("power", (from_json(operand),), exponent)
        case [str(operation), None, first, second] if operation in BINARY:
            return Apply(operation, (from_json(first), from_json(second)))
        case ["if", str(kind), first, second] if kind in KINDS:
            return Apply("if", (from_json(first), from_json(second)), kind)
    raise ValueError(f"no expression: {str(values)[:80]}")


def nodes(tree: Expression) -> Iterator[tuple[Path, Expression]]:
    """Yield every (path, subtree), the root first; a path is the positions of the operands that lead there."""
    yield (), tree
    if isinstance(tree, Apply):
        for i, operand in enumerate(tree.operands):
            for path, node in nodes(operand):
                yield (i, *path), node


def replaced(tree: Expression, path: Sequence[int], new: Expression) -> Expression:
    """Return the tree with another subtree at a path of `nodes`."""
    if not path:
        return new
    assert isinstance(tree, Apply)
    operands = list(tree.operands)
    operands[path[0]] = replaced(operands[path[0]], path[1:], new)
    return Apply(tree.operation, tuple(operands), tree.argument)


def depth(tree: Expression) -> int:
    """Return the number of nodes on the longest path; 1 for a leaf."""
    return 1 + max(map(depth, tree.operands)) if isinstance(tree, Apply) else 1


def size(tree: Expression) -> int:
    """Return the number of nodes."""
    return sum(1 for _ in nodes(tree))


def column_names(tree: Expression) -> list[str]:
    """Return the columns of a tree, each once, in the order of appearance."""
    return list(dict.fromkeys(node.name for _, node in nodes(tree) if isinstance(node, Column | Reduced)))
