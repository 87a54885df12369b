"""How a layer's weights become integers: named methods that see one layer at a time."""

from collections.abc import Mapping
from typing import Protocol

from tapc.base.errors import UsageError
from tapc.base.precheck import LEARNED
from tapc.quantize.gptq import Gptq, Mse
from tapc.quantize.problem import LayerProblem
from tapc.quantize.rate import Rated
from tapc.quantize.weights import QuantizedWeights, round_weights


class Rounding(Protocol):
    """A rounding method.

    Attributes
    ----------
    samples : int
        Most calibration samples that it makes use of.
    compensates : bool
        Whether the layer before an addition may also make up for the error of the addition's other operand.
    """

    samples: int
    compensates: bool

    def round(self, problem: LayerProblem) -> QuantizedWeights:
        """Return integers in the range of `problem.bits` with the shape of the weights, and their scales.

        Parameters
        ----------
        problem : LayerProblem
            The layer, and what it reads in the quantized and in the float network.
        """


class Nearest:
    """Round half to even with the scales of least squared weight error; ignores the inputs."""

    samples = 64
    compensates = False

    def round(self, problem: LayerProblem) -> QuantizedWeights:
        """Return the nearest integers."""
        scales = problem.scales(problem.weights)
        return problem.quantized(round_weights(problem.weights, scales, problem.bits), scales)


class Given:
    """Weights that are integers already.

    Parameters
    ----------
    weights : mapping of str to mapping of int to QuantizedWeights
        Layer -> weight bits -> integers.
    """

    samples = 1
    compensates = False

    def __init__(self, weights: Mapping[str, Mapping[int, QuantizedWeights]]) -> None:
        self.weights = weights

    def round(self, problem: LayerProblem) -> QuantizedWeights:
        """Return the layer's integers of the wanted width."""
        found = self.weights[problem.layer.name][problem.bits]
        return problem.quantized(found.values, problem.usable(found.scales, found.dequantized()))


_METHODS: dict[str, Rounding] = {"nearest": Nearest(), "mse": Mse(), "gptq": Gptq(), "rate": Rated()}

_QUICK: dict[str, Rounding] = {
    "gptq": Gptq(ratios=(1.0,), refinements=1, sweeps=2, loadings=()),
    "rate": Rated(ratios=(1.0,), refinements=1, sweeps=2, loadings=(), floors=(0.7, 1.0, 1.4)),
}


LEARNED_FROM = "gptq"
"""The method that those of `LEARNED` go on from: layer by layer, block by block, or all layers together."""


def register_rounding(name: str, method: Rounding) -> None:
    """Make a rounding method available to `quantize` under a new name."""
    if name in _METHODS or name in LEARNED:
        raise UsageError(f"rounding method {name!r} exists already; choose another name")
    _METHODS[name] = method


def check_rounding(name: str) -> None:
    """Raise UsageError, which lists the known methods, for a name that `quantize` does not know."""
    if name not in _METHODS and name not in LEARNED:
        raise _unknown(name)


def rounding_method(name: str) -> Rounding:
    """Return a rounding method that sees one layer at a time; UsageError lists the known ones."""
    if name not in _METHODS:
        raise _unknown(name)
    return _METHODS[name]


def _unknown(name: str) -> UsageError:
    return UsageError(f"unknown rounding method {name!r}; known: {', '.join([*_METHODS, *LEARNED])}")


def quick_method(rounding: str) -> Rounding:
    """Return what stands for a rounding method where many networks are compared."""
    base = LEARNED_FROM if rounding in LEARNED else rounding
    return _QUICK.get(base) or rounding_method(base)
