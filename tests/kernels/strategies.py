"""Hypothesis strategies for convolution programs."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from kernels.programs import conv_op, program, tensor
from tapc.ir.program import Program, Tensor
from tapc.operators.pool import Pool
from tapc.operators.weighted import Conv


@st.composite
def _conv(
    draw: st.DrawFn, x: Tensor, rng: Generator, name: str, strides: int = 4, grouped: bool = True
) -> tuple[Conv, Tensor]:
    height, width, inputs = x.shape
    kernel = (draw(st.integers(1, min(height + 1, 3))), draw(st.integers(1, min(width + 1, 3))))
    stride = (draw(st.integers(1, strides)), draw(st.integers(1, strides)))
    dilation = (draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 2, 3])))
    reach = tuple((size - 1) * distance + 1 for size, distance in zip(kernel, dilation, strict=True))
    pads = []
    for size, extent in zip((*reach, *reach), (height, width) * 2, strict=True):
        pads.append(draw(st.integers(-(-max(size - extent, 0) // 2), max(size - 1, 0))))
    divisors = [g for g in range(1, inputs + 1) if inputs % g == 0]
    groups = draw(st.sampled_from(divisors)) if grouped else 1
    outputs = groups * draw(st.integers(1, 5))
    rows = (height + pads[0] + pads[2] - reach[0]) // stride[0] + 1
    columns = (width + pads[1] + pads[3] - reach[1]) // stride[1] + 1
    y = tensor(f"{name}_y", (rows, columns, outputs), draw(st.sampled_from([4, 8])), rng)
    w_bits = draw(st.sampled_from([2, 4, 8]))
    return conv_op(rng, x, y, kernel, stride, tuple(pads), groups, w_bits, name, dilation), y


@st.composite
def conv_programs(draw: st.DrawFn, mode: str, isa: str, layers: int = 1) -> Program:
    """Draw chains of convolutions; the numbers come from a drawn seed."""
    rng = default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 12, 16]))
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 8)), channels)
    tensors, ops = [tensor("x", shape, draw(st.sampled_from([4, 8])), rng)], []
    for i in range(layers):
        op, y = draw(_conv(tensors[-1], rng, f"conv{i}"))
        ops.append(op)
        tensors.append(y)
    return program(ops, tensors, mode, isa)


@st.composite
def pooled_programs(draw: st.DrawFn, mode: str, isa: str) -> Program:
    """Draw a convolution with a max-pooling behind it whose windows share no line."""
    rng = default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(5, 10)), draw(st.integers(1, 8)), draw(st.sampled_from([1, 2, 3, 4, 5, 8, 12, 16])))
    x = tensor("x", shape, draw(st.sampled_from([4, 8])), rng)
    op, middle = draw(_conv(x, rng, "conv", strides=2, grouped=False))
    height, width, channels = middle.shape
    kernel = (draw(st.integers(1, min(height, 3))), draw(st.integers(1, min(width, 3))))
    stride = (draw(st.integers(kernel[0], 4)), draw(st.integers(1, 4)))
    shape = ((height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1, channels)
    y = Tensor("pooled", shape, middle.bits, middle.scale, middle.zero)
    low = draw(st.integers(y.low, y.high))
    ratios = np.ones(1, np.float32)
    pool = Pool("pool", (middle.name,), "pooled", "max", kernel, stride, (0, 0, 0, 0), False, ratios, low, y.high)
    return program([op, pool], [x, middle, y], mode, isa)


_SHAPES = [
    ((5, 5, 3), (3, 3), (1, 1)), ((4, 8, 2), (3, 3), (1, 1)), ((1, 9, 2), (1, 3), (1, 1)), ((9, 1, 3), (3, 1), (1, 1)),
    ((7, 17, 2), (3, 3), (2, 2)), ((2, 2, 4), (3, 3), (1, 1)), ((6, 19, 2), (2, 5), (1, 2)),
    ((1, 1, 2), (1, 1), (1, 1)), ((9, 6, 2), (7, 6), (1, 1)),
]  # fmt: skip


def depthwise_extremes(mode: str, isa: str) -> list[Program]:
    """Return depthwise layers whose weights are as large as can be, of few signs: their sums reach all ends."""
    found = []
    for case, (shape, kernel, stride) in enumerate(_SHAPES):
        for w_bits, least in ((8, -127), (8, -128), (8, -85), (4, -8), (2, -2)):
            rng = default_rng((case, w_bits, -least))
            pads = tuple((size - 1) // 2 for size in kernel * 2)
            rows, columns = (
                (size + 2 * pad - taps) // step + 1
                for size, pad, taps, step in zip(shape, pads, kernel, stride, strict=False)
            )
            x, y = tensor("x", shape, 8, rng), tensor("y", (rows, columns, shape[2]), 8, rng)
            op = conv_op(rng, x, y, kernel, stride, pads, shape[2], w_bits)  # type: ignore[arg-type]
            ends = rng.choice([least, max(-least - 1, 1)], op.weights.shape).astype(np.int8)
            # Biases that leave little room, and as much as there is.
            bias = rng.integers(-200000, 200000, shape[2]) if case % 2 else rng.integers(-99, 99, shape[2])
            found.append(program([replace(op, weights=ends, bias=bias.astype(np.int32))], [x, y], mode, isa))
    return found


def extreme_codes(x: Tensor) -> NDArray[np.int64]:
    """Return inputs of extreme codes alone, and some of any."""
    rng = default_rng(7)
    ends = rng.choice([x.low, x.high], (4, *x.shape))
    ends[0], ends[1] = x.low, x.high
    codes: NDArray[np.int64] = np.concatenate([ends, rng.integers(x.low, x.high + 1, (2, *x.shape))]).astype(np.int64)
    return codes
