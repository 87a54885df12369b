"""How a program that was lowered ends by making detections of its maps, which an operator brings along."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tapc.base.detector import AnyDetector
from tapc.ir.program import Program, Tensor


@dataclass(frozen=True)
class Detections(Tensor):
    """Rows of class, score and four edges, which the float network does not give; the scale is that of the edges.

    Attributes
    ----------
    size : (float, float)
        Pixels of a distance of 1, across and down.
    unit : str
        What a distance of 1 is.
    """

    size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixels"


def compared(program: Program) -> tuple[str, ...]:
    """Return the outputs that the float network has, too."""
    return tuple(name for name in program.outputs if not isinstance(program.tensors[name], Detections))


Decoder = Callable[[Program, AnyDetector, Mapping[str, str]], Program]
_known: list[Decoder] = []


def decodes(function: Decoder) -> Decoder:
    """Decorate what makes a program give detections, too; those of detectors of another kind are left as they are."""
    _known.append(function)
    return function


def decoding(program: Program, own: AnyDetector | None, keys: Mapping[str, str]) -> Program:
    """Return a program that gives detections as its last output.

    Parameters
    ----------
    program : Program
    own : Detector, BoxDetector or None
        None: the program stays as it is.
    keys : mapping of str to str
        Output of the graph -> its tensor.
    """
    for decode in _known if own is not None else ():
        assert own is not None
        program = decode(program, own, keys)
    return program
