"""Which widths a layer's weights prove sufficient for its sums, for every input."""

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import arithmetic_of
from tapc.ir.program import Tensor
from tapc.kernels import nested
from tapc.kernels.conv import ConvSpec, Runs
from tapc.kernels.schedule import Schedule
from tapc.kernels.winograd import transform_of
from tapc.operators.weighted.layer import Weighted


def fits_shifted(op: Weighted, x: Tensor, shift: int) -> bool:
    """Whether 2^shift times every accumulator stays within 32 bits."""
    weights = op.weights.reshape(len(op.bias), -1).astype(np.int64)
    ends = np.stack([weights * (x.low - x.zero), weights * (x.high - x.zero)])
    least, most = ends.min(axis=0).sum(axis=1) + op.bias, ends.max(axis=0).sum(axis=1) + op.bias
    fits = max(int(most.max()), int(-least.min())) << shift < 2**31
    # The ratios divided by 2^shift must stay within what fixed point can express.
    return fits and float(op.ratios.min()) >= 2.0 ** (shift - 31)


def possible(op: Weighted, x: Tensor, spec: ConvSpec, schedule: Schedule) -> bool:
    """Whether a schedule computes a convolution exactly, for every input."""
    if schedule.algorithm == "direct":
        if schedule.nested:
            fits = int(op.weights.min()) >= nested.LEAST and fits_shifted(op, x, nested.SHIFT)
            return spec.isa == "dsp" and x.bits == 8 and fits and (schedule.rows, schedule.pixels) in nested.TILES
        return not schedule.single or spec.isa == "dsp"
    w = spec.window
    transform = transform_of(schedule.algorithm, w.height, w.width)
    plain = (w.stride_y, w.stride_x, w.dilation_y, w.dilation_x) == (1, 1, 1, 1)
    if transform is None or not plain or spec.groups > 1 or x.bits != 8 or spec.isa == "mve":
        return False
    if spec.lines and (schedule.made or transform.flat):  # each call of some lines would make frequencies again
        return False
    if transform.flat and (spec.x.height, spec.y.height) != (1, 1):
        return False
    return arithmetic_of(spec.mode).homogeneous and fits_shifted(op, x, transform.shift)


def proved_run(op: Weighted, x: Tensor, per_word: int, runs: Runs | None) -> int:
    """Return the largest number of weight words whose sums fit as a form asks for; 0 where none must end, or none fits.

    Parameters
    ----------
    op : Weighted
    x : Tensor
        Its input; products are those of its codes, zero point included.
    per_word : int
        Weights of a word.
    runs : Runs or None
    """
    if runs is None or (runs.spare is not None and fits_shifted(op, x, runs.spare)):
        return 0
    taps = op.weights.reshape(len(op.bias), -1)
    packed = np.where(runs.order >= 0, taps[:, np.maximum(runs.order, 0)], 0)
    return _longest_run(packed, x, per_word, runs.words, runs.bits)


def _longest_run(packed: NDArray[np.int8], x: Tensor, per_word: int, words: int, bits: int) -> int:
    """Return the largest divisor of `words` for which the sum of every run of so many words fits `bits`; or 0."""
    weights = np.pad(packed.astype(np.int64), ((0, 0), (0, -packed.shape[1] % per_word)))
    ends = np.stack([weights * x.low, weights * x.high])
    least, most = (v.reshape(len(packed), -1, per_word).sum(axis=2) for v in (ends.min(axis=0), ends.max(axis=0)))
    for run in (n for n in range(words, 0, -1) if words % n == 0):
        rest = ((0, 0), (0, -least.shape[1] % run))
        low, high = (np.pad(v, rest).reshape(len(packed), -1, run).sum(axis=2) for v in (least, most))
        if low.min() >= -(1 << (bits - 1)) and high.max() < 1 << (bits - 1):
            return run
    return 0


def proved_taps(op: Weighted, x: Tensor, bits: int | None) -> int:
    """Return how many taps of a depthwise layer one after the other have sums whose magnitude is below 2^(bits - 1).

    Of those that leave as many runs, the least; 1 where nothing is to be proved (None).
    """
    if bits is None:
        return 1
    weights = op.weights.reshape(len(op.bias), -1).astype(np.int64)
    ends = np.abs(np.stack([weights * x.low, weights * x.high])).max(axis=0)
    taps = weights.shape[1]
    for runs in range(1, taps):
        count = -(-taps // runs)
        sums = np.pad(ends, ((0, 0), (0, -taps % count))).reshape(len(ends), -1, count).sum(axis=2)
        if sums.max() < 1 << (bits - 1):
            return count
    return 1
