"""The mixed-integer program: one binary per layer and bit pair, one per activation group, solved by HiGHS."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from tapc.allocate.problem import HIGH_BITS, AllocationProblem, Choice, LayerChoices
from tapc.allocate.ram import Groups, RamOracle
from tapc.base.errors import ToolError, UsageError

Floats = NDArray[np.float64]

TOLERANCE = 1e-9
"""Relative difference below which two sums of losses, or of latencies that are not whole, count as equal."""

_SCALE = 1e6
_LEAST_SCALED_OPTIMUM = 1e3

QUANTITIES: dict[str, Callable[[LayerChoices, Choice], float]] = {
    "loss": lambda layer, choice: choice.loss,
    "flash": lambda layer, choice: choice.flash_bytes,
    "latency": lambda layer, choice: choice.latency,
    "bops": lambda layer, choice: choice.bops,
    "target_bits": lambda layer, choice: layer.parameters * choice.w_bits,
    "narrowness": lambda layer, choice: -choice.w_bits,
    "wide_groups": lambda layer, choice: 0,
}
"""What each choice adds. `target_bits` counts bits of weights; `narrowness` and `wide_groups` also count groups."""

_PER_WIDE_GROUP = {"narrowness": -4.0, "wide_groups": 1.0}

Limits = dict[str, float]
"""Quantity (or "ram") -> upper limit, fixed parts included."""


@dataclass(frozen=True)
class Solution:
    """An assignment: the choice of every layer, the free groups at 8 bits, and the minimized total with its bound."""

    choices: tuple[Choice, ...]
    high: Groups
    value: float
    bound: float
    proved: bool


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The linear relaxation's answer.

    Attributes
    ----------
    columns : tuple of Choice
        Those that keep every limit by themselves.
    layer_of : int (n,)
        Index of each column's layer, ascending.
    loss, reduced : float (n,)
        What each column adds to the loss over the least that its layer can add, and its reduced cost; the largest
        loss is 1.
    value : float
        The optimum in these units.
    rows : tuple of (float (n,), float)
        Limits: what each column adds, and the most that is allowed.
    """

    columns: tuple[Choice, ...]
    layer_of: NDArray[np.intp]
    loss: Floats
    reduced: Floats
    value: float
    rows: tuple[tuple[Floats, float], ...]


class TimeLimitError(UsageError):
    """The time limit passed before any assignment was found."""


class Engine:
    """Minimizes any quantity of an allocation problem under limits on the others.

    Parameters
    ----------
    problem : AllocationProblem
    time_limit : float
        Seconds for all calls together.
    """

    def __init__(self, problem: AllocationProblem, time_limit: float) -> None:
        self.problem = problem
        self.ram = RamOracle(problem)
        self._time_limit = time_limit
        self._deadline = time.monotonic() + time_limit
        pairs = [(i, choice) for i, layer in enumerate(problem.layers) for choice in layer.choices]
        self._columns = [choice for _, choice in pairs]
        self._layer_of = np.array([i for i, _ in pairs], np.intp)
        self._starts = np.searchsorted(self._layer_of, np.arange(len(problem.layers)))
        self._values = {
            name: np.array([value(problem.layers[i], choice) for i, choice in pairs], np.float64)
            for name, value in QUANTITIES.items()
        }
        self._fixed = {"flash": problem.fixed_flash, "latency": problem.fixed_latency}
        self._group_column = {group: len(pairs) + k for k, group in enumerate(self.ram.free)}
        first_kernel = len(pairs) + len(self._group_column)
        self._kernel_column = {kernel: first_kernel + k for k, kernel in enumerate(sorted(problem.kernels))}
        self._kernel_bytes = np.array([problem.kernels[kernel] for kernel in self._kernel_column], np.float64)
        self._structure = self._structural_rows()
        self._excluded: list[NDArray[np.intp]] = []

    def limits(self) -> Limits:
        """Return the limits that the problem's budgets impose."""
        budgets = self.problem.budgets
        given = {"flash": budgets.flash, "ram": budgets.ram, "latency": budgets.latency, "bops": budgets.bops}
        limits: Limits = {name: limit for name, limit in given.items() if limit is not None}
        if budgets.target_bits is not None:
            limits["target_bits"] = math.floor(budgets.target_bits * self.parameters * (1 + TOLERANCE))
        return limits

    @property
    def parameters(self) -> int:
        """Number of weights in all layers."""
        return sum(layer.parameters for layer in self.problem.layers)

    def total(self, name: str, choices: Sequence[Choice]) -> float:
        """Return the sum of a quantity over the layers and its fixed part; exact for whole numbers below 2^53."""
        value = QUANTITIES[name]
        pairs = zip(self.problem.layers, choices, strict=True)
        shared = {choice.kernel for choice in choices if choice.kernel} if name == "flash" else set()
        code = [self.problem.kernels[kernel] for kernel in shared]
        return math.fsum([*(value(layer, choice) for layer, choice in pairs), *code, self._fixed.get(name, 0)])

    def exceeded(self, choices: Sequence[Choice], high: Groups, limits: Limits) -> list[str]:
        """Return the limits that an assignment breaks."""
        return [
            name
            for name, limit in limits.items()
            if (self.ram.use(high).bytes if name == "ram" else self.total(name, choices)) > self._slack(name, limit)
        ]

    def minimize(self, name: str, limits: Limits) -> Solution | None:
        """Return an assignment with the least total of a quantity, or None when none keeps the limits.

        Raises
        ------
        TimeLimitError
            The time limit passed before any assignment was found.
        """
        if "ram" in limits:
            self.ram.separate(frozenset(self.ram.free), int(limits["ram"]))
        code = name == "flash"
        while True:
            found = self._solve(name, limits, code)
            if found is None:
                return None
            solution, columns = found
            broken = self.exceeded(solution.choices, solution.high, limits)
            if not broken:
                return solution
            if "ram" in broken:
                self.ram.separate(solution.high, int(limits["ram"]))
            elif "flash" in broken and not code and self._kernel_column:
                code = True  # the best without shared code is too large with it
            else:  # HiGHS accepts a violation within its tolerance; the exact sums do not
                self._excluded.append(columns)

    def minimize_ram(self, limits: Limits) -> Solution | None:
        """Return an assignment with the least peak RAM that keeps the other limits; its value is in bytes."""
        best: Solution | None = None
        others = {name: limit for name, limit in limits.items() if name != "ram"}
        while (solution := self.minimize("wide_groups", others)) is not None:
            size = self.ram.use(solution.high).bytes
            best = Solution(solution.choices, solution.high, size, size, solution.proved)
            others["ram"] = size - 1
        return best

    def _whole(self, name: str) -> bool:
        return float(self._fixed.get(name, 0)).is_integer() and bool(np.all(self._values[name] % 1 == 0))

    def _slack(self, name: str, limit: float) -> float:
        return limit if name == "ram" or self._whole(name) else limit + TOLERANCE * abs(limit)

    def _structural_rows(self) -> tuple[Floats, Floats]:
        """One choice per layer; a free group has 8 bits exactly when the layers that read it chose so."""
        layers = self.problem.layers
        readers = [i for i, layer in enumerate(layers) if layer.input_group in self._group_column]
        width = len(self._columns) + len(self._group_column) + len(self._kernel_column)
        matrix = np.zeros((len(layers) + len(readers), width))
        matrix[self._layer_of, np.arange(len(self._columns))] = 1
        wide = np.array([choice.a_bits == HIGH_BITS for choice in self._columns], bool)
        for row, i in enumerate(readers, start=len(layers)):
            matrix[row, np.flatnonzero(wide & (self._layer_of == i))] = 1
            matrix[row, self._group_column[layers[i].input_group]] = -1
        return matrix, np.r_[np.ones(len(layers)), np.zeros(len(readers))]

    def _excess(self, name: str) -> Floats:
        """Return what each choice adds over the least that its layer can add."""
        values = self._values[name]
        least: Floats = np.minimum.reduceat(values, self._starts)
        return values - least[self._layer_of]

    def _row(self, name: str, limit: float) -> tuple[Floats, float] | None:
        """Return a limit as coefficients and upper bound in numbers that HiGHS handles well; None if hopeless."""
        excess = self._excess(name)
        least = math.fsum([*np.minimum.reduceat(self._values[name], self._starts), self._fixed.get(name, 0)])
        room = self._slack(name, limit) - least
        if room < 0:
            return None
        if name == "flash":
            excess = np.r_[excess, np.zeros(len(self._group_column)), self._kernel_bytes]
        if self._whole(name):
            step = int(np.gcd.reduce(excess.astype(np.int64))) or 1
            return excess / step, math.floor(room / step) + 0.5
        fits = excess[excess <= room]
        scale = 1e4 / (fits.max(initial=0) or 1.0)
        return excess * scale, room * scale

    def _most(self, row: Floats) -> float:
        """Return the most that any assignment adds up to in a row of `_row`."""
        pairs = row[: len(self._columns)]
        return float(np.maximum.reduceat(pairs, self._starts).sum() + row[len(self._columns) :].sum())

    def _rows(self, limits: Limits, code: bool) -> tuple[Floats, Floats, Floats, Floats] | None:
        """Return matrix, lower and upper bounds of the rows, upper bounds of the columns; None if hopeless.

        Without `code`, kernels of several layers cost nothing.
        """
        matrix, target = self._structure
        width = matrix.shape[1]
        column_upper = np.ones(width)
        rows: list[Floats] = []
        upper: list[float] = []
        for name, limit in limits.items():
            if name == "ram":
                continue
            row = self._row(name, limit)
            if row is None:
                return None
            if self._most(row[0]) <= row[1]:
                continue  # no assignment can exceed it
            column_upper[: len(row[0])][row[0] > row[1]] = 0
            rows.append(np.r_[row[0], np.zeros(width - len(row[0]))])
            upper.append(row[1])
        for cover in self.ram.covers(int(limits["ram"])) if "ram" in limits else []:
            if not cover:
                return None
            rows.append(_indicator([self._group_column[group] for group in sorted(cover)], width))
            upper.append(len(cover) - 1)
        if not code:
            column_upper[width - len(self._kernel_column) :] = 0
        for column, choice in enumerate(self._columns):
            if choice.kernel and code:  # a chosen pair brings its kernel
                link = _indicator([column], width)
                link[self._kernel_column[choice.kernel]] = -1
                rows.append(link)
                upper.append(0)
        for columns in self._excluded:
            rows.append(_indicator(columns, width))
            upper.append(len(columns) - 1)
        lower = np.r_[target, np.full(len(rows), -np.inf)]
        return np.vstack([matrix, *rows]) * (column_upper > 0), lower, np.r_[target, upper], column_upper

    def _solve(self, name: str, limits: Limits, code: bool) -> tuple[Solution, NDArray[np.intp]] | None:
        prepared = self._rows(limits, code)
        if prepared is None:
            return None
        matrix, lower, upper, column_upper = prepared
        excess = self._excess(name)
        shared = self._kernel_bytes * (name == "flash")
        cost = np.r_[excess, np.full(len(self._group_column), _PER_WIDE_GROUP.get(name, 0.0)), shared]
        while True:
            largest = float(np.max(np.abs(cost[column_upper > 0]), initial=0))
            scale = 1.0 if self._whole(name) or largest == 0 else _SCALE / largest
            run = self._run(np.where(column_upper > 0, cost, 0) * scale, matrix, lower, upper, column_upper)
            if run is None:
                return None
            x, result = run
            columns = np.flatnonzero(x[: len(self._columns)] > 0.5)
            kernels = {self._columns[column].kernel for column in columns} - {""}
            brought = sum(cost[self._kernel_column[kernel]] for kernel in kernels)
            optimum = float(excess[columns].sum() + brought)
            worse = (cost > optimum * (1 + TOLERANCE)) & (column_upper > 0)
            if scale == 1.0 or optimum == 0 or optimum * scale >= _LEAST_SCALED_OPTIMUM or not worse.any():
                break
            column_upper = np.where(worse, 0, column_upper)  # an optimum this small drowned in the tolerances
        choices = tuple(self._columns[column] for column in columns)
        high = frozenset(group for group, column in self._group_column.items() if x[column] > 0.5)
        value = self.total(name, choices)
        slack = min(optimum - float(result.mip_dual_bound) / scale, optimum)
        bound = value if slack <= TOLERANCE * abs(value) else value - slack
        return Solution(choices, high, value, bound, result.status == 0), columns

    def relaxation(self, limits: Limits) -> Relaxation | None:
        """Solve the linear relaxation of the least loss, shared code left out; None where groups are free or it failed.

        Its reduced costs bound the loss of every assignment: least loss + the reduced costs of its choices.
        """
        prepared = None if self.ram.free else self._rows(limits, code=False)
        if prepared is None:
            return None
        matrix, lower, upper, column_upper = prepared
        equal = len(self._structure[1])
        kept = np.flatnonzero(column_upper[: len(self._columns)] > 0)
        if len(np.unique(self._layer_of[kept])) < len(self.problem.layers):
            return None
        excess = self._excess("loss")
        scale = 1.0 / (float(excess[kept].max(initial=0)) or 1.0)
        result = linprog(
            excess[kept] * scale,
            A_ub=matrix[equal:, kept] if len(matrix) > equal else None,
            b_ub=upper[equal:] if len(matrix) > equal else None,
            A_eq=matrix[:equal, kept],
            b_eq=lower[:equal],
            method="highs-ds",
        )
        if result.status != 0 or result.fun is None:
            return None
        rows = tuple((matrix[r, kept], float(upper[r])) for r in range(equal, len(matrix)))
        reduced = np.maximum(result.lower.marginals, 0)
        columns = tuple(self._columns[column] for column in kept)
        return Relaxation(columns, self._layer_of[kept], excess[kept] * scale, reduced, float(result.fun), rows)

    def _run(
        self, cost: Floats, matrix: Floats, lower: Floats, upper: Floats, column_upper: Floats
    ) -> tuple[Floats, Any] | None:
        """Solve; returns the columns' values and HiGHS's result, or None when nothing is feasible."""
        left = self._deadline - time.monotonic()
        result = None
        if left > 0:
            kept = np.flatnonzero(column_upper > 0)
            if not len(kept):
                return None  # every layer needs one
            result = milp(
                cost[kept],
                integrality=np.ones(len(kept), np.int64),
                bounds=Bounds(np.zeros(len(kept)), column_upper[kept]),
                constraints=LinearConstraint(matrix[:, kept], lower, upper),
                options={"mip_rel_gap": 0.0, "time_limit": left},
            )
            if result.x is None and "infeasible" in result.message.lower():
                return None
            if result.x is None and result.status != 1:
                raise ToolError(f"the MILP solver HiGHS failed: {result.message}")
        if result is None or result.x is None:
            raise TimeLimitError(
                f"no bit allocation found within {self._time_limit:g} s; raise the time limit or offer fewer bit widths"
            )
        x = np.zeros(len(cost))
        x[kept] = result.x
        return x, result


def _indicator(columns: Sequence[int] | NDArray[np.intp], width: int) -> Floats:
    row = np.zeros(width)
    row[columns] = 1
    return row
