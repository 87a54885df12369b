"""What is known of a tensor's channels: the codes that they can hold, and whether anybody needs them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints

Mask = NDArray[np.bool_]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Bounds:
    """Smallest and largest code of each element of a tensor.

    Attributes
    ----------
    low, high : ndarray of int64, shape (H, W, C)
    """

    low: Ints
    high: Ints

    @property
    def known(self) -> Mask:
        """Channels that do not depend on the input, shape (C,)."""
        known: Mask = (self.low == self.high).all(axis=(0, 1))
        return known

    @property
    def constant(self) -> Mask:
        """Channels that have one code everywhere, shape (C,)."""
        constant: Mask = self.known & (self.low == self.low[:1, :1]).all(axis=(0, 1))
        return constant


def anything(shape: tuple[int, int, int], low: int, high: int) -> Bounds:
    """Return the bounds of a tensor that may hold any code."""
    return Bounds(np.full(shape, low, np.int64), np.full(shape, high, np.int64))


@dataclass(frozen=True, eq=False)
class Kept:
    """The channels of each tensor that stay; they only grow.

    Attributes
    ----------
    masks : dict of str to ndarray of bool, shape (C,)
        By tensor.
    known : mapping of str to Bounds
        By tensor.
    zeros : mapping of str to int
        Zero points by tensor.
    """

    masks: dict[str, Mask]
    known: Mapping[str, Bounds]
    zeros: Mapping[str, int]
    _found: dict[str, Any] = field(default_factory=dict)

    def couple(self, *masks: Mask) -> None:
        """Keep the same channels in all of these views."""
        union = np.logical_or.reduce(masks)
        for mask in masks:
            mask |= union

    def once(self, key: str, make: Callable[[], T]) -> T:
        """Return what `make` gives, made when it is first asked for."""
        if key not in self._found:
            self._found[key] = make()
        found: T = self._found[key]
        return found
