"""Windows of convolutions and poolings: explicit pads and strides, of one or two dimensions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from tapc.base.errors import DataError
from tapc.frontend.canonical.edit import attribute, shape, unsupported

_WIDEST_PAD = 4096
Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Windows over a map; those of one dimension have a height of 1.

    Attributes
    ----------
    image, kernel, strides, dilations : (int, int)
        Height and width.
    pads : (int, int, int, int)
        Top, left, bottom, right.
    """

    image: Pair
    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: tuple[int, int, int, int]

    @staticmethod
    def two(extents: Sequence[int]) -> Pair:
        """Return the extents of one or two dimensions as a height and a width."""
        return (1, extents[0]) if len(extents) == 1 else (extents[0], extents[1])


def windows(
    node: ir.Node, extents: Sequence[int], kernel: Sequence[int], *, transposed: bool = False, batch: bool = False
) -> Windows:
    """Return the windows of a node.

    Parameters
    ----------
    node : onnx_ir.Node
    extents : sequence of int
        (N, C, ...) of its input.
    kernel : sequence of int
    transposed : bool
        A transposed convolution: pads are cut from its result.
    batch : bool
        Several maps may be taken, whose steps are then taken as they are.

    Raises
    ------
    UnsupportedError
        Three dimensions, a batch, negative or very wide pads.
    DataError
        Strides that are not positive.
    """
    rank = len(extents) - 2
    if rank not in (1, 2) or len(kernel) != rank:
        raise unsupported(node, f"kernel {list(kernel)} on {list(extents)}; only windows of 1 or 2 dimensions")
    if extents[0] != 1 and not batch:
        raise unsupported(node, f"works on a batch of {extents[0]} maps {list(extents)}; only 1 is supported")
    if 0 in extents or 0 in shape(node.outputs[0]):
        raise unsupported(node, f"its result {list(shape(node.outputs[0]))} is empty")
    ones = (1,) * rank
    strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    if min(strides) < 1 or min(dilations) < 1:
        raise DataError(f"node {node.name!r} ({node.op_type}): strides {list(strides)} are not positive")
    dilations = tuple(1 if window == 1 else dilation for window, dilation in zip(kernel, dilations, strict=True))
    reach = [(window - 1) * dilation + 1 for window, dilation in zip(kernel, dilations, strict=True)]
    find = _cut if transposed else _pads
    pads = find(node, extents[2:], reach, strides)
    if min(pads) < 0:
        raise unsupported(node, f"negative pads {list(pads)}")
    if max(pads) > _WIDEST_PAD:
        raise unsupported(node, f"pads {list(pads)}; up to {_WIDEST_PAD} are supported")
    if not transposed:  # a single window takes no step
        strides = [min(step, extents[2 + i] + pads[i] + pads[i + rank]) for i, step in enumerate(strides)]
    two = Windows.two
    if rank == 1:
        one = (0, pads[0], 0, pads[1])
        return Windows((1, extents[2]), (1, kernel[0]), (1, strides[0]), (1, dilations[0]), one)
    return Windows(two(extents[2:]), two(kernel), two(strides), two(dilations), (pads[0], pads[1], pads[2], pads[3]))


def _pads(node: ir.Node, image: Sequence[int], reach: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    rank = len(image)
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode == "NOTSET":
        return tuple(attribute(node, "pads", (0,) * (2 * rank)))
    if mode == "VALID":
        return (0,) * (2 * rank)
    totals = [
        max((math.ceil(extent / stride) - 1) * stride + window - extent, 0)
        for extent, window, stride in zip(image, reach, strides, strict=True)
    ]
    return _shared(totals, mode)


def _shared(totals: Sequence[int], mode: str) -> tuple[int, ...]:
    """Divide pads between both ends; the odd one goes to the end that the mode names."""
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (*small, *large) if mode == "SAME_UPPER" else (*large, *small)


def _cut(node: ir.Node, image: Sequence[int], reach: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Return what a transposed convolution cuts from its full result."""
    rank, out = len(image), shape(node.outputs[0])[2:]
    mode, extra = attribute(node, "auto_pad", "NOTSET"), attribute(node, "output_padding", (0,) * len(image))
    full = [
        (extent - 1) * stride + window + more
        for extent, stride, window, more in zip(image, strides, reach, extra, strict=True)
    ]
    if mode == "NOTSET" and "output_shape" not in node.attributes:
        return tuple(attribute(node, "pads", (0,) * (2 * rank)))
    return _shared(
        [max(whole - extent, 0) for whole, extent in zip(full, out, strict=True)],
        "SAME_UPPER" if mode == "SAME_UPPER" else "SAME_LOWER",
    )
