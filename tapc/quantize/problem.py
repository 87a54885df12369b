"""What a rounding method is given: one layer, what it reads and what it should give."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tapc.graph.network import Layer
from tapc.quantize.weights import Float, QuantizedWeights, per_channel, weight_scales

Doubles = NDArray[np.float64]
_CHUNK_BYTES = 64 << 20
_ROWS_PER_WEIGHT = 24
_LEAST_ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class LayerProblem:
    """A layer to be rounded.

    Attributes
    ----------
    layer : Layer
        Name, kind and shape.
    bits : {2, 4, 8}
    weights : float32 (outputs, ...)
    least_scales : float64 (outputs,)
        Smallest scale per channel at which the bias still fits its integers; 0 where any does.
    dead_scales : float64 (outputs,)
        Scale of channels that have no weights.
    inputs, exact : float32 (N, ...)
        What the layer reads in the quantized network, dequantized, and in the float network.
    excess : float32 (N, outputs, ...) or None
        What the layer should give beyond its float output: the error that it finds on the other operand of the
        addition behind it. None where there is no such addition.
    stride : (int, int)
    pads : (int, int, int, int)
        Top, left, bottom, right.
    groups : int
        1 x 1 windows over one group for dense layers.
    dilation : (int, int)
    coupling : float64 (outputs, outputs) or None
        How errors of the outputs meet at the network's output; see `tapc.quantize.coupling`.
    target : float32 (N, outputs, ...) or None
        What the layer gives in the float network, but for constants per output; computed from `exact` where None.
    rate : float or None
        Bits that a lossless coder is to need for a code, where the method follows that.
    """

    layer: Layer
    bits: int
    weights: Float
    least_scales: Doubles
    dead_scales: Doubles
    inputs: Float
    exact: Float
    excess: Float | None
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    coupling: Doubles | None = None
    target: Float | None = None
    rate: float | None = None

    @cached_property
    def moments(self) -> "list[GroupMoments]":
        """Second moments of every group; see `moments`."""
        return moments(self)

    def at(self, bits: int) -> "LayerProblem":
        """Return the same problem at another width, with the moments that are known already."""
        other = replace(self, bits=bits)
        if "moments" in self.__dict__:
            other.__dict__["moments"] = self.moments
        return other

    def scales(self, weights: Float) -> Float:
        """Return the scales of least squared weight error that also suit the bias; shape (outputs,)."""
        return self.usable(weight_scales(weights, self.bits), weights)

    def usable(self, scales: Float, weights: Float) -> Float:
        """Return scales with which the bias fits the accumulator and still has a fine step; shape (outputs,).

        A channel with vanishing weights would need a bias far beyond int32 at its own scale, one with no weights at
        all would round its bias to the input's step.
        """
        dead = ~np.any(weights.reshape(len(weights), -1), axis=1)
        fitted = np.where(dead & (self.dead_scales > 0), self.dead_scales, np.maximum(scales, self.least_scales))
        return np.maximum(fitted, np.finfo(np.float32).tiny).astype(np.float32)

    def quantized(self, values: NDArray[np.int8], scales: Float) -> QuantizedWeights:
        """Return integers of the weights' shape and their scales as one."""
        return QuantizedWeights(values.reshape(self.weights.shape).astype(np.int8), scales, self.bits)

    def rows(self, seed: int = 0) -> Iterator[tuple[int, int, Doubles, Doubles]]:
        """Yield (half, group, windows of `inputs`, wanted outputs), some samples at a time.

        The first half of the samples and the second are kept apart. Windows are rows of the length of one output's
        weights and in their order; the outputs have one row per window and one column per output of the group. Layers
        with many windows per weight are sub-sampled.
        """
        height, width = self.weights.shape[2:] if self.weights.ndim == 4 else (1, 1)
        length = int(np.prod(self.weights.shape[1:]))
        needed = [self.inputs] if self.target is not None else [self.inputs, self.exact]
        sources = [self._windows(x, (height, width)) for x in needed]
        n, channels, oh, ow = sources[0].shape[:4]
        wanted = max(_LEAST_ROWS, _ROWS_PER_WEIGHT * length)
        positions = max(1, min(oh * ow, -(-wanted // n)))
        chosen = np.random.default_rng(seed).permuted(np.tile(np.arange(oh * ow), (n, 1)), axis=1)[:, :positions]
        depth = channels // self.groups
        outputs = len(self.weights) // self.groups
        weights = self.weights.reshape(self.groups, outputs, length).astype(np.float64)
        step = max(1, _CHUNK_BYTES // (8 * positions * depth * height * width))
        middle = -(-n // 2)
        starts = sorted({*range(0, middle, step), *range(middle, n, step)})
        for start, stop in zip(starts, [*starts[1:], n], strict=True):
            half, part = int(start >= middle), slice(start, stop)
            index = np.arange(n)[part, None], chosen[part] // ow, chosen[part] % ow
            windows = [np.moveaxis(x, 1, 3)[index] for x in sources]
            known = [np.moveaxis(self._map(x), 1, 3)[index] for x in (self.target, self.excess) if x is not None]
            for group in range(self.groups):
                own = slice(group * depth, (group + 1) * depth)
                rows = [x[:, :, own].reshape(-1, length).astype(np.float64) for x in windows]
                columns = slice(group * outputs, (group + 1) * outputs)
                goal = np.zeros((len(rows[0]), outputs)) if self.target is not None else rows[-1] @ weights[group].T
                for part_of in known:
                    goal += part_of[:, :, columns].reshape(-1, outputs)
                yield half, group, rows[0], goal

    @staticmethod
    def _map(x: Float) -> Float:
        return x if x.ndim == 4 else x.reshape(*x.shape, 1, 1)

    def _windows(self, x: Float, kernel: tuple[int, int]) -> Float:
        """View (N, C, OH, OW, KH, KW) of every window."""
        top, left, bottom, right = self.pads
        padded = np.pad(self._map(x), ((0, 0), (0, 0), (top, bottom), (left, right)))
        reach = tuple((size - 1) * distance + 1 for size, distance in zip(kernel, self.dilation, strict=True))
        view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
        (sy, sx), (dy, dx) = self.stride, self.dilation
        result: Float = view[:, :, ::sy, ::sx, ::dy, ::dx]
        return result


def output_errors(weights: Doubles, inputs: Doubles, goal: Doubles) -> Doubles:
    """Return the mean squared error of each output (groups, outputs), less its variance.

    Parameters
    ----------
    weights : float64 (groups, outputs, length)
    inputs : float64 (groups, length, length)
        Second moments of the inputs.
    goal : float64 (groups, length, outputs)
        Those of the inputs with the wanted outputs.
    """
    squares = np.einsum("gol,gol->go", weights @ inputs, weights)
    return np.asarray(squares - 2 * np.einsum("gol,glo->go", weights, goal), np.float64)


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of one group's windows around their means.

    Attributes
    ----------
    inputs : float64 (length, length)
        Covariance of the quantized network's windows.
    goal : float64 (length, outputs)
        Covariance of those windows with the wanted outputs.
    power : float
        Variance of the wanted outputs, summed over them.
    rows : int
        Windows that were seen.
    """

    inputs: Doubles
    goal: Doubles
    power: float
    rows: int

    def error(self, weights: Doubles) -> float:
        """Return the mean squared error of the outputs, summed over them, with weights (outputs, length)."""
        return float(self.errors(weights).sum()) + self.power

    def errors(self, weights: Doubles) -> Doubles:
        """Return the mean squared error of each output, less its variance, with weights (outputs, length)."""
        result: Doubles = output_errors(weights[None], self.inputs[None], self.goal[None])[0]
        return result


@dataclass(frozen=True, eq=False)
class GroupMoments:
    """Moments of one group over all samples, and over each half of them.

    Attributes
    ----------
    whole : Moments
    halves : tuple of Moments
        Of samples that the other half does not hold.
    """

    whole: Moments
    halves: tuple[Moments, Moments]


_STILL = 1e-12
"""Variance of an input over its mean square, up to which it is constant."""


class _Sums:
    def __init__(self, length: int, outputs: int) -> None:
        self.rows = 0
        self.inputs, self.goals, self.square = np.zeros(length), np.zeros(outputs), 0.0
        self.products, self.cross = np.zeros((length, length)), np.zeros((length, outputs))

    def add(self, inputs: Doubles, goal: Doubles) -> None:
        self.rows += len(inputs)
        self.inputs += inputs.sum(axis=0)
        self.goals += goal.sum(axis=0)
        self.square += float(np.square(goal).sum())
        self.products += inputs.T @ inputs
        self.cross += inputs.T @ goal


def _moments(parts: list[_Sums]) -> Moments:
    n = sum(part.rows for part in parts)
    mean = np.sum([part.inputs for part in parts], axis=0) / n
    centre = np.sum([part.goals for part in parts], axis=0) / n
    products, cross = parts[0].products.copy(), parts[0].cross.copy()
    for part in parts[1:]:
        products += part.products
        cross += part.cross
    power = sum(part.square for part in parts) / n - float(centre @ centre)
    inputs, cross = products / n - np.outer(mean, mean), cross / n - np.outer(mean, centre)
    # What is left of an input that is always the same is rounding, of which no inverse makes sense.
    still = np.diagonal(inputs) <= _STILL * np.diagonal(products) / n
    inputs[still, :], inputs[:, still], cross[still] = 0, 0, 0
    return Moments(inputs, cross, power, n)


def moments(problem: LayerProblem) -> list[GroupMoments]:
    """Return the second moments of every group; the bias absorbs the means, so they are taken out.

    Parameters
    ----------
    problem : LayerProblem
    """
    length, outputs = int(np.prod(problem.weights.shape[1:])), len(problem.weights) // problem.groups
    sums = [[_Sums(length, outputs) for _ in range(problem.groups)] for _ in range(2)]
    for half, group, inputs, goal in problem.rows():
        sums[half][group].add(inputs, goal)
    result = []
    for first, second in zip(*sums, strict=True):
        seen = [part for part in (first, second) if part.rows]
        whole = _moments(seen)
        result.append(GroupMoments(whole, (_moments(seen[:1]), _moments(seen[-1:]))))
    return result


__all__ = ["GroupMoments", "LayerProblem", "Moments", "moments", "output_errors", "per_channel"]
