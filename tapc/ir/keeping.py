"""How a program that was lowered keeps its states, which an operator brings along."""

from collections.abc import Callable, Mapping

from tapc.graph.state import States
from tapc.ir.program import Program

Keeper = Callable[[Program, States, Mapping[str, str]], Program]
_known: list[Keeper] = []
_settlers: list[Callable[[Program], Program]] = []


def keeps(function: Keeper) -> Keeper:
    """Decorate what makes a program keep its states."""
    _known.append(function)
    return function


def settles(function: Callable[[Program], Program]) -> Callable[[Program], Program]:
    """Decorate what lets states be written where they lie; none of the output bits changes."""
    _settlers.append(function)
    return function


def settled(program: Program) -> Program:
    """Return a program whose states are written early, and where they lie: after all rewrites."""
    for settle in _settlers if program.states else ():
        program = settle(program)
    return program


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
