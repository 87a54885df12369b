"""How raw data values become a network's inputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError, UsageError

_CHUNK = 1 << 20
"""Values that are converted at a time: double precision must not take eight times the memory of bytes."""


@dataclass(frozen=True)
class PixelUnits:
    """How raw data values become a network's inputs: (raw * scale - mean) / std.

    Attributes
    ----------
    scale : float
    mean, std : tuple of float
        One per channel, or one for all.
    given : bool
        The user said so: then floats are raw values, too. Otherwise floats are taken as the network's inputs.

    Raises
    ------
    UsageError
        Deviations that are not positive.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    given: bool = False

    def __post_init__(self) -> None:
        if not all(value > 0 for value in self.std):
            raise UsageError(f"--std {','.join(map(str, self.std))}: deviations must be positive")

    @property
    def identity(self) -> bool:
        """Whether raw values are the inputs."""
        return self.scale == 1.0 and set(self.mean) == {0.0} and set(self.std) == {1.0}

    def apply(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Return inputs for raw values (N, C, ...).

        Raises
        ------
        DataError
            As many means or deviations as there are no channels.
        """
        for name, given in (("mean", self.mean), ("std", self.std)):
            if len(given) not in (1, raw.shape[1]):
                raise DataError(f"{len(given)} values of {name} for {raw.shape[1]} channels; give one, or one each")
        result = np.empty(raw.shape, np.float32)
        shape = (1, -1, *[1] * (raw.ndim - 2))
        plain = set(self.mean) == {0.0} and set(self.std) == {1.0}
        step = max(1, _CHUNK // max(1, int(np.prod(raw.shape[1:]))))
        for start in range(0, len(raw), step):
            values = raw[start : start + step].astype(np.float64) * self.scale
            if not plain:
                values = (values - np.reshape(self.mean, shape)) / np.reshape(self.std, shape)
            result[start : start + step] = values
        return result

    def __str__(self) -> str:
        """Describe the conversion: "raw x 0.00392157 - 0.5 / 0.25"."""
        text = f"raw x {self.scale:.6g}"
        if set(self.mean) != {0.0}:
            text += f" - {_numbers(self.mean)}"
        if set(self.std) != {1.0}:
            text = f"({text}) / {_numbers(self.std)}"
        return text


def _numbers(values: tuple[float, ...]) -> str:
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
