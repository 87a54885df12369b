"""What an emulator must know about a chip: which registers follow others, its UART, and what its clock comes to.

All other registers read back what was written to them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Defines = Mapping[str, int]
Registers = Mapping[int, int]
"""Address -> value as it was written."""


@dataclass(frozen=True)
class Follow:
    """Bits of a register that are those of another one, or of its own: `mask` of `source`, shifted left by `shift`."""

    register: int
    source: int
    mask: int
    shift: int


@dataclass(frozen=True)
class Dma:
    """A UART that fetches and stores bytes itself, and tells by its status registers that it did.

    Attributes
    ----------
    pointer_in, pointer_out, count_out : int
        Registers with the addresses of the bytes, and with how many are sent; one is received at a time.
    """

    pointer_in: int
    pointer_out: int
    count_out: int


@dataclass(frozen=True)
class Uart:
    """A UART's registers.

    Attributes
    ----------
    status, received : int
        Register and bits that say that a byte waits.
    sent_at, sent : int
        Register and bits that say that one may be sent.
    data_in, data_out : int
        Where bytes are read and written; with `dma`, the registers that start it.
    on : tuple of (int, int, int)
        Registers, masks and values without which it does nothing.
    dma : Dma or None
    """

    status: int
    received: int
    sent_at: int
    sent: int
    data_in: int
    data_out: int
    on: tuple[tuple[int, int, int], ...]
    dma: Dma | None = None


@dataclass(frozen=True)
class Chip:
    """A chip as a board uses it.

    Attributes
    ----------
    uart : Uart
    clock, baud : callable
        The core's clock in Hz, and the UART's baud rate, by what the registers hold.
    reset : dict of int to int
        Registers that are not zero at first.
    follows : tuple of Follow
    outside : dict of str to (int, int, int)
        Macro of an external memory -> register, mask and value that bring it up.
    """

    uart: Uart
    clock: Callable[[Registers], float]
    baud: Callable[[Registers], float]
    reset: Registers = field(default_factory=dict)
    follows: tuple[Follow, ...] = ()
    outside: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
