"""Warnings about a result that a person may not expect."""

from tapc.board import Board
from tapc.options import Options
from tapc.report.schema import Accuracy

LOSS = 5.0  # percentage points
FEWEST = 50  # samples that such a loss is told from chance with


def advice(options: Options, board: Board, accuracy: Accuracy) -> tuple[str, ...]:
    """Return warnings.

    Parameters
    ----------
    options : Options
    board : Board
    accuracy : Accuracy
    """
    found = []
    capacity = board.flash_bytes(not options.no_external)
    if options.flash is not None and options.flash > capacity:
        found.append(f"--flash asks for {options.flash:,} bytes, {board.name} has {capacity:,}: those were the budget")
    a = accuracy
    if a.float_ is not None and a.device is not None and a.samples >= FEWEST and a.float_ - a.device > LOSS:
        found.append(
            f"accuracy fell from {a.float_:.1f} % (float) to {a.device:.1f} % on the device: allow more bits "
            "(--target-bits, --wbits, --flash), keep the ends at 8 bits (--pin both), or try another --proxy"
        )
    return tuple(found)
