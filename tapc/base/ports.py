"""Several inputs or outputs of a network in one array: a row for each sample, the values of all side by side.

What has one input and one output sees samples (N, ...) as they are; with several, rows (N, values).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.strides import Loops, visited


@dataclass(frozen=True)
class Port:
    """An input or output of a network.

    Attributes
    ----------
    name : str
    shape : tuple of int
        The batch, 1, first.
    tokens : int
        It holds tokens from 0 to one less, whole numbers in arrays of float32; 0 where it holds values.
    source : tuple of int
        Shape in the source network where that, or the order of its elements, is another; empty where they are alike.
    loops : tuple of (int, int)
        Where the elements lie in the source's tensor, see `tapc.base.strides`.
    """

    name: str
    shape: tuple[int, ...]
    tokens: int = 0
    source: tuple[int, ...] = ()
    loops: Loops = ()

    @property
    def size(self) -> int:
        """Values of a sample."""
        return math.prod(self.shape[1:])

    def canonical(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return samples (N, *shape[1:]) of what the source network takes or gives, (N * source[0], *source[1:])."""
        if not self.source:
            return x.reshape(-1, *self.shape[1:])
        flat = x.reshape(-1, math.prod(self.source))  # some sources have no batch
        return flat[:, visited(self.loops)].reshape(len(flat), *self.shape[1:])

    def taken(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return samples as the canonical tensor has them where they are those of the source; others as they are."""
        return self.canonical(x) if self.source and x.shape[1:] == self.source[1:] != self.shape[1:] else x

    def restored(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return samples as the source network has them, the inverse of `canonical`."""
        if not self.source:
            return x.reshape(-1, *self.shape[1:])
        flat = x.reshape(-1, self.size)[:, np.argsort(visited(self.loops))]
        return flat.reshape(len(flat) * self.source[0], *self.source[1:])

    def __str__(self) -> str:
        return f"{self.name!r} of shape {self.shape}"


Ports = tuple[Port, ...]
LAYOUT = "tapc.layout."
"""What the metadata of a graph begins with that tell how its inputs and outputs lie in those of the source."""


def sample_shape(ports: Sequence[Port]) -> tuple[int, ...]:
    """Return the shape of a sample of all ports: that of the one, or the values in a row."""
    return ports[0].shape[1:] if len(ports) == 1 else (sum(port.size for port in ports),)


def split(ports: Sequence[Port], x: Any) -> dict[str, Any]:
    """Return each port's samples (N, ...), an array or a tensor as `x` is."""
    if len(ports) == 1:
        return {ports[0].name: x}
    ends = np.cumsum([port.size for port in ports]).tolist()
    return {
        port.name: x[:, end - port.size : end].reshape(len(x), *port.shape[1:])
        for port, end in zip(ports, ends, strict=True)
    }


def joined(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the samples of all ports: those of the one (N, ...), or rows (N, values)."""
    if len(values) == 1:
        return values[0]
    return np.concatenate([value.reshape(len(value), -1) for value in values], axis=1)


def typed(ports: Sequence[Port], values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return each port's samples in the type that the canonical graph takes: float32, or int64 for tokens."""
    kinds = {port.name: np.int64 if port.tokens else np.float32 for port in ports}
    return {name: np.ascontiguousarray(value, kinds[name]) for name, value in values.items()}
