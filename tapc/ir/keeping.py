"""How a program that was lowered keeps its states, which an operator brings along."""

from collections.abc import Callable, Mapping

from tapc.graph.state import States
from tapc.ir.program import Program

Keeper = Callable[[Program, States, Mapping[str, str]], Program]
_known: list[Keeper] = []


def keeps(function: Keeper) -> Keeper:
    """Decorate what makes a program keep its states."""
    _known.append(function)
    return function


def keeping(program: Program, states: States, keys: Mapping[str, str]) -> Program:
    """Return a program that ends by keeping its states.

    Parameters
    ----------
    program : Program
        With the states among its inputs and outputs, as the last of them.
    states : tuple of State
    keys : mapping of str to str
        Input or output of the graph -> its tensor.
    """
    for keep in _known if states else ():
        program = keep(program, states, keys)
    return program
