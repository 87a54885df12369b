"""A second, independent meaning of the grammar: numpy and scipy on the JSON form of a tree."""

import types
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tapc.proxy.columns import COLUMNS, Table

LIMIT = 1e30


def run(code: str, table: Table) -> list[float]:
    """Execute a program as plain Python and return its scores."""
    module = types.ModuleType("proxy")
    exec(code, module.__dict__)
    scores = module.score(table)
    assert isinstance(scores, list)
    return scores


def evaluate(tree: list[Any], table: Table) -> NDArray[np.float64]:
    """Return the scores of a tree given as JSON."""
    with np.errstate(over="ignore", under="ignore"):
        return np.clip(_value(tree, table), 0.0, LIMIT)


def _value(tree: list[Any], table: Table) -> Any:
    head, *rest = tree
    if head == "column":
        return np.abs(np.array([float(row[rest[0]]) for row in table]))
    if head == "constant":
        return np.full(len(table), rest[0])
    if head == "reduced":
        return np.array([_reduced(rest[0], np.minimum(np.abs(np.array(row[rest[1]])), LIMIT)) for row in table])
    argument, *operands = rest
    values = [evaluate(operand, table) for operand in operands]
    if head == "if":
        return np.where(np.array([row["op"] for row in table]) == argument, *values)
    x, y = values[0], values[-1]
    return {
        "power": lambda: np.power(x, argument),
        "sqrt": lambda: np.power(x, 0.5),
        "square": lambda: np.square(x),
        "log1p": lambda: np.log1p(x),
        "reciprocal": lambda: 1 / (x + 1e-12),
        "decay": lambda: np.exp(-x),
        "over_max": lambda: x / (np.max(x) or 1),
        "over_mean": lambda: x / (np.mean(x) or 1),
        "rank": lambda: stats.rankdata(x, method="average") / len(x),
        "+": lambda: np.add(x, y),
        "*": lambda: np.multiply(x, y),
        "/": lambda: np.divide(x, y + 1e-12),
        "max": lambda: np.maximum(x, y),
        "min": lambda: np.minimum(x, y),
        "difference": lambda: np.abs(np.subtract(x, y)),
    }[head]()


def _reduced(how: str, channels: NDArray[np.float64]) -> float:
    reduce = {
        "mean": np.mean,
        "largest": np.max,
        "smallest": np.min,
        "std": np.std,
        "norm": np.linalg.norm,
        "geometric_mean": lambda z: stats.gmean(z + 1e-12),
    }[how]
    return float(reduce(channels))


def random_table(seed: int, layers: int = 7) -> Table:
    """Return a table with cells of all magnitudes in their ranges, some of them equal, zero or negative."""
    rng = np.random.default_rng(seed)

    def cell(low: float, high: float) -> float:
        if rng.random() < 0.1:
            return min(max(low, 0.0), high)
        if high == 1.0:
            return float(rng.random())
        sign = rng.choice([-1.0, 1.0]) if low < 0 else 1.0
        return float(min(max(low, sign * np.exp(rng.normal(0, 4))), high))

    table: Table = []
    for i in range(layers):
        row: dict[str, Any] = {}
        for column in COLUMNS:
            if column.scope == "channel":
                row[column.name] = [cell(column.low, column.high) for _ in range(int(rng.integers(1, 5)))]
            else:
                row[column.name] = cell(column.low, column.high)
        row |= {"name": f"layer{i}", "op": str(rng.choice(["conv", "depthwise", "dense"])), "index": i}
        table.append(row)
    return table
