"""Expression trees over the statistics table: one number >= 0 per layer, whatever the table holds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

BOUND = 1e30
"""Every intermediate value is kept within [0, BOUND], so that no tree overflows."""

UNARY: dict[str, tuple[str, str]] = {
    "sqrt": ("math.sqrt(x)", "the square root of {0}"),
    "square": ("bounded(x * x)", "the square of {0}"),
    "log1p": ("math.log1p(x)", "the logarithm of 1 + {0}"),
    "reciprocal": ("1.0 / (x + 1e-9)", "the reciprocal of {0}"),
    "decay": ("math.exp(-x)", "exp(-{0})"),
}
"""Operation -> code for a layer's value x, and words."""

ACROSS: dict[str, tuple[str, str]] = {
    "over_max": ("x / (max(v) or 1.0)", "{0} relative to the largest of all layers"),
    "over_mean": ("bounded(x / (sum(v) / len(v) or 1.0))", "{0} relative to the mean of all layers"),
    "rank": ("sum(y < x for y in v) / len(v)", "the share of layers with less {0}"),
}
"""Operation -> code for a layer's value x among all layers' values v, and words."""

BINARY: dict[str, tuple[str, str]] = {
    "+": ("bounded(x + y)", "{0} plus {1}"),
    "*": ("bounded(x * y)", "{0} times {1}"),
    "/": ("bounded(x / (y + 1e-9))", "{0} over {1}"),
    "max": ("max(x, y)", "the larger of {0} and {1}"),
    "min": ("min(x, y)", "the smaller of {0} and {1}"),
    "difference": ("abs(x - y)", "the distance between {0} and {1}"),
}

REDUCTIONS: dict[str, tuple[str, str]] = {
    "mean": ("sum(c) / len(c)", "the mean over the channels of {0}"),
    "max": ("max(c)", "the largest channel's {0}"),
    "min": ("min(c)", "the smallest channel's {0}"),
    "norm": ("math.sqrt(bounded(sum(bounded(z * z) for z in c)))", "the norm over the channels of {0}"),
}

EXPONENTS = (0.25, 0.5, 1.5, 2.0)
OPERATORS = ("conv", "depthwise", "dense")


@dataclass(frozen=True)
class Column:
    """A numeric column of the layer; its magnitude where it can be negative."""

    name: str


@dataclass(frozen=True)
class Reduced:
    """A channel column reduced over the channels, magnitudes first."""

    reduction: str
    name: str


@dataclass(frozen=True)
class Constant:
    """A number in [0, BOUND]."""

    value: float


@dataclass(frozen=True)
class Apply:
    """A unary or binary operation; a power has its exponent, a choice its layer kind."""

    operation: str
    operands: "tuple[Tree, ...]"
    argument: float | str | None = None


Tree: TypeAlias = Column | Reduced | Constant | Apply


def to_json(tree: Tree) -> list[Any]:
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


def from_json(values: Any) -> Tree:
    """Return the tree that `to_json` gave.

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
        case ["constant", int(value) | float(value)] if 0 <= value <= BOUND:
            return Constant(float(value))
        case [str(operation), None, operand] if operation in UNARY or operation in ACROSS:
            return Apply(operation, (from_json(operand),))
        case ["power", float(exponent), operand] if exponent in EXPONENTS:
            return Apply("power", (from_json(operand),), exponent)
        case [str(operation), None, first, second] if operation in BINARY:
            return Apply(operation, (from_json(first), from_json(second)))
        case ["if", str(kind), first, second] if kind in OPERATORS:
            return Apply("if", (from_json(first), from_json(second)), kind)
    raise ValueError(f"no expression: {str(values)[:80]}")


def nodes(tree: Tree) -> list[tuple[tuple[int, ...], Tree]]:
    """Return every (path, subtree), the root first."""
    found: list[tuple[tuple[int, ...], Tree]] = [((), tree)]
    if isinstance(tree, Apply):
        for i, operand in enumerate(tree.operands):
            found += [((i, *path), node) for path, node in nodes(operand)]
    return found


def replaced(tree: Tree, path: Sequence[int], new: Tree) -> Tree:
    """Return the tree with another subtree at a path."""
    if not path:
        return new
    assert isinstance(tree, Apply)
    operands = list(tree.operands)
    operands[path[0]] = replaced(operands[path[0]], path[1:], new)
    return Apply(tree.operation, tuple(operands), tree.argument)


def depth(tree: Tree) -> int:
    """Return the longest path's number of nodes."""
    return 1 + max((depth(o) for o in tree.operands), default=0) if isinstance(tree, Apply) else 1


def words(tree: Tree) -> str:
    """Return a tree in words."""
    match tree:
        case Column(name):
            return name
        case Reduced(reduction, name):
            return REDUCTIONS[reduction][1].format(name)
        case Constant(value):
            return f"{value:g}"
        case Apply("power", operands, argument):
            return f"({words(operands[0])})^{argument:g}"
        case Apply("if", operands, argument):
            return f"({words(operands[0])} for {argument} layers, {words(operands[1])} for others)"
        case Apply(operation, operands, _):
            text = (UNARY | ACROSS | BINARY)[operation][1]
            return text.format(*(f"({words(o)})" if isinstance(o, Apply) else words(o) for o in operands))


def lines(tree: Tree) -> list[str]:
    """Return Python lines that compute a tree for all layers; the last one names the result."""
    written: dict[Tree, str] = {}
    code: list[str] = []

    def name_of(node: Tree) -> str:
        if node not in written:
            text = expression(node)
            written[node] = f"v{len(written)}"
            code.append(f"{written[node]} = {text}")
        return written[node]

    def expression(node: Tree) -> str:
        match node:
            case Column(name):
                return f'[bounded(abs(layer["{name}"])) for layer in layers]'
            case Reduced(reduction, name):
                inner = f'[bounded(abs(z)) for z in layer["{name}"]]'
                return f"[bounded({REDUCTIONS[reduction][0]}) for layer in layers for c in [{inner}]]"
            case Constant(value):
                return f"[{value!r}] * len(layers)"
            case Apply("power", operands, argument):
                return f"[bounded(x ** {argument!r}) for x in {name_of(operands[0])}]"
            case Apply("if", operands, argument):
                first, second = (name_of(o) for o in operands)
                kinds = f'[layer["op"] == "{argument}" for layer in layers]'
                return f"[x if k else y for x, y, k in zip({first}, {second}, {kinds})]"
            case Apply(operation, operands, _) if operation in UNARY:
                return f"[{UNARY[operation][0]} for x in {name_of(operands[0])}]"
            case Apply(operation, operands, _) if operation in ACROSS:
                return f"[{ACROSS[operation][0]} for v in [{name_of(operands[0])}] for x in v]"
            case Apply(operation, operands, _):
                first, second = (name_of(o) for o in operands)
                return f"[{BINARY[operation][0]} for x, y in zip({first}, {second})]"

    result = name_of(tree)
    return [*code, f"return {result}"]


def finite(value: float) -> bool:
    """Whether a constant is allowed in a tree."""
    return math.isfinite(value) and 0 <= value <= BOUND
