"""Rounding that lets every weight make up for the errors of those before it (GPTQ, arXiv 2210.17323).

Before it rounds, each layer is fitted by ridge regression to give, on what it really reads in the quantized network,
what the float network gives: ||W X - V Y||^2 over V, with X the float network's windows and Y the quantized one's. The
minimum differs from the same sum for the rounded weights by (V - Q) E[Y Y^T] (V - Q)^T alone, which GPTQ reduces. At
last the outputs of a layer, each rounded by itself so far, are changed together (`tapc.quantize.coupling`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from tapc.quantize.codes import descend, gptq, order_of, refitted_scales
from tapc.quantize.coupled import coupled
from tapc.quantize.problem import Doubles, GroupMoments, LayerProblem, Moments, output_errors
from tapc.quantize.threads import threads_for
from tapc.quantize.weights import Float, QuantizedWeights, round_weights

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_LONG = 1024
"""Weights per output beyond which only the inner ridges are tried: each costs the cube of it."""
RATIOS = (1.0, 0.92, 0.85, 0.78, 1.1, 1.2)
_REFINEMENTS = 4
_PROMISING = 2
"""First scales of an output that are refined further."""
_SWEEPS = 8
LOADINGS = (0.0, 0.03, 0.1, 0.3, 1.0)
_TRIAL_SWEEPS = 4
_LONGEST = 2048
"""Weights per output beyond which no loading is tried."""


def compensated(weights: Doubles, moments_: GroupMoments) -> Doubles:
    """Return the weights (outputs, length) of one group that give the wanted outputs best on the quantized inputs.

    The ridge pulls towards the float weights, so that directions which the samples hardly show stay as they are. How
    strongly, each half of the samples says of a fit to the other; where no fit does better there than the float
    weights, they are kept.

    Parameters
    ----------
    weights : float64 (outputs, length)
    moments_ : GroupMoments
    """
    tried = RIDGES if weights.shape[1] <= _LONG else RIDGES[1:-1]
    ridges = dict.fromkeys(tried, 0.0)
    kept = 0.0
    for fitted, other in (moments_.halves, moments_.halves[::-1]):
        kept += other.error(weights)
        for ridge, candidate in zip(tried, _ridge(weights, fitted, tried), strict=True):
            ridges[ridge] += other.error(candidate)
    best = min(ridges, key=ridges.__getitem__)
    return next(_ridge(weights, moments_.whole, (best,))) if ridges[best] < kept else weights


def _ridge(weights: Doubles, moment: Moments, ridges: Sequence[float]) -> Iterator[Doubles]:
    """Yield the fit of each ridge, a multiple of the inputs' mean variance."""
    mean = float(np.trace(moment.inputs)) / len(moment.inputs)
    rest = moment.goal - moment.inputs @ weights.T
    for ridge in ridges:
        if mean <= 0:
            yield weights
            continue
        matrix = moment.inputs.copy()
        matrix[np.diag_indices_from(matrix)] += ridge * mean
        factor = linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        yield weights + linalg.cho_solve(factor, rest, check_finite=False).T


@dataclass(frozen=True, eq=False)
class Solved:
    """A layer once it is fitted to what it reads.

    Attributes
    ----------
    weights : float64 (groups, outputs, length)
    scales : float32 (groups, outputs)
        Of least error of the weights.
    inputs : float64 (groups, length, length)
        Second moments of the inputs, loaded.
    """

    weights: Doubles
    scales: Float
    inputs: Doubles


class Gptq:
    """Ridge regression, then GPTQ, coordinate descent and least-squares scales in turn, per group.

    Every output channel keeps the best of several first scales. At 8 bits rounding costs next to nothing, so that the
    fitted weights are rounded to the nearest.

    Parameters
    ----------
    ratios : tuple of float
        First scales, relative to those of least weight error.
    refinements : int
        How often codes and scales are found in turn.
    sweeps : int
        Most passes of coordinate descent each time.
    loadings : tuple of float
        Diagonal loadings that are tried, in rising order, until one does not help.
    """

    samples = 1024
    compensates = True

    def __init__(
        self,
        ratios: tuple[float, ...] = RATIOS,
        refinements: int = _REFINEMENTS,
        sweeps: int = _SWEEPS,
        loadings: tuple[float, ...] = LOADINGS,
    ) -> None:
        self.ratios, self.refinements, self.sweeps, self.loadings = ratios, refinements, sweeps, loadings

    def round(self, problem: LayerProblem) -> QuantizedWeights:
        """Return integer weights and scales."""
        with threads_for(int(np.prod(problem.weights.shape[1:]))):
            return self._rounded(problem)

    def _rounded(self, problem: LayerProblem) -> QuantizedWeights:
        groups, shape = problem.groups, problem.weights.shape
        flat = problem.weights.reshape(groups, shape[0] // groups, -1).astype(np.float64)
        fitted = np.stack([compensated(w, m) for w, m in zip(flat, problem.moments, strict=True)])
        scales = problem.scales(fitted.reshape(shape).astype(np.float32)).reshape(groups, -1)
        loading = 0.0 if problem.bits == 8 else self._loading(problem.moments, fitted, scales, problem.bits)
        inputs = loaded(np.stack([item.whole.inputs for item in problem.moments]), loading)
        codes, best_of = self._finished(problem, Solved(fitted, scales, inputs))
        values = codes.reshape(shape).astype(np.int8)
        return problem.quantized(values, problem.usable(best_of.reshape(-1), values.astype(np.float32)))

    def _finished(self, problem: LayerProblem, solved: Solved) -> tuple[Doubles, Float]:
        """Return codes (groups, outputs, length) and scales (groups, outputs)."""
        fitted, scales, inputs = solved.weights, solved.scales, solved.inputs
        if problem.bits == 8:
            rows = fitted.reshape(scales.size, -1).astype(np.float32)
            return round_weights(rows, scales.reshape(-1), 8).reshape(fitted.shape).astype(np.float64), scales
        least = problem.least_scales.reshape(len(fitted), -1)
        codes, best_of = self._refined(fitted, scales, least, inputs, problem.bits)
        if problem.coupling is not None and len(fitted) == 1:  # groups read different inputs
            codes[0], best_of[0] = coupled(
                codes[0], fitted[0], best_of[0], problem.bits, inputs[0], problem.coupling, problem.least_scales
            )
        return codes, best_of

    def _refined(
        self, fitted: Doubles, scales: Float, least: Doubles, inputs: Doubles, bits: int
    ) -> tuple[Doubles, Float]:
        """Return codes (groups, outputs, length) and scales (groups, outputs) of the least error that was seen.

        Outputs are independent of each other: all first scales of all outputs go together. After the first codes only
        the most promising scales of every output go on.
        """
        (groups, outputs), count = scales.shape, len(self.ratios)
        ratios = np.asarray(self.ratios, np.float32)
        # (groups, count x outputs): the outputs with one ratio are followed by those with the next.
        trial = (ratios[None, :, None] * scales[:, None, :]).reshape(groups, -1).astype(np.float32)
        order, goal = order_of(inputs), inputs @ fitted.transpose(0, 2, 1)
        best, kept = np.full(scales.shape, np.inf), np.empty_like(fitted)
        best_scales = scales.copy()
        for step in range(self.refinements):
            weights, goals = np.tile(fitted, (1, count, 1)), np.tile(goal, (1, 1, count))
            whole = gptq(weights, trial, bits, order)
            whole = descend(whole, weights, trial, bits, inputs, self.sweeps)
            trial = np.maximum(refitted_scales(whole, trial, inputs, goals), np.tile(least, (1, count)))
            trial = trial.astype(np.float32)
            error = output_errors(whole * trial.astype(np.float64)[:, :, None], inputs, goals)
            ranked = error.reshape(groups, count, outputs).argsort(axis=1, kind="stable")
            first = ranked[:, 0] * outputs + np.arange(outputs)
            error = np.take_along_axis(error, first, 1)
            better = error < best
            if not better.any():
                break
            best = np.where(better, error, best)
            kept[better] = np.take_along_axis(whole, first[:, :, None], 1)[better]
            best_scales[better] = np.take_along_axis(trial, first, 1)[better]
            if step == 0:
                count = min(_PROMISING, count)
            chosen = (ranked[:, :count] * outputs + np.arange(outputs)).reshape(groups, -1)
            trial = np.take_along_axis(trial, chosen, 1)
        return kept, best_scales

    def _loading(self, found: list[GroupMoments], fitted: Doubles, scales: Float, bits: int) -> float:
        """Return the diagonal loading of the inputs' moments with which codes for one half suit the other best.

        Few samples of many inputs lack directions that others have: codes must not put their errors there.
        """
        halves = [np.stack([item.halves[half].inputs for item in found]) for half in (0, 1)]
        best, least = 0.0, np.inf
        for loading in self.loadings if fitted.shape[2] <= _LONGEST else ():
            total = 0.0
            for own, other in (halves, halves[::-1]):
                seen = loaded(own, loading)
                codes = gptq(fitted, scales, bits, order_of(seen))
                codes = descend(codes, fitted, scales, bits, seen, _TRIAL_SWEEPS)
                error = fitted - codes * scales[:, :, None].astype(np.float64)
                total += float(np.einsum("gol,gol->", error @ other, error))
            if total >= least:
                break
            # All samples together need half of what a half needs.
            best, least = loading / 2, total
        return best


def loaded(inputs: Doubles, loading: float) -> Doubles:
    """Return second moments (groups, length, length) with a multiple of their mean diagonal added to the diagonal."""
    length = inputs.shape[1]
    mean = np.einsum("gll->g", inputs) / length
    return np.asarray(inputs + (loading * mean)[:, None, None] * np.eye(length), np.float64)


class Mse:
    """Nearest rounding with the scales of least squared error of the layer's output."""

    samples = 1024
    compensates = False

    def round(self, problem: LayerProblem) -> QuantizedWeights:
        """Return integer weights and scales."""
        groups, shape = problem.groups, problem.weights.shape
        flat = problem.weights.reshape(groups, shape[0] // groups, -1)
        scales = problem.scales(problem.weights).reshape(groups, -1).copy()
        for group, moment in enumerate(item.whole for item in problem.moments):
            start = scales[group].copy()
            best = np.full(len(start), np.inf)
            for ratio in np.linspace(1.4, 0.6, 33, dtype=np.float32):
                trial = (start * ratio).astype(np.float32)
                w = round_weights(flat[group], trial, problem.bits) * trial.astype(np.float64)[:, None]
                error = moment.errors(w)
                better = error < best
                best, scales[group] = np.where(better, error, best), np.where(better, trial, scales[group])
        usable = problem.usable(scales.reshape(-1), problem.weights)
        return problem.quantized(round_weights(problem.weights, usable, problem.bits), usable)
