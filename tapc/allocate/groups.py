"""How many output channels of each layer get 8, 4 and 2 bits: the least loss for a number of weight bits in all.

The channels of a layer have an order, by what they lose; each width gets a run of them, the widest first. What a layer
loses with each pair of borders is a sum over channels, so all of them are listed, and one price of a bit chooses for
all layers at once (Lagrange): the choice is the best of those that take as many bits.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class ChannelLosses:
    """A layer's output channels, in their order.

    Attributes
    ----------
    losses : mapping of int to float64 (channels,)
        Weight bits on offer -> what each channel loses.
    weights : int
        Of each channel.
    block : int
        Channels, of which all parts but a layer's last have a multiple; 0: the layer has one width.
    """

    losses: Mapping[int, Doubles]
    weights: int
    block: int = 0

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return len(next(iter(self.losses.values())))


Parts = tuple[tuple[int, int], ...]
"""(weight bits, output channels) of each part of a layer, the widest first."""


def group_sizes(
    layers: Mapping[str, ChannelLosses], average: float, part_bits: Mapping[str, float] | None = None
) -> dict[str, Parts]:
    """Divide the channels of every layer.

    Parameters
    ----------
    layers : mapping of str to ChannelLosses
    average : float
        Most weight bits on average, parts' own ones included.
    part_bits : mapping of str to float, optional
        What each part of a layer beyond its first takes in bits: code and constants.

    Returns
    -------
    dict of str to tuple of (int, int)
        Layer -> parts; the fewest bits on offer where not even these fit.
    """
    tables = {name: _table(layer) for name, layer in layers.items()}
    total = sum(layer.weights * layer.channels for layer in layers.values())
    extra = part_bits or {}
    sizes = {name: own.bits + extra.get(name, 0.0) * (own.parts - 1) for name, own in tables.items()}

    def chosen(price: float) -> tuple[dict[str, int], float]:
        picked = {name: int(np.argmin(own.loss + price * sizes[name])) for name, own in tables.items()}
        return picked, sum(float(sizes[name][index]) for name, index in picked.items())

    limit = average * total
    free, taken = chosen(0.0)
    if taken <= limit:
        return {name: tables[name].borders[index] for name, index in free.items()}
    low, high = 0.0, 1e-12
    while chosen(high)[1] > limit and high < 1e12:
        low, high = high, high * 8
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if chosen(middle)[1] > limit else (low, middle)
    return {name: tables[name].borders[index] for name, index in chosen(high)[0].items()}


def shared_sizes(
    layers: Mapping[str, ChannelLosses],
    kinds: Mapping[str, Hashable],
    average: float,
    call_bits: float,
    code_bits: Mapping[str, float],
) -> dict[str, Parts]:
    """Divide the channels of every layer, those of all layers of a kind in the same way: parts then share kernels.

    Parameters
    ----------
    layers, average
        As for `group_sizes`.
    kinds : mapping of str to hashable
        Layer -> what it shares with those that run the same kernels; others are alone.
    call_bits : float
        What each part of a layer beyond its first takes in bits.
    code_bits : mapping of str to float
        Layer -> what the kernel of each part beyond the first takes, once for all layers of a kind.
    """
    members: dict[Hashable, list[str]] = {}
    for name in layers:
        members.setdefault(kinds.get(name, name), []).append(name)
    merged, extra = {}, {}
    for first, *others in members.values():
        own = [layers[name] for name in (first, *others)]
        losses = {bits: np.sum([layer.losses[bits] for layer in own], axis=0) for bits in own[0].losses}
        merged[first] = ChannelLosses(losses, sum(layer.weights for layer in own), own[0].block)
        extra[first] = call_bits * len(own) + code_bits.get(first, 0.0)
    sizes = group_sizes(merged, average, extra)
    return {name: sizes[names[0]] for names in members.values() for name in names}


@dataclass(frozen=True, eq=False)
class _Table:
    """Every division of a layer: its parts, their loss, bits and number."""

    borders: list[Parts]
    loss: Doubles
    bits: Doubles
    parts: Doubles


def _table(layer: ChannelLosses) -> _Table:
    widths = sorted(layer.losses, reverse=True)
    count = layer.channels
    sums = {width: np.concatenate([[0.0], np.cumsum(layer.losses[width])]) for width in widths}
    ends: Sequence[int] = [*range(0, count, layer.block), count] if layer.block else (0, count)
    borders, loss, bits = [], [], []
    for inner in combinations_with_replacement(ends, len(widths) - 1):
        edges = (0, *inner, count)
        runs = [(width, low, high) for width, low, high in zip(widths, edges, edges[1:], strict=False) if high > low]
        borders.append(tuple((width, high - low) for width, low, high in runs))
        loss.append(sum(float(sums[width][high] - sums[width][low]) for width, low, high in runs))
        bits.append(float(layer.weights * sum(width * (high - low) for width, low, high in runs)))
    parts = np.array([len(own) for own in borders], np.float64)
    return _Table(borders, np.array(loss), np.array(bits), parts)
