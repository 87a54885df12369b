"""Codes and scales for a layer whose outputs' errors meet at the network's output; see `tapc.quantize.coupling`."""

import numpy as np
from numpy.typing import NDArray

from tapc.quantize.problem import Doubles
from tapc.quantize.weights import Float, code_range

_ROUNDS, _SWEEPS = 2, 4
_LEAST_SCALE = 0.3
"""Of a scale before it is refitted, below which it is kept."""


def coupled(
    codes: Doubles, weights: Doubles, scales: Float, bits: int, inputs: Doubles, outputs: Doubles, least: Doubles
) -> tuple[Doubles, Float]:
    """Return codes and scales of less cost tr(G (W - Q) A (W - Q)^T) than the given ones, or those.

    Parameters
    ----------
    codes, weights : float64 (outputs, length)
    scales : float32 (outputs,)
    bits : {2, 4}
    inputs : float64 (length, length)
        A, second moments of the inputs.
    outputs : float64 (outputs, outputs)
        G.
    least : float64 (outputs,)
        Smallest scales.
    """
    steps = scales.astype(np.float64)

    def cost(q: Doubles, s: Doubles) -> float:
        difference = weights - q * s[:, None]
        return float(np.einsum("ij,ij->", outputs @ difference @ inputs, difference))

    best = cost(codes, steps), codes, steps
    for _ in range(_ROUNDS):
        codes = descend_coupled(codes, weights, steps, bits, inputs, outputs, _SWEEPS)
        best = min(best, (cost(codes, steps), codes, steps), key=lambda item: item[0])
        refitted = np.maximum(_coupled_scales(codes, weights, steps, inputs, outputs), least)
        found = cost(codes, refitted)
        if found >= best[0]:
            break
        best, steps = (found, codes, refitted), refitted
    return best[1], best[2].astype(np.float32)


def descend_coupled(
    codes: Doubles, weights: Doubles, steps: Doubles, bits: int, inputs: Doubles, outputs: Doubles, sweeps: int
) -> Doubles:
    """Return codes after coordinate descent: column by column, the change of one code that gains most, until none does.

    Outputs without weights stay without: they are constant, and can be removed.

    Parameters
    ----------
    codes, weights : float64 (outputs, length)
    steps : float64 (outputs,)
        Scales.
    bits : {2, 4}
    inputs, outputs : float64 (length, length), (outputs, outputs)
        A and G.
    sweeps : int
        Most passes over the columns.
    """
    low, high = code_range(bits)
    codes = codes.copy()
    power, weight = np.diagonal(inputs), np.diagonal(outputs)
    gradient = outputs @ (weights - codes * steps[:, None]) @ inputs
    live = np.any(weights, axis=1)
    order = [int(column) for column in np.argsort(-power, kind="stable") if power[column] > 0]
    for _ in range(sweeps):
        moved = False
        for column in order:
            column_gradient, column_codes = gradient[:, column].copy(), codes[:, column].copy()
            curvature = weight * power[column] * steps
            for _ in range(2 * len(steps)):
                wanted = np.clip(np.rint(column_codes + column_gradient / curvature), low, high) - column_codes
                gain = live * wanted * steps * (2 * column_gradient - wanted * curvature)
                row = int(gain.argmax())
                if gain[row] <= 0:
                    break
                column_codes[row] += wanted[row]
                column_gradient -= outputs[:, row] * (wanted[row] * steps[row] * power[column])
            changed: NDArray[np.int64] = np.flatnonzero(column_codes != codes[:, column])
            if len(changed):
                moved = True
                moves = (column_codes - codes[:, column])[changed] * steps[changed]
                gradient -= np.outer(outputs[:, changed] @ moves, inputs[column])
                codes[:, column] = column_codes
        if not moved:
            break
    return codes


def _coupled_scales(codes: Doubles, weights: Doubles, steps: Doubles, inputs: Doubles, outputs: Doubles) -> Doubles:
    """Return the scales of least cost for given codes; those that would shrink to nothing stay."""
    matrix = outputs * (codes @ inputs @ codes.T)
    matrix[np.diag_indices_from(matrix)] += 1e-9 * float(np.trace(matrix)) / len(matrix) + np.finfo(np.float64).tiny
    wanted = np.einsum("ij,ij->i", outputs @ weights @ inputs, codes)
    found = np.linalg.solve(matrix, wanted)
    return np.where(found > _LEAST_SCALE * steps, found, steps)
