"""Expression trees as Python code and in words."""

from collections.abc import Callable, Sequence

from tapc.search.offline.tree import BOUND, GUARD, Apply, Column, Constant, Expression, Reduced

_REDUCTIONS = {
    "mean": ("sum(z) / len(z)", "the mean over the channels of {}"),
    "largest": ("max(z)", "the largest over the channels of {}"),
    "smallest": ("min(z)", "the smallest over the channels of {}"),
    "std": ("(sum((x - sum(z) / len(z)) ** 2 for x in z) / len(z)) ** 0.5", "the deviation over the channels of {}"),
    "norm": ("sum(x * x for x in z) ** 0.5", "the norm over the channels of {}"),
    "geometric_mean": (
        f"math.exp(sum(math.log(x + {GUARD}) for x in z) / len(z))",
        "the geometric mean over the channels of {}",
    ),
}
"""Reduction -> code for the magnitudes z of a layer's channels, and words."""

_UNARY = {
    "sqrt": ("math.sqrt(x)", "the square root of {}"),
    "square": ("bounded(x * x)", "the square of {}"),
    "log1p": ("math.log1p(x)", "the logarithm of 1 + {}"),
    "reciprocal": (f"1.0 / (x + {GUARD})", "the reciprocal of {}"),
    "decay": ("math.exp(-x)", "exp(-{})"),
}
"""Operation -> code for a layer's value x, and words."""

_ACROSS = {
    "over_max": "{} relative to the largest of all layers",
    "over_mean": "{} relative to the mean of all layers",
    "rank": "the rank among the layers of {}",
}
"""Operation, a function of the program -> words."""

_BINARY = {
    "+": ("bounded({x} + {y})", "{} plus {}"),
    "*": ("bounded({x} * {y})", "{} times {}"),
    "/": (f"bounded({{x}} / ({{y}} + {GUARD}))", "{} over {}"),
    "max": ("max({x}, {y})", "the larger of {} and {}"),
    "min": ("min({x}, {y})", "the smaller of {} and {}"),
    "difference": ("abs({x} - {y})", "the distance between {} and {}"),
    "if": ('{x} if layer["op"] == "{kind}" else {y}', ""),
}
"""Operation -> code for a layer's two values, and words."""

# The constants stand first: max(0.0, nan) is 0.0, while max(nan, 0.0) is nan.
_BOUNDED = f"""def bounded(x):
    return float(min({BOUND}, max(0.0, x)))
"""

_FUNCTIONS = {
    "over_max": """def over_max(values):
    largest = max(values) or 1.0
    return [x / largest for x in values]
""",
    "over_mean": """def over_mean(values):
    mean = sum(values) / len(values) or 1.0
    return [bounded(x / mean) for x in values]
""",
    "rank": """def rank(values):
    # ties share the mean of their places; the largest of n different values has rank 1, the smallest 1 / n
    ordered = sorted(values)
    places = {}
    for place, x in enumerate(ordered, 1):
        places.setdefault(x, []).append(place)
    return [sum(places[x]) / len(places[x]) / len(values) for x in values]
""",
}


def code(tree: Expression, comment: str) -> str:
    """Return a program whose ``score`` computes a tree, one line per node.

    Parameters
    ----------
    tree : Expression
    comment : str
        First line of the program.
    """
    lines, used = _lines(tree)
    functions = [_BOUNDED, *(text for name, text in _FUNCTIONS.items() if name in used)]
    body = "".join(f"    {line}\n" for line in lines)
    return "\n\n".join([f"{comment}\nimport math\n", *functions, f"def score(layers):\n{body}"])


def words(tree: Expression) -> str:
    """Return a tree in words."""
    match tree:
        case Column(name):
            return name
        case Reduced(reduction, name):
            return _REDUCTIONS[reduction][1].format(name)
        case Constant(value):
            return f"{value:g}"
        case Apply("power", operands, argument):
            return f"{_operand(operands[0])}^{argument:g}"
        case Apply("if", (first, second), kind):
            return f"({words(first)} for {kind} layers, {words(second)} for others)"
        case Apply("decay", (operand,)):
            return f"exp(-{_operand(operand)})"
        case Apply(operation, operands):
            texts = {**_ACROSS, **{name: text for name, (_, text) in (_UNARY | _BINARY).items()}}
            return texts[operation].format(*map(_operand, operands))


def _operand(tree: Expression) -> str:
    simple = isinstance(tree, Column | Constant) or (isinstance(tree, Apply) and tree.operation == "if")
    return words(tree) if simple else f"({words(tree)})"


def _binary(
    operation: str, operands: Sequence[Expression], argument: float | str | None, name_of: Callable[[Expression], str]
) -> tuple[str, dict[str, str]]:
    """Return the code for one layer, constants written out, and what each of its variables runs over."""
    loops: dict[str, str] = {}
    values: dict[str, str] = {}
    for letter, operand in zip("xy", operands, strict=True):
        if isinstance(operand, Constant):
            values[letter] = repr(operand.value)
        else:
            values[letter], loops[letter] = letter, name_of(operand)
    if operation == "if" or not loops:
        loops = {"layer": "layers", **loops}
    return _BINARY[operation][0].format(**values, kind=argument), loops


def _lines(tree: Expression) -> tuple[list[str], set[str]]:
    """Return the lines of ``score``, equal subtrees once, and the functions they call."""
    names: dict[Expression, str] = {}
    lines: list[str] = []
    used: set[str] = set()

    def name_of(node: Expression) -> str:
        if node not in names:
            text = expression(node)
            match node:
                case Column(name):
                    names[node] = name
                case Reduced(reduction, name):
                    names[node] = f"{name}_{reduction}"
                case _:
                    names[node] = f"t{1 + sum(isinstance(n, Apply | Constant) for n in names)}"
            lines.append(f"{names[node]} = {text}")
        return names[node]

    def expression(node: Expression) -> str:
        match node:
            case Column(name):
                return f'[bounded(abs(layer["{name}"])) for layer in layers]'
            case Reduced(reduction, name):
                channels = f'[[bounded(abs(x)) for x in layer["{name}"]] for layer in layers]'
                return f"[bounded({_REDUCTIONS[reduction][0]}) for z in {channels}]"
            case Constant(value):
                return f"[{value!r}] * len(layers)"
            case Apply("power", (operand,), exponent):
                return f"[bounded(x ** {exponent!r}) for x in {name_of(operand)}]"
            case Apply(operation, (operand,)) if operation in _ACROSS:
                used.add(operation)
                return f"{operation}({name_of(operand)})"
            case Apply(operation, (operand,)):
                return f"[{_UNARY[operation][0]} for x in {name_of(operand)}]"
            case Apply(operation, operands, argument):
                text, loops = _binary(operation, operands, argument, name_of)
                over = ", ".join(loops.values())
                return f"[{text} for {', '.join(loops)} in {over if len(loops) == 1 else f'zip({over})'}]"

    result = name_of(tree)
    return [*lines, f"return {result}"], used
