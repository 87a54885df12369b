"""Sizes of channel groups: no other sizes of as many bits lose less."""

import itertools

import numpy as np
import pytest

from tapc.allocate.groups import ChannelLosses, Parts, group_sizes, shared_sizes


def layer(seed: int, channels: int, weights: int, block: int = 2) -> ChannelLosses:
    rng = np.random.default_rng(seed)
    at_two = np.sort(rng.exponential(1.0, channels))[::-1]
    return ChannelLosses({2: at_two, 4: at_two * rng.uniform(0.05, 0.2, channels), 8: at_two * 0.001}, weights, block)


def divisions(own: ChannelLosses) -> list[Parts]:
    """Return every way to give the channels 8, 4 and 2 bits in this order."""
    count, step = own.channels, own.block or own.channels
    found: list[Parts] = []
    for wide, middle in itertools.product(range(0, count + 1, step), repeat=2):
        sizes = ((8, wide), (4, middle), (2, count - wide - middle))
        if all(size >= 0 for _, size in sizes):
            found.append(tuple((bits, size) for bits, size in sizes if size))
    return found


def loss(own: ChannelLosses, parts: Parts) -> float:
    widths = [bits for bits, size in parts for _ in range(size)]
    return sum(float(own.losses[bits][channel]) for channel, bits in enumerate(widths))


def bits(own: ChannelLosses, parts: Parts, extra: float = 0.0) -> float:
    return own.weights * sum(width * size for width, size in parts) + extra * (len(parts) - 1)


@pytest.mark.parametrize("extra", [0.0, 150.0])
@pytest.mark.parametrize("average", [2.25, 3.0, 5.0])
def test_nothing_of_as_many_bits_loses_less(average: float, extra: float) -> None:
    layers = {"a": layer(1, 6, 30), "b": layer(2, 8, 20), "c": layer(3, 4, 50, block=0)}
    found = group_sizes(layers, average, dict.fromkeys(layers, extra))
    taken = sum(bits(own, found[name], extra) for name, own in layers.items())
    assert taken <= average * sum(own.weights * own.channels for own in layers.values())
    least = min(
        sum(loss(own, parts) for own, parts in zip(layers.values(), chosen, strict=True))
        for chosen in itertools.product(*map(divisions, layers.values()))
        if sum(bits(own, parts, extra) for own, parts in zip(layers.values(), chosen, strict=True)) <= taken
    )
    assert sum(loss(own, found[name]) for name, own in layers.items()) == pytest.approx(least)
    assert len(found["c"]) == 1


def test_parts_that_cost_more_than_they_save_are_not_made() -> None:
    layers = {"a": layer(1, 16, 30), "b": layer(2, 16, 20)}
    free, dear = (group_sizes(layers, 3.5, dict.fromkeys(layers, extra)) for extra in (0.0, 1e9))
    assert sum(map(len, free.values())) > 2
    assert [len(parts) for parts in dear.values()] == [1, 1]


def test_room_for_all_bits_gives_them_and_too_little_gives_the_fewest() -> None:
    layers = {"a": layer(1, 6, 30), "b": layer(2, 5, 20)}
    assert group_sizes(layers, 8.0) == {"a": ((8, 6),), "b": ((8, 5),)}
    assert group_sizes(layers, 1.0) == {"a": ((2, 6),), "b": ((2, 5),)}


def test_layers_of_a_kind_share_what_is_dear() -> None:
    """Of parts whose code costs as much as it saves one layer, two layers have the same, and one alone has none."""
    layers = {"a": layer(1, 16, 30), "b": layer(2, 16, 30), "c": layer(3, 16, 30)}
    code = dict.fromkeys(layers, 400.0)
    found = shared_sizes(layers, {"a": "kind", "b": "kind"}, 3.0, 10.0, code)
    assert found["a"] == found["b"]
    assert len(found["a"]) > len(found["c"])
    taken = sum(bits(own, found[name]) for name, own in layers.items())
    assert taken + 400 * (len(found["a"]) - 1) <= 3.0 * 30 * 48
