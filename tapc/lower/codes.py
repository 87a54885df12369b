"""Between float samples and the codes that the integer program reads and gives."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.base.ports import Port, joined, split
from tapc.ir.decoding import Detections, compared
from tapc.ir.program import Program, Tensor


def input_codes(program: Program, x: NDArray[np.float32]) -> Ints:
    """Quantize network inputs as QuantizeLinear does, and bring them to NHWC.

    Parameters
    ----------
    program : Program
    x : ndarray of float32, shape (N, C, H, W) or (N, F); rows (N, values) where there are several inputs

    Returns
    -------
    ndarray of int64, shape (N, H, W, C); rows (N, values) where there are several inputs
    """
    tensors = [program.tensors[name] for name in program.inputs]
    if len(tensors) == 1:
        return _codes(tensors[0], x)
    ports = [Port(t.name, (1, t.shape[2], *t.shape[:2])) for t in tensors]
    parts = split(ports, x)
    return joined([_codes(t, parts[t.name]) for t in tensors])


def _codes(t: Tensor, x: NDArray[np.float32]) -> Ints:
    codes = quantized(t, x)
    if codes.ndim == 4:
        codes = codes.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(codes.reshape(len(codes), *t.shape))


def random_codes(program: Program, samples: int, seed: int) -> Ints:
    """Return input codes, all alike likely; of several inputs, rows (N, values)."""
    generator = np.random.default_rng(seed)
    tensors = [program.tensors[name] for name in program.inputs]
    return joined([generator.integers(x.low, x.high + 1, (samples, *x.shape)).astype(np.int64) for x in tensors])


def quantized(t: Tensor, x: NDArray[np.float32]) -> Ints:
    """Return the codes of values of any shape: round half to even, saturate."""
    codes: Ints = np.clip(np.rint(x / np.float32(t.scale)) + t.zero, t.low, t.high).astype(np.int64)
    return codes


def apart(program: Program, names: Sequence[str], codes: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the codes (N, H, W, C) of each of the inputs or outputs, of which several come in rows."""
    shapes = [Port(name, (1, *program.tensors[name].shape)) for name in names]
    parts = split(shapes, codes)
    return [parts[port.name].reshape(len(codes), *port.shape[1:]) for port in shapes]


def values(program: Program, codes: Ints) -> NDArray[np.float32]:
    """Return outputs (N, C x H x W) for output codes, in the order and units of the float network; no detections."""
    found = []
    for name, part in zip(program.outputs, apart(program, program.outputs, codes), strict=True):
        y = program.tensors[name]
        if isinstance(y, Detections):
            continue
        rows = part.transpose(0, 3, 1, 2).reshape(len(part), -1)
        found.append((rows - y.zero).astype(np.float32) * np.float32(y.scale))
    return joined(found)


def output_sizes(program: Program) -> list[int]:
    """Return how many values each output has that the float network gives, too."""
    return [math.prod(program.tensors[name].shape) for name in compared(program)]


def detections(program: Program, codes: Ints) -> NDArray[np.float64] | None:
    """Return rows (N, most, 6) of class, score and edges in pixels for output codes; None where there are none."""
    y = program.tensors[program.outputs[-1]]
    if not isinstance(y, Detections):
        return None
    rows = apart(program, program.outputs, codes)[-1][:, 0].astype(np.float64)
    op = next(op for op in program.ops if op.output == y.name)
    edges = [y.scale * extent for extent in y.size] * 2
    scale = np.array([1, program.tensors[op.inputs[0]].scale, *edges])
    return np.where(rows[:, :, :1] < 0, -1.0, rows * scale)


def steps_apart(program: Program, first: NDArray[Any], second: NDArray[Any]) -> list[float]:
    """Return the largest difference of each output between two executors, in steps of the output's scale.

    Parameters
    ----------
    program : Program
    first, second : float32 (N, ...)
        Outputs in the order of the float network; rows (N, values) of several, the last of which may be missing.
    """
    difference = np.abs(first.reshape(len(first), -1) - second.reshape(len(second), -1))
    sizes = output_sizes(program)
    ends = np.cumsum(sizes).tolist()
    scales = [program.tensors[name].scale for name in compared(program)]
    return [
        float(difference[:, end - size : end].max() / scale)
        for end, size, scale in zip(ends, sizes, scales, strict=True)
        if end <= difference.shape[1]
    ]
