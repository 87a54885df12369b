"""The order in which an Ethos-U55 reads weights.

Blocks of output channels, of input channels, of the kernel in parts of 8 x 8, and within them small blocks of 8 input
and 4 or 8 output channels; in part-kernel order the elements of the kernel come before the input channels. The coder is
vela's (`ethosu.mlw_codec`).
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError

Ints = NDArray[np.int64]
_INPUTS = 8  # channels of a small block
_LARGE, _SMALL = 32, 16  # input channels of a block, and of one in part-kernel order
_PART = 8  # rows and columns of the kernel that are read together


@dataclass(frozen=True)
class Order:
    """What the order depends on.

    Attributes
    ----------
    kernel : (int, int)
        Rows and columns.
    inputs, outputs : int
        Channels; of a depthwise convolution `inputs` is 1.
    depthwise : bool
    part_kernel : bool
        Elements of the kernel before input channels.
    block : int
        Output channels of a block.
    outputs_at_once : int
        Output channels of a small block: 4 on a U55-32, else 8.
    dilation : (int, int)
    """

    kernel: tuple[int, int]
    inputs: int
    outputs: int
    depthwise: bool
    part_kernel: bool
    block: int
    outputs_at_once: int
    dilation: tuple[int, int] = (1, 1)


@functools.lru_cache(maxsize=512)
def places(order: Order) -> tuple[Ints, int]:
    """Return where each weight of the flat (outputs, rows, columns, inputs) lies in the stream, and its length."""
    rows, columns = order.kernel
    found = np.full((order.outputs, rows, columns, order.inputs), -1, np.int64)
    at = 0
    large = _SMALL if order.part_kernel else _LARGE
    step_y, step_x = (max(1, _PART // distance) for distance in order.dilation)
    for first_output in range(0, order.outputs, order.block):
        outputs = min(order.block, order.outputs - first_output)
        for first_input in range(0, order.inputs, large):
            inputs = min(large, order.inputs - first_input) if order.part_kernel else large
            inputs = 1 if order.depthwise else inputs
            for y in range(0, rows, step_y):
                for x in range(0, columns, step_x):
                    sizes = min(step_y, rows - y), min(step_x, columns - x)
                    part = _part(sizes, inputs, outputs, order)
                    o, ky, kx, i = part + np.array([[first_output], [y], [x], [first_input]])
                    real = (o < min(order.outputs, first_output + outputs)) & (i < order.inputs) & (ky < y + sizes[0])
                    positions = at + np.arange(part.shape[1])
                    found[o[real], ky[real], kx[real], i[real]] = positions[real]
                    at += part.shape[1]
    assert found.min() >= 0
    return found.reshape(-1), at


@functools.lru_cache(maxsize=512)
def _part(sizes: tuple[int, int], inputs: int, outputs: int, order: Order) -> Ints:
    """Return output, row, column and input of each weight of one part, from its first ones on."""
    rows, columns = sizes
    elements = rows * columns
    if order.part_kernel or order.depthwise:
        elements = -(-elements // 4) * 4
    outer, inner = (inputs, 1) if order.part_kernel else (1, inputs)
    deep = 1 if order.depthwise else _INPUTS
    axes = (
        np.arange(0, outer, _INPUTS), np.arange(0, outputs, order.outputs_at_once), np.arange(elements),
        np.arange(0, inner, _INPUTS), np.arange(order.outputs_at_once), np.arange(deep),
    )  # fmt: skip
    outer_input, output, element, inner_input, o, i = (grid.reshape(-1) for grid in np.meshgrid(*axes, indexing="ij"))
    return np.stack([output + o, element // columns, element % columns, outer_input + inner_input + i])


def decoded(stream: bytes, order: Order) -> Ints:
    """Decode weights (outputs, rows, columns, inputs)."""
    from ethosu import mlw_codec

    where, length = places(order)
    values = np.array(mlw_codec.decode(bytearray(stream)), np.int64)
    if len(values) != length:
        raise UnsupportedError(f"{len(values)} weights are coded where a layer of {order} has {length}")
    return values[where].reshape(order.outputs, *order.kernel, order.inputs)
