"""What an integer arithmetic is: how accumulators become codes, how codes are added and normalized.

Every arithmetic is a file in `tapc.base.arithmetic.modes`: its exact meaning, which the reference executor runs, what
kernels are given, and the C functions that they call.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.intrinsic import Intrinsic

Mode = str
"""Name of an arithmetic: `float`, `fixed` or `tflite`."""
Ints = NDArray[np.int64]
Quantization = tuple[float, int]
"""Scale and zero point of a tensor."""
Part = Literal["requantize", "add", "normalize", "average", "softmax"]
"""What C functions are for."""
Ratios = NDArray[np.floating[Any]]
"""Ratios of scales, in the precision of their arithmetic."""
Quick = str
"""How sums are requantized: as any are (empty), as those with room by shifts to the right alone (`_right`) or to both
sides (`_both`), or by a product and a saturating shift (`_smm12`: by 12; see `smm`)."""
Doubles = NDArray[np.float64]
Values = Callable[[Doubles], Doubles]
"""A function of one value."""
TableFunction = Callable[..., Ints | None]
"""(codes, their quantization, that of the result, **attributes) -> codes of the result, not clamped; None where these
quantizations are not its own."""


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

    A kernel makes a code by ``t_requant_NAME(accumulator, factor's words, zero, low, high)``, adds two by
    ``t_add_NAME(a, b, sum_scalars, low, high)``, and normalizes one by ``t_norm_NAME(centred, inverse, gain, offset,
    norm_scalars, zero, low, high)``, where the inverse is that of `norm_inverse`.

    Attributes
    ----------
    name : Mode
    number : {"float32", "int32"}
        TensorIR type of factors, and of the scalars of sums and normalizations.
    words : int
        Words of a requantization factor.
    saturating : bool
        Whether ``t_requant_NAME8`` and ``t_requant_NAME4``, without bounds, saturate to all codes of so many bits. What
        is `quick` always has them.
    lanes : str
        Intrinsic that requantizes a vector of four accumulators, each by a factor of its own, and with ``_same`` behind
        it, all by one; ``t_sum4_NAME`` then adds two vectors of codes. Empty: one code is made at a time. Both have
        forms for what is `quick` to the right.
    sum_scalars : tuple of str
        What an addition is given.
    norm_inverse : str
        Intrinsic that takes a pixel's sum, sum of squares and channels, and epsilon.
    norm_words : int
        int32 words that it writes to a pointer behind these; 0: it returns a `number`.
    norm_scalars : tuple of {"shift"}
        What ``t_norm_NAME`` is given of them.
    precision : type
        Of ratios.
    homogeneous : bool
        Accumulators 2^n times as large, with factors for ratios 2^n times as small, give the same codes.
    float_products : bool
        Codes are float32 products, rounded half to even: where `smm` finds integers that give the same, they may.
    averages : bool
        The mean of codes whose scale stays is ``t_average_NAME(sum, count)``, of the codes as they are.
    functions : mapping
        Functions of one code that it computes in a way of its own; others are rounded from float64.
    softmax_levels : int
        1 / scale of the softmax that it computes in a way of its own, with zero point -128; 0: it has none. Of a table
        ``t_softmax_term_NAME(entry)`` are summed up, ``t_softmax_scale_NAME(sum, words)`` makes two words of a sum, and
        ``t_softmax_code_NAME(entry, words...)`` what is added to the zero point.
    log_softmax_levels : int
        1 / scale of the logarithms of a softmax that it computes in a way of its own, with zero point 127; 0: it has
        none. ``t_log_sum_NAME(sum)`` makes a logarithm of the sum of terms, and ``t_log_code_NAME(difference)`` what is
        added to the zero point, of an entry of `log_steps` less the logarithm.
    unit_levels : int
        1 / scale of vectors of length 1 that it computes in a way of its own, with zero point 0; 0: it has none.
        ``t_length_NAME(sum of squares, words)`` makes a factor's two words of their length.
    intrinsics : mapping
        Part -> the C functions of it.
    """

    name: ClassVar[Mode]
    number: ClassVar[Literal["float32", "int32"]]
    words: ClassVar[int]
    saturating: ClassVar[bool] = False
    lanes: ClassVar[str] = ""
    sum_scalars: ClassVar[tuple[str, ...]]
    norm_inverse: ClassVar[str]
    norm_words: ClassVar[int] = 0
    norm_scalars: ClassVar[tuple[Literal["shift"], ...]] = ()
    precision: ClassVar[type[np.floating[Any]]] = np.float32
    homogeneous: ClassVar[bool] = True
    float_products: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    functions: ClassVar[Mapping[str, TableFunction]] = {}
    softmax_levels: ClassVar[int] = 0
    log_softmax_levels: ClassVar[int] = 0
    unit_levels: ClassVar[int] = 0
    intrinsics: ClassVar[Mapping[Part, tuple[Intrinsic, ...]]]

    def ratios(self, scales: Sequence[Any], over: Any) -> Ratios:
        """Return the product of scales over another scale, in float32; each may be an array."""
        product = np.asarray(scales[0], np.float32)
        for scale in scales[1:]:
            product = product * np.asarray(scale, np.float32)
        return np.asarray(product / np.asarray(over, np.float32))

    def mean_ratios(self, x: float, y: float, counts: Any) -> Ratios:
        """Return ratios of scales over numbers of summands."""
        return np.asarray(np.float32(x) / (np.float32(y) * np.asarray(counts, np.float32)))

    def steps(self, value: float, scale: float) -> float:
        """Return a real bound as a whole number of a scale's steps."""
        return float(np.rint(np.float32(value) / np.float32(scale)))

    def multipliers(self, ratios: Ratios) -> Multipliers:
        """Encode ratios of scales, positive and finite."""
        raise NotImplementedError

    def mean_multipliers(self, ratios: Ratios) -> Multipliers:
        """Encode what scales sums to means: `ratios[n - 1]` those of n codes."""
        return self.multipliers(ratios)

    def quick(self, m: Multipliers, largest: Ints) -> Quick:
        """Return what stands behind ``t_requant_NAME`` that gives the same with less work.

        Parameters
        ----------
        m : Multipliers
        largest : ndarray of int64
            The accumulators' greatest magnitudes, one per factor or of all.
        """
        return ""

    def near(self, m: Multipliers, largest: Ints) -> bool:
        """Return whether ``t_requant_NAME_near`` gives the same without wide products, which few cores lack."""
        return False

    def average(self, total: Ints, counts: Ints) -> Ints:
        """Return the mean of `counts` codes of which the sum is given."""
        raise NotImplementedError

    def function(self, codes: Ints, values: Values, x: Quantization, y: Quantization) -> Doubles:
        """Return the codes of a function of codes, not clamped: infinite where it is.

        Parameters
        ----------
        codes : ndarray of int64
        values : callable
        x, y : Quantization
            Of the codes and of the result.
        """
        # In float32, as DequantizeLinear and QuantizeLinear have it: a function with jumps must see the same side of
        # them, and whole numbers that lie between two codes are halves there which are none in float64.
        real = ((codes - x[1]).astype(np.float32) * np.float32(x[0])).astype(np.float64)
        with np.errstate(over="ignore"):
            steps = values(real).astype(np.float32) / np.float32(y[0])
        rounded: Doubles = np.rint(steps).astype(np.float64) + y[1]
        return rounded

    def softmax_table(self, scale: float, span: int) -> NDArray[np.uint32]:
        """Return what its softmax makes of the differences 0..span-1 to the largest code."""
        raise NotImplementedError

    def softmax(self, terms: Ints, levels: int) -> Ints:
        """Return what its softmax adds to the zero point, over the last axis of entries of its table; 1 / its scale."""
        raise NotImplementedError

    def log_steps(self, scale: float) -> NDArray[np.int32]:
        """Return the logarithms of the 256 terms of a softmax's table, of which the logarithm of a sum is taken."""
        raise NotImplementedError

    def log_softmax(self, terms: Ints, steps: Ints) -> Ints:
        """Return what is added to the zero point, for terms (..., classes) and their logarithms."""
        raise NotImplementedError

    def lengths(self, squares: Ints) -> Multipliers:
        """Return the factors that make vectors of length 1 of those of these squared lengths."""
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

    def normalize(self, x: Ints, f: NormFactors, zero: int, low: int, high: int, *, mean: bool = True) -> Ints:
        """Normalize codes over their last axis; `mean`: theirs is taken out."""
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
