"""What a network that is quantized already brings along: scales, zero points and codes, exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Mode


@dataclass(frozen=True)
class GivenPoint:
    """How a tensor is quantized.

    Attributes
    ----------
    scale : float
        A float32 value: real = scale * (code - zero).
    zero : int
    bits : {4, 8, 16, 32}
        Unsigned 4-bit, or signed 8-bit, 16-bit or (of outputs) 32-bit codes; what a file keeps as uint8 has its zero
        point 128 lower here.
    windowed : bool
        A pooling made it, which is no mean even where its window is the whole map: they round differently.
    """

    scale: float
    zero: int
    bits: int = 8
    windowed: bool = field(default=False, compare=False)


@dataclass(frozen=True, eq=False)
class GivenLayer:
    """The integers of a layer.

    Attributes
    ----------
    name : str
        What the source calls it.
    codes : ndarray of int8 or int16, shape (outputs, ...)
        With zero point 0.
    scales : ndarray of float32, shape (outputs,) or (1,)
    bits : {2, 4, 8, 16}
    bias : ndarray of int32 or int64, shape (outputs,), or None
        In units of the input's scale times the weights'; None where it comes as real values.
    real_bias : ndarray of float32, shape (outputs,), or None
        What the float graph holds for it.
    single : bool
        The ratio of its scales is one of float32 numbers in the source's arithmetic.
    short : bool
        Its sums of 16-bit codes have 32 bits.
    """

    name: str
    codes: NDArray[np.int8] | NDArray[np.int16]
    scales: NDArray[np.float32]
    bits: int
    bias: NDArray[np.int32] | None
    real_bias: NDArray[np.float32] | None
    single: bool = False
    short: bool = False

    def weights(self) -> NDArray[np.float32]:
        """Return what the float graph holds for the codes."""
        column = self.scales.reshape(-1, *[1] * (self.codes.ndim - 1))
        return (self.codes.astype(np.float32) * column).astype(np.float32)


@dataclass(frozen=True, eq=False)
class GivenConstant:
    """The integers of a constant operand.

    Attributes
    ----------
    values : ndarray of float32
        What the float graph holds.
    point : GivenPoint
    """

    values: NDArray[np.float32]
    point: GivenPoint


@dataclass(frozen=True, eq=False)
class Given:
    """All that a quantized network brings along.

    Attributes
    ----------
    kind : str
        "int8 TFLite", "int16x8 TFLite", "QDQ ONNX"; for reports.
    mode : Mode
        The arithmetic that its own runtime has; empty where any will do.
    points : mapping of str to GivenPoint
        Tensor of the float graph -> how it is quantized.
    layers : mapping of str to GivenLayer
        Node -> its integers.
    constants : tuple of GivenConstant
    obstacle : str
        Why the network cannot be kept as it is; empty where nothing is known.
    """

    kind: str
    mode: Mode = ""
    points: Mapping[str, GivenPoint] = field(default_factory=dict)
    layers: Mapping[str, GivenLayer] = field(default_factory=dict)
    constants: tuple[GivenConstant, ...] = ()
    obstacle: str = ""
