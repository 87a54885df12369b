"""Fourier transforms of constant length: products with matrices of cosines and sines, their parts side by side.

ONNX keeps complex numbers as a last axis of two, real and imaginary part, which are ordinary elements here. A frame of
a short-time transform is a window of a convolution. See the definitions of
`DFT <https://onnx.ai/onnx/operators/onnx__DFT.html>`_ and `STFT <https://onnx.ai/onnx/operators/onnx__STFT.html>`_.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.frontend.canonical.edit import AttributeValue, attribute, operand, shape, unsupported
from tapc.frontend.canonical.placed import Placed
from tapc.frontend.canonical.translate.layers import POINTWISE, linear
from tapc.frontend.canonical.translator import Translator, translates

_AXIS_IS_INPUT = 20
_LONGEST = 1 << 14


def transform(length: int, bins: int, *, inverse: bool = False) -> NDArray[np.float64]:
    """Return exp(-2 pi i k n / length) as parts: float64 (bins, 2, length, 2), of a result by of an element."""
    # The product is reduced before it becomes an angle, which large ones would lose digits of.
    turns = np.arange(bins)[:, None] * np.arange(length)[None] % length
    angle = 2 * np.pi * turns / length * (1 if inverse else -1)
    cosine, sine = np.cos(angle), np.sin(angle)
    found = np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=1)
    return found / length if inverse else found


def _length(node: ir.Node, length: int, what: str) -> int:
    if not 1 <= length <= _LONGEST:
        raise unsupported(node, f"{what} is {length}; matrices are made for 1 to {_LONGEST}")
    return length


@translates("STFT")
def stft(t: Translator, node: ir.Node) -> None:
    """Write a convolution whose filters are the windowed cosines and sines."""
    placed, step = t.of(node), int(t.fixed(node, 1).reshape(-1)[0])
    index = placed.index
    if index.shape[0] != 1 or (index.ndim == 3 and index.shape[2] != 1):
        raise unsupported(node, f"its signal {list(index.shape)} is no single real one")
    window = None if operand(node, 2) is None else t.fixed(node, 2).reshape(-1).astype(np.float64)
    if operand(node, 3) is not None:
        length = int(t.fixed(node, 3).reshape(-1)[0])
    elif window is not None:
        length = window.size
    else:
        raise DataError(f"node {node.name!r} (STFT): neither window nor frame_length says how long a frame is")
    length, samples = _length(node, length, "frame_length"), index.size
    if step < 1 or length > samples or (window is not None and window.size != length):
        raise DataError(f"node {node.name!r} (STFT): frames of {length} every {step} do not fit {samples} samples")
    bins = length // 2 + 1 if attribute(node, "onesided", 1) else length
    filters = transform(length, bins)[..., 0] * (1.0 if window is None else window)
    value = t.arranged(node, placed, index.reshape(1, 1, samples))
    outputs, frames = 2 * bins, (samples - length) // step + 1
    attributes: dict[str, AttributeValue] = {**POINTWISE, "kernel_shape": (1, length), "strides": (1, step)}
    stem = node.name or "stft"
    weights = t.constant(f"{stem}.weight", filters.reshape(outputs, 1, 1, length))
    bias = t.constant(f"{stem}.bias", np.zeros(outputs))
    result = t.emit(node, "Conv", [value, weights, bias], attributes, (1, outputs, 1, frames))
    t.result(node, result, np.arange(outputs * frames).reshape(bins, 2, frames).transpose(2, 0, 1))


@translates("DFT")
def dft(t: Translator, node: ir.Node) -> None:
    """Write a product with a matrix along the transformed axis."""
    placed = t.of(node)
    rank, parts = placed.index.ndim, placed.index.shape[-1]
    axis = _axis(t, node, rank)
    if parts not in (1, 2) or not 0 <= axis < rank - 1:
        raise DataError(
            f"node {node.name!r} (DFT): axis {axis} of {list(placed.index.shape)} holds no numbers in parts"
        )
    given = placed.index.shape[axis]
    length = given if operand(node, 1) is None else int(t.fixed(node, 1).reshape(-1)[0])
    _length(node, length, "its length")
    onesided = bool(attribute(node, "onesided", 0))
    inverse = bool(attribute(node, "inverse", 0))
    if onesided and (parts == 2 or inverse):
        raise unsupported(node, "onesided is of real numbers and not of an inverse")
    bins, used = length // 2 + 1 if onesided else length, min(given, length)
    rows = np.moveaxis(placed.index, axis, -2)[..., :used, :]
    matrix: NDArray[Any] = transform(length, bins, inverse=inverse)[:, :, :used, :parts].reshape(2 * bins, used * parts)
    output = node.outputs[0]
    extents = shape(output)
    linear(t, node, Placed(placed.base, rows.reshape(*rows.shape[:-2], used * parts)), matrix.T, np.zeros(2 * bins))
    own = t.placed[output]
    lead = extents[:axis] + extents[axis + 1 : -1]
    turned = np.moveaxis(own.index.reshape(*lead, bins, 2), -2, axis)
    t.placed[output] = Placed(own.base, turned.reshape(extents))


def _axis(t: Translator, node: ir.Node, rank: int) -> int:
    if t.opset >= _AXIS_IS_INPUT:
        axis = -2 if operand(node, 2) is None else int(t.fixed(node, 2).reshape(-1)[0])
    else:
        axis = int(attribute(node, "axis", 1))
    return axis + rank if axis < 0 else axis
