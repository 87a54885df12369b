"""Products of two activations in a TFLite file, whose factor is the same however scales are multiplied.

TFLite-Micro multiplies the two scales in float64 or, in other versions, in float32, vela in float32: their factors
differ in the last bits, and rarely a code. The products are written between scales next to the tensors' own, of so few
bits that both are exact, and with the reference executor's factor; transpositions around them leave codes as they are.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from tapc.base.arithmetic.tflite_functions import encoded
from tapc.base.errors import UnsupportedError
from tapc.ir.tflite import Point, TfliteFile

_BITS, _NEIGHBOURS = 12, (40, 160)
"""Bits of two numbers whose product is a float; how many steps from the own ones they may be, first and else."""
Shape = tuple[int, int, int]
_SAME = (0, 1, 2)


def exact_scales(a: float, b: float, y: float) -> tuple[float, float, float]:
    """Return scales near those of two operands and their product: a product of few bits, and the same factor."""
    ratio = float(np.float64(np.float32(a)) * np.float64(np.float32(b)) / np.float64(np.float32(y)))
    wanted = encoded(ratio)
    for most in _NEIGHBOURS:
        pairs = itertools.product(_near(a, most), _near(b, most))
        for left, right in sorted(pairs, key=lambda pair: abs(math.log(pair[0] / a * pair[1] / b))):
            over = float(np.float32(left * right / ratio))
            if encoded(left * right / over) == wanted:
                return left, right, over
    raise UnsupportedError(f"scales {a:.3g}, {b:.3g} and {y:.3g} of a product have no form in TFLite")


def turned(file: TfliteFile, source: int, shape: Shape, order: Shape, point: Point, result: int | None = None) -> int:
    """Add a transposition, whose result may have another scale: codes stay what they are."""
    result = file.between((shape[order[0]], shape[order[1]], shape[order[2]]), point) if result is None else result
    axes = file.constant(np.array([0, *(axis + 1 for axis in order)], np.int32))
    file.node("TRANSPOSE", [source, axes], result, "TransposeOptions", 2)
    return result


def product(file: TfliteFile, sides: tuple[int, int], shape: Shape, point: Point, *, across: bool) -> int:
    """Add the product of two operands that have the scales of `exact_scales`; `across` of rows with rows."""
    result = file.between(shape, point)
    file.node("BATCH_MATMUL", sides, result, "BatchMatMulOptions", 2, adjX=False, adjY=across)
    return result


def relabelled(file: TfliteFile, source: int, shape: Shape, point: Point, result: int | None = None) -> int:
    """Return the same codes at another scale; they are values where they go to a result."""
    found = turned(file, source, shape, _SAME, point, result)
    if result is not None:
        file.computed()
    return found


def _near(scale: float, most: int) -> Iterator[float]:
    mantissa, exponent = math.frexp(scale)
    own = round(mantissa * 2**_BITS)
    for step in range(-most, most + 1):
        if 2 ** (_BITS - 1) <= own + step <= 2**_BITS:
            yield math.ldexp(own + step, exponent - _BITS)
