"""What a convolution or dense layer holds, and what may be fused behind it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ratios
from tapc.ir.program import Op, Tensor


@dataclass(frozen=True, eq=False)
class Residual:
    """An addition fused behind a convolution: the convolution's own result never reaches memory.

    Attributes
    ----------
    name : str
        ONNX node name of the addition.
    middle : Tensor
        Quantization of the convolution's result.
    low, high : int
        Clamp bounds of the sum.
    swapped : bool
        The convolution's result is the addition's second operand.
    """

    name: str
    middle: Tensor
    low: int
    high: int
    swapped: bool

    def __str__(self) -> str:
        return f"[{self.name} via {self.middle}]"


@dataclass(frozen=True)
class MaxPool:
    """A max-pooling fused behind a convolution: the convolution's own result never is in memory as a whole.

    Attributes
    ----------
    name : str
        ONNX node name of the pooling.
    middle : Tensor
        The convolution's result.
    kernel, stride : (int, int)
        Windows share no line.
    low, high : int
        Clamp bounds of the maximum.
    """

    name: str
    middle: Tensor
    kernel: tuple[int, int]
    stride: tuple[int, int]
    low: int
    high: int

    def __str__(self) -> str:
        return f"[{self.name} via {self.middle}]"


@dataclass(frozen=True, eq=False)
class Weighted(Op):
    """The integers of a convolution or dense layer with int32 accumulator.

    Attributes
    ----------
    weights : ndarray of int8, shape (outputs, kernel height, kernel width, inputs / groups)
    w_bits : {2, 4, 8}
    bias : ndarray of int32, shape (outputs,)
        Without the input's zero point, as in the ONNX.
    ratios : ndarray, shape (outputs,)
        (x scale * weight scale) / result scale, in the precision of the arithmetic.
    stride : (int, int)
    pads : (int, int, int, int)
        Top, left, bottom, right.
    groups : int
    low, high : int
        Clamp bounds of the convolution's result.
    dilation : (int, int)
        Distance of neighbouring taps.
    residual : Residual or None
        When present, `inputs` is (x, residual tensor).
    pool : MaxPool or None
        When present, `output` is the pooled tensor.
    """

    weights: NDArray[np.int8]
    w_bits: int
    bias: NDArray[np.int32]
    ratios: Ratios
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int
    low: int
    high: int
    dilation: tuple[int, int] = (1, 1)
    residual: Residual | None = None
    pool: MaxPool | None = None

    def depthwise(self, inputs: int) -> bool:
        """Whether each output channel reads exactly one of `inputs` channels."""
        return self.groups > 1 and self.groups == inputs
