"""What an integer arithmetic is: how accumulators become codes, how codes are added and normalized.

Every arithmetic is a file in `tapc.base.arithmetic.modes`: its exact meaning here, which the reference executor runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Mode = str
"""Name of an arithmetic: `float` or `fixed`."""
Ints = NDArray[np.int64]
Quantization = tuple[float, int]
"""Scale and zero point of a tensor."""


@dataclass(frozen=True)
class Multipliers:
    """Requantization factors, one per output channel (or tap count).

    Attributes
    ----------
    mode : Mode
    factor : ndarray
        float32 factors, or int32 mantissas in [2^30, 2^31), 0 for ratios too small to count.
    shift : ndarray of int32
        Right shifts of the mantissas, zeros otherwise.
    """

    mode: Mode
    factor: NDArray[Any]
    shift: NDArray[np.int32]

    def __getitem__(self, index: Any) -> "Multipliers":
        """Return those at an index, as of an array."""
        return Multipliers(self.mode, self.factor[index], self.shift[index])


@dataclass(frozen=True)
class AddFactors:
    """Factors of a quantized addition; what they are is the arithmetic's own.

    Attributes
    ----------
    mode : Mode
    """

    mode: Mode

    @property
    def ratios(self) -> tuple[float, float]:
        """About the scales of a and b over that of the result."""
        raise NotImplementedError

    def scalars(self, zero: int) -> dict[str, float]:
        """Return what a kernel is given: the `sum_scalars` of the arithmetic; `zero` is that of the result."""
        raise NotImplementedError


@dataclass(frozen=True)
class NormFactors:
    """What a normalization multiplies with.

    Attributes
    ----------
    mode : Mode
    epsilon : float or int
        What is added to the variance of C^2 times the codes, as float32 or as an int32.
    gain, offset : ndarray, shape (C,)
        Scale and shift per channel, float32 or int32.
    shift : int
        Right shift of the integers, 0 otherwise.
    """

    mode: Mode
    epsilon: float
    gain: NDArray[Any]
    offset: NDArray[Any]
    shift: int


AddT = TypeVar("AddT", bound=AddFactors)


class Arithmetic(Generic[AddT]):
    """Base of the arithmetics: what the program, its reference and its kernels ask of one.

    Attributes
    ----------
    name : Mode
    words : int
        Words of a requantization factor.
    """

    name: ClassVar[Mode]
    words: ClassVar[int]

    def multipliers(self, ratios: NDArray[np.float32]) -> Multipliers:
        """Encode ratios of scales, positive and finite."""
        raise NotImplementedError

    def constant(self, m: Multipliers) -> NDArray[Any]:
        """Return factors as a kernel reads them: one after the other, `words` each."""
        raise NotImplementedError

    def requantize(self, acc: Ints, m: Multipliers, zero: int, low: int, high: int) -> Ints:
        """Scale accumulators to codes."""
        raise NotImplementedError

    def add_factors(self, a: Quantization, b: Quantization, y: Quantization) -> AddT:
        """Encode an addition; RangeError where it would be lost in rounding."""
        raise NotImplementedError

    def add(self, a: Ints, b: Ints, f: AddT, zero: int, low: int, high: int) -> Ints:
        """Add codes."""
        raise NotImplementedError

    def norm_factors(
        self, gain: NDArray[np.float32], offset: NDArray[np.float32], epsilon: float, scale: float
    ) -> NormFactors:
        """Encode a normalization."""
        raise NotImplementedError

    def normalize(self, x: Ints, f: NormFactors, zero: int, low: int, high: int) -> Ints:
        """Normalize codes over their last axis."""
        raise NotImplementedError


ArithmeticT = TypeVar("ArithmeticT", bound=type[Arithmetic[Any]])
_known: dict[Mode, Arithmetic[Any]] = {}


def register_arithmetic(kind: ArithmeticT) -> ArithmeticT:
    """Decorate the class of an arithmetic: its name becomes a mode."""
    _known[kind.name] = kind()
    return kind


def arithmetic_of(mode: Mode) -> Arithmetic[Any]:
    """Return the arithmetic of that name."""
    return _known[mode]


def arithmetics() -> Iterable[Arithmetic[Any]]:
    """Return all arithmetics."""
    return _known.values()
