"""Between float samples and the codes that the integer program reads."""

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.ir.program import Program, Tensor


def input_codes(program: Program, x: NDArray[np.float32]) -> Ints:
    """Quantize network inputs as QuantizeLinear does, and bring them to NHWC.

    Parameters
    ----------
    program : Program
    x : ndarray of float32, shape (N, C, H, W) or (N, F)

    Returns
    -------
    ndarray of int64, shape (N, H, W, C)
    """
    t = program.tensors[program.input]
    codes = quantized(t, x)
    if codes.ndim == 4:
        codes = codes.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(codes.reshape(len(codes), *t.shape))


def quantized(t: Tensor, x: NDArray[np.float32]) -> Ints:
    """Return the codes of values of any shape: round half to even, saturate."""
    codes: Ints = np.clip(np.rint(x / np.float32(t.scale)) + t.zero, t.low, t.high).astype(np.int64)
    return codes
