"""Convolution and dense layers: what a kernel instance is, and how its weights are packed.

4- and 2-bit weights are unpacked into the top bits of half-words, where their sign is right: the accumulators then hold
2^(16 - bits) times the sum, which the requantization factors undo exactly. Where a layer's weights do not rule out that
such an accumulator overflows, they are stored with an offset of 2^(bits-1) instead: the surplus offset * sum(x) is the
same for all output channels, so each pixel's sum is taken once, while its column is made, and subtracted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.arithmetic import Mode
from tapc.kernels import tile
from tapc.kernels.builder import Kernel, Parameter, build
from tapc.kernels.columns import Columns, Window
from tapc.kernels.layout import SCALAR_RANGE, Plane, add_parameters, multiplier_parameter
from tapc.kernels.packing import pair_words, weights_per_word
from tapc.kernels.schedule import Schedule, largest_divisor, least_padding
from tapc.target import Isa


@dataclass(frozen=True)
class ConvSpec:
    """A convolution kernel instance; everything that changes the generated code and nothing else.

    Attributes
    ----------
    x, y : Plane
        Input and output.
    window : Window
    groups : int
    w_bits : {2, 4, 8}
    mode : {"float", "fixed"}
    isa : {"dsp", "scalar"}
    residual_bits : {0, 4, 8}
        Bits of a tensor of y's shape that is added after requantization; 0 for none.
    residual_first : bool
        The residual is the addition's first operand (the order of the two float additions matters).
    clamped : bool
        The convolution's result is clamped more narrowly than its codes.
    top : bool
        Weights narrower than 8 bits are unpacked into the top bits.
    tuned : Schedule or None
        A schedule in place of the default.
    """

    x: Plane
    y: Plane
    window: Window
    groups: int
    w_bits: int
    mode: Mode
    isa: Isa = "dsp"
    residual_bits: int = 0
    residual_first: bool = False
    clamped: bool = True
    top: bool = False
    tuned: Schedule | None = None

    @property
    def kind(self) -> str:
        """Short name of the code shape, used in symbol names and the cost model."""
        shape = "dense" if self.y.pixels == 1 else "conv"
        return f"{shape}_w{self.w_bits}a{self.x.bits}o{self.y.bits}" + ("_add" if self.residual_bits else "")

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.y.channels // self.groups

    @property
    def schedule(self) -> Schedule:
        """The tuned schedule, or a good one for the shape."""
        if self.tuned is not None:
            return self.tuned
        pixels = 1 if self.y.pixels == 1 else 2
        rows = least_padding(self.group_outputs, (4, 2)) if pixels == 1 else 2
        taps = self.x.channels // self.groups * self.window.taps
        per_word = weights_per_word(self.w_bits)
        return Schedule(rows, pixels, largest_divisor(max(-(-taps // 4) * 4 // per_word, 1), 48 // per_word))

    @property
    def columns(self) -> Columns:
        """The column buffer."""
        return Columns(self.x, self.y, self.window, self.groups, self.schedule.pixels)

    @property
    def words(self) -> int:
        """Weight words of one output channel; the last may be used in part."""
        return -(-self.columns.padded // weights_per_word(self.w_bits))

    @property
    def shift(self) -> int:
        """Power of two that the accumulators are multiplied by."""
        return 16 - self.w_bits if self.top else 0

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the column buffer."""
        return self.columns.bytes

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Lay weights out in reading order.

        Parameters
        ----------
        weights : ndarray of int8, shape (outputs, kernel height, kernel width, inputs / groups)

        Returns
        -------
        ndarray of uint32
            Per group and tile of output channels: words of the tile's channels, alternating.
        """
        order, rows = self.columns.order(), self.schedule.rows
        flat = weights.reshape(self.groups, self.group_outputs, -1)
        column = np.where(order >= 0, flat[:, :, np.maximum(order, 0)], 0)
        rest = -len(order) % weights_per_word(self.w_bits)
        column = np.pad(column, ((0, 0), (0, -self.group_outputs % rows), (0, rest)))
        words = pair_words(column, self.w_bits, signed=self.top)
        return words.reshape(self.groups, -1, rows, words.shape[-1]).swapaxes(2, 3).ravel()

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        tiles = -(-self.group_outputs // self.schedule.rows)
        return self.groups * tiles * self.schedule.rows * self.words

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        parameters: tuple[Parameter, ...] = (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("col", "int32", self.scratch_bytes // 4, constant=False),
            Parameter("w", "int32", self.weight_words),
            Parameter("bias", "int32", self.y.channels),
            multiplier_parameter(self.mode, self.y.channels),
            Parameter("pad", "int32"),
            *SCALAR_RANGE,
        )
        if self.residual_bits:
            residual = Plane(self.y.height, self.y.width, self.y.channels, self.residual_bits)
            parameters += (residual.parameter("r"), *add_parameters(self.mode))
        return build(name, parameters, lambda b: tile.emit(self, b))
