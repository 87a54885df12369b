"""The integer program: typed tensors and operators between the QDQ ONNX and the kernels."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Mode
from tapc.hardware.target import Isa
from tapc.kernels.packing import row_bytes


@dataclass(frozen=True)
class Tensor:
    """A quantized activation, stored in NHWC order.

    Attributes
    ----------
    name : str
        Name in the ONNX graph.
    shape : (int, int, int)
        Height, width, channels; vectors are 1 x 1 x F.
    bits : {4, 8}
        Unsigned 4-bit or signed 8-bit codes.
    scale : float
        float32 value: real = scale * (code - zero).
    zero : int
        Zero point.
    """

    name: str
    shape: tuple[int, int, int]
    bits: int
    scale: float
    zero: int

    @property
    def low(self) -> int:
        """Smallest code."""
        return 0 if self.bits == 4 else -128

    @property
    def high(self) -> int:
        """Largest code."""
        return 15 if self.bits == 4 else 127

    @property
    def bytes(self) -> int:
        """Bytes in the arena."""
        return self.shape[0] * self.shape[1] * row_bytes(self.shape[2], self.bits)

    @property
    def quantization(self) -> tuple[float, int]:
        """Scale and zero point."""
        return self.scale, self.zero


@dataclass(frozen=True, eq=False)
class Op:
    """Base of the operators.

    Attributes
    ----------
    name : str
        ONNX node name.
    inputs : tuple of str
        Activation tensors read.
    output : str
        Activation tensor written.
    """

    name: str
    inputs: tuple[str, ...]
    output: str


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


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Convolution or dense layer with int32 accumulator.

    Attributes
    ----------
    weights : ndarray of int8, shape (outputs, kernel height, kernel width, inputs / groups)
    w_bits : {2, 4, 8}
    bias : ndarray of int32, shape (outputs,)
        Without the input's zero point, as in the ONNX.
    ratios : ndarray of float32, shape (outputs,)
        (x scale * weight scale) / result scale, each step rounded to float32.
    stride : (int, int)
    pads : (int, int, int, int)
        Top, left, bottom, right.
    groups : int
    low, high : int
        Clamp bounds of the convolution's result.
    residual : Residual or None
        When present, `inputs` is (x, residual tensor).
    pool : MaxPool or None
        When present, `output` is the pooled tensor.
    """

    weights: NDArray[np.int8]
    w_bits: int
    bias: NDArray[np.int32]
    ratios: NDArray[np.float32]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int
    low: int
    high: int
    residual: Residual | None = None
    pool: MaxPool | None = None

    def depthwise(self, inputs: int) -> bool:
        """Whether each output channel reads exactly one of `inputs` channels."""
        return self.groups > 1 and self.groups == inputs


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """Max or average pooling; `ratios[n - 1]` scales a sum over n taps."""

    op: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    include_pad: bool
    ratios: NDArray[np.float32]
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Add(Op):
    """Addition of two tensors of one shape."""

    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Requantize(Op):
    """Change of scale, bits or range."""

    ratio: np.float32
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Concatenation along channels; one ratio per input."""

    ratios: tuple[np.float32, ...]
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """Spatial zero padding (top, left, bottom, right)."""

    pads: tuple[int, int, int, int]
    ratio: np.float32


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """Reshape in NCHW order; `moves` tells whether the NHWC bytes change places."""

    order: Literal["to_nchw", "from_nchw"]
    moves: bool


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """Softmax over channels with output scale 1 / levels."""

    table: NDArray[np.uint32]
    levels: int


@dataclass(frozen=True, eq=False)
class AddConstant(Op):
    """Addition of a constant map.

    Attributes
    ----------
    codes : ndarray of int8, shape (H, W, C)
        With zero point 0.
    scale : float
    low, high : int
        Clamp bounds of the sum.
    """

    codes: NDArray[np.int8]
    scale: float
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class LayerNorm(Op):
    """Normalization of each pixel over its channels, see `tapc.base.normalization`.

    Attributes
    ----------
    gain, offset : ndarray of float32, shape (C,)
        Scale and shift over the output's scale.
    epsilon : float
        What is added to the variance.
    """

    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    epsilon: float


@dataclass(frozen=True, eq=False)
class Lookup(Op):
    """Any function of one 8-bit code: `table[code + 128]`."""

    table: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Scores:
    """What attention holds for a moment: the products of queries and keys, and their softmax.

    Attributes
    ----------
    score, weight : Tensor
        Quantization before and after the softmax.
    ratios : ndarray of float32, shape (2,)
        Accumulator to score, and to result.
    table : ndarray of uint32
        Exponentials of score differences.
    levels : int
        1 / scale of `weight`.
    """

    score: Tensor
    weight: Tensor
    ratios: NDArray[np.float32]
    table: NDArray[np.uint32]
    levels: int


@dataclass(frozen=True, eq=False)
class Attention(Op):
    """Softmax(q k^T) v; inputs are queries, keys and values, (H, W, heads * channels of a head)."""

    heads: int
    scores: Scores


@dataclass(frozen=True, eq=False)
class Program:
    """A network in integers.

    Attributes
    ----------
    name : str
    mode : {"float", "fixed"}
        How accumulators are requantized.
    tensors : dict of str to Tensor
    ops : tuple of Op
        In execution order.
    input, output : str
        Tensor names.
    isa : {"dsp", "mve", "scalar"}
        Instruction set family of the core, for which kernels are chosen.
    live : dict of str to ndarray of bool
        Tensor -> which of the network's channels it holds; those that are not listed hold all.
    prefix : str
        What the names of its C library begin with; empty: a prefix made of `name`.
    """

    name: str
    mode: Mode
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    input: str
    output: str
    isa: Isa = "dsp"
    live: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    prefix: str = ""

    def macs(self, op: Op) -> int:
        """Multiply-accumulates of an operator, padding included."""
        if isinstance(op, Attention):
            height, width, channels = self.tensors[op.output].shape
            return 2 * (height * width) ** 2 * channels
        if not isinstance(op, Conv):
            return 0
        height, width, _ = (self.tensors[op.output] if op.pool is None else op.pool.middle).shape
        return height * width * int(op.weights.size)

    def with_ops(self, ops: tuple[Op, ...]) -> "Program":
        """Return a copy with other operators; tensors that nothing uses are dropped."""
        used = {self.input, self.output}.union(*({*op.inputs, op.output} for op in ops))
        tensors = {k: v for k, v in self.tensors.items() if k in used}
        return replace(self, ops=ops, tensors=tensors, live={k: v for k, v in self.live.items() if k in used})

    def __str__(self) -> str:
        lines = [f"program {self.name} (requantization: {self.mode})", f"input  {_describe(self.tensors[self.input])}"]
        for op in self.ops:
            lines.append(f"{op.name} = {_operator(op)}({', '.join(op.inputs)})")
            live = self.live.get(op.output)
            channels = "" if live is None else f" ({live.sum()} of {len(live)} channels)"
            lines.append(f"    -> {_describe(self.tensors[op.output])}{channels}")
        return "\n".join([*lines, f"output {self.output}"])


def _describe(t: Tensor) -> str:
    kind = "uint4" if t.bits == 4 else "int8"
    return f"{t.name}: {kind}[{'x'.join(map(str, t.shape))}] scale={t.scale:.8g} zero={t.zero}"


def _operator(op: Op) -> str:
    def show(value: Any) -> str:
        if isinstance(value, np.ndarray):
            return f"{value.dtype}{list(value.shape)}"
        if isinstance(value, Scores):
            return f"[{_describe(value.score)} then {_describe(value.weight)}]"
        if isinstance(value, Residual | MaxPool):
            return f"[{value.name} via {_describe(value.middle)}]"
        return str(value)

    base = {"name", "inputs", "output"}
    fields = {k: v for k, v in vars(op).items() if k not in base and v is not None}
    return f"{type(op).__name__.lower()}<{', '.join(f'{k}={show(v)}' for k, v in fields.items())}>"
