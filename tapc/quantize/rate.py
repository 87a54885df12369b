"""Rounding that also counts the bits that a lossless coder takes: least D + lambda R over codes and scales.

Entropy-constrained scalar quantization (Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37(1), 1989) on the error of a
layer's outputs, for targets that store weights coded near their entropy, as the Ethos-U does. There the best steps of
a layer are nearly equal over its outputs, and a rare code must be worth its length. Lambda is the slope of the
rate-distortion function at the error of GPTQ, 2 ln 2 D per weight, so that about the same error takes fewer bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.quantize.codes import Choose, Order, descend, gptq, order_of, refitted_scales
from tapc.quantize.gptq import Gptq, Solved
from tapc.quantize.problem import Doubles, LayerProblem, output_errors
from tapc.quantize.weights import Float, code_range

Codes = NDArray[np.int8] | Doubles
FLOORS = (0.5, 0.7, 1.0, 1.4, 2.0)
"""Least steps that are tried, over that of a uniform quantizer whose slope is lambda."""
_ROUNDS, _SWEEPS = 3, 4
_CORRECTIONS = 6
_NEAR = 0.002
"""Of a wanted rate, within which codes have it."""
_FARTHEST = 1.0
"""Bits by which one correction may change a rate."""
_LEAST_WEIGHT = 1e-3
"""Of an output, over the mean."""
_UNSEEN = 0.5
"""How often a code counts as used that is not."""


def entropy(codes: Codes, bits: int) -> float:
    """Return the bits that a coder needs for each of a layer's codes."""
    return float(_lengths(codes, bits)[codes.astype(np.int64) - code_range(bits)[0]].mean())


def _lengths(codes: Codes, bits: int) -> Doubles:
    """Return the length in bits of every code in the range of a width, from how often each is used."""
    low, high = code_range(bits)
    counts = np.bincount(codes.reshape(-1).astype(np.int64) - low, minlength=high - low + 1) + _UNSEEN
    return np.asarray(-np.log2(counts / counts.sum()), np.float64)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What is rounded.

    Attributes
    ----------
    weights : float64 (groups, outputs, length)
    inputs, goal : float64 (groups, length, length), (groups, length, outputs)
        Second moments of the inputs, and those of them with the wanted outputs.
    order : Order
    importance : float64 (groups, outputs)
        What an output's error counts for.
    least : float64 (groups, outputs)
        Smallest scales.
    bits : int
    """

    weights: Doubles
    inputs: Doubles
    goal: Doubles
    order: Order
    importance: Doubles
    least: Doubles
    bits: int

    @property
    def power(self) -> Doubles:
        """Second moment of every input, float64 (groups, length)."""
        result: Doubles = np.diagonal(self.inputs, axis1=1, axis2=2)
        return result

    def error(self, codes: Doubles, scales: Float) -> float:
        """Return the error of all outputs, each by its importance."""
        own = output_errors(codes * scales.astype(np.float64)[:, :, None], self.inputs, self.goal)
        exact = np.einsum("gol,glo->go", self.weights, self.goal)
        return float((self.importance * np.maximum(own + exact, 0)).sum())

    def steps(self, price: float) -> Doubles:
        """Return the steps (groups, outputs) at which a uniform quantizer's error grows by `price` for a bit less."""
        # What later weights make up for leaves the geometric mean of the powers at most.
        typical = np.exp(np.log(self.power).mean(axis=1))
        return np.asarray(np.sqrt(6 * price / np.log(2) / (typical[:, None] * self.importance)), np.float64)

    def rounded(self, codes: Doubles, scales: Float, price: float, rounds: int) -> tuple[Doubles, Float]:
        """Let codes, their lengths and scales follow one another."""
        for _ in range(rounds):
            choose = _chooser(self, scales, price * _lengths(codes, self.bits))
            codes = descend(codes, self.weights, scales, self.bits, self.inputs, _SWEEPS, choose)
            fitted = refitted_scales(codes, scales, self.inputs, self.goal)
            scales = np.maximum(fitted, self.least).astype(np.float32)
        return codes, scales


def _chooser(layer: _Layer, scales: Float, prices: Doubles) -> Choose:
    """Return what gives a column its codes: the nearest, the next towards 0, or 0, whichever costs least."""
    low, high = code_range(layer.bits)
    squares, power = layer.importance * np.square(scales.astype(np.float64)), layer.power
    codes = np.arange(low, high + 1)
    one = prices - prices[codes - np.sign(codes) - low]
    all_ = prices - prices[-low]

    def choose(wanted: Doubles, column: int) -> Doubles:
        near = np.minimum(np.maximum(np.rint(wanted), low), high)
        index, sign, rest = near.astype(np.int64) - low, np.sign(near), near - wanted
        factor = squares * power[:, column, None]
        # What a step towards 0, and 0 itself, add to the cost: errors are squares of the distance.
        step = factor * (1 - 2 * sign * rest) - one[index]
        zero = factor * (wanted * wanted - rest * rest) - all_[index]
        return np.asarray(np.where(zero < np.minimum(step, 0), 0, near - sign * (step < 0)), np.float64)

    return choose


class Rated(Gptq):
    """GPTQ, then codes and scales of the least error plus lambda times the length of the codes.

    Where a problem says which rate it is to have, lambda follows that; where that is all of its bits, GPTQ is left as
    it is.

    Parameters
    ----------
    floors : sequence of float
        See `FLOORS`.
    rounds : int
        How often codes, their lengths and scales follow one another.
    effort
        Parameters of `Gptq`.
    """

    def __init__(self, *, floors: Sequence[float] = FLOORS, rounds: int = _ROUNDS, **effort: Any) -> None:
        super().__init__(**effort)
        self.floors, self.rounds = floors, rounds

    def _finished(self, problem: LayerProblem, solved: Solved) -> tuple[Doubles, Float]:
        codes, scales = super()._finished(problem, solved)
        if problem.rate is not None and problem.rate >= problem.bits:
            return codes, scales
        layer = _layer(problem, solved)
        price = 2 * np.log(2) * layer.error(codes, scales) / codes.size
        if price <= 0:
            return codes, scales

        def at(floor: float, price: float) -> tuple[Doubles, Float]:
            trial = np.maximum(scales, np.maximum(floor * layer.steps(price), layer.least)).astype(np.float32)
            return layer.rounded(gptq(layer.weights, trial, layer.bits, layer.order), trial, price, self.rounds)

        def total(found: tuple[Doubles, Float]) -> float:
            return float(layer.error(*found) + price * entropy(found[0], layer.bits) * codes.size)

        tried = {floor: at(floor, price) for floor in self.floors}
        floor = min(tried, key=lambda floor: total(tried[floor]))
        best = tried[floor]
        if problem.rate is not None:
            return _at_rate(best, problem.rate, layer.bits, price, lambda price: at(floor, price))
        return min(best, layer.rounded(codes, scales, price, self.rounds), key=total)


def _layer(problem: LayerProblem, solved: Solved) -> _Layer:
    groups, outputs, _ = solved.weights.shape
    importance = np.ones((groups, outputs))
    if problem.coupling is not None and groups == 1:
        own = np.diagonal(problem.coupling)
        if own.mean() > 0:
            importance = np.maximum(own / own.mean(), _LEAST_WEIGHT)[None]
    inputs = _filled(solved.inputs)
    goal = inputs @ solved.weights.transpose(0, 2, 1)
    return _Layer(
        solved.weights, inputs, goal, order_of(inputs), importance,
        problem.least_scales.reshape(groups, -1), problem.bits,
    )  # fmt: skip


def _filled(inputs: Doubles) -> Doubles:
    """Return second moments in which inputs that no sample moves count as much as the others do on average."""
    power = np.diagonal(inputs, axis1=1, axis2=2)
    live = power > 0
    average = power.sum(axis=1) / np.maximum(live.sum(axis=1), 1)
    average = np.where(average > 0, average, average.mean() if average.any() else 1.0)
    result = inputs.copy()
    index = np.arange(power.shape[1])
    result[:, index, index] = np.where(live, power, average[:, None])
    return result


def _at_rate(
    codes: tuple[Doubles, Float],
    rate: float,
    bits: int,
    price: float,
    at: Callable[[float], tuple[Doubles, Float]],
) -> tuple[Doubles, Float]:
    """Return codes and scales whose rate is nearest to a wanted one, of those that some prices lead to."""
    best, gap = codes, np.inf
    low, high = -np.inf, np.inf  # logarithms of prices that are known to be too low and too high
    found, at_price = codes, np.log(price)
    for _ in range(_CORRECTIONS):
        now = entropy(found[0], bits)
        if abs(now - rate) < gap:
            best, gap = found, abs(now - rate)
        if gap <= _NEAR * rate:
            break
        low, high = (at_price, high) if now > rate else (low, at_price)
        # A bit less is four times the error, which is what lambda is proportional to.
        at_price += np.log(4) * float(np.clip(now - rate, -_FARTHEST, _FARTHEST))
        if not low < at_price < high:
            at_price = (low + high) / 2
        found = at(float(np.exp(at_price)))
    return best
