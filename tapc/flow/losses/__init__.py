"""tapc-bench 2: measured losses of bit configurations of several networks, with both ways to round, as tables."""

from tapc.flow.losses.table import (
    LossProvenance,
    LossRow,
    LossTable,
    Measured,
    load_losses,
    loss_names,
    save_losses,
)

__all__ = ["LossProvenance", "LossRow", "LossTable", "Measured", "load_losses", "loss_names", "save_losses"]
