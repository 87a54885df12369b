"""What a program keeps between calls."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KeptState:
    """A tensor that lives between calls.

    Attributes
    ----------
    name : str
        The network's name of it.
    before, after : str
        Where an inference reads it, an input of the program, and where it writes it, an output: the same memory.
    initial : tuple of int
        Codes that it begins with, (H, W, C) flat; one is that of all.
    """

    name: str
    before: str
    after: str
    initial: tuple[int, ...]
