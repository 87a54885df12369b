"""What every channel of a tensor can take, whatever the network's input: an interval each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reach:
    """Bounds of a tensor's channels, float64 (channels,) each; infinite where nothing bounds them."""

    low: Doubles
    high: Doubles

    def with_zero(self) -> "Reach":
        """Return the bounds where zeros may be added, as padding does."""
        return Reach(np.minimum(self.low, 0.0), np.maximum(self.high, 0.0))
