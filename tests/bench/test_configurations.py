"""Which configurations are drawn, and how a killed run goes on."""

import json
from pathlib import Path

import numpy as np
import pytest

from tapc.base.errors import UsageError
from tapc.bench.configurations.draw import STRATA, Configuration, draw_configurations, stratum_of
from tapc.bench.configurations.generate import _open
from tapc.flow.losses.measure import cross_entropy, right
from tapc.flow.losses.partial import append_line
from tapc.graph.network import Group, Layer, Network


def network(parameters: tuple[int, ...] = (27, 90, 500, 1000, 40, 300)) -> Network:
    n = len(parameters)
    layers = tuple(Layer(f"l{i}", "dense", (p, 1), p, i, i + 1, i) for i, p in enumerate(parameters))
    return Network("small", layers, tuple(Group((f"t{i}",), i in (0, n)) for i in range(n + 1)))


def average(configuration: Configuration, of: Network) -> float:
    bits = [layer.parameters * w for layer, w in zip(of.layers, configuration.weights, strict=True)]
    return sum(bits) / sum(layer.parameters for layer in of.layers)


@pytest.mark.parametrize(("seed", "count"), [(0, 60), (1, 130), (2**32 - 1, 200)])
def test_draws_are_different_valid_and_repeatable(seed: int, count: int) -> None:
    small = network()
    drawn = draw_configurations(small, count, seed)
    assert len(drawn) == len({c.key for c in drawn}) == count
    assert drawn == draw_configurations(small, count, seed)
    # A longer run measures what a shorter one did, and more.
    assert drawn[: count - 10] == draw_configurations(small, count - 10, seed)
    for c in drawn:
        assert set(c.weights) <= {2, 4, 8}
        assert c.activations[0] == c.activations[-1] == 8
        assert c.bits(small).weights == dict(zip(["l0", "l1", "l2", "l3", "l4", "l5"], c.weights, strict=True))


def test_extremal_configurations_are_there() -> None:
    keys = {c.key for c in draw_configurations(network(), 100, 0)}
    expected = {"222222/8888888", "444444/8888888", "888888/8888888", "222222/8444448", "888888/8888488"}
    expected |= {"888288/8888888", "888488/8888888", "222822/8888888", "822228/8888888", "844448/8888888"}
    assert expected <= keys


def test_random_sizes_are_spread_evenly() -> None:
    small = network()
    random = [c for c in draw_configurations(small, 240, 1) if c.kind == "random"]
    counts = np.bincount([stratum_of(average(c, small)) for c in random], minlength=STRATA)
    assert counts.max() - counts.min() <= 1
    # Each stratum has its share of narrow activations: they must not go with the size.
    narrow = np.bincount([stratum_of(average(c, small)) for c in random if 4 in c.activations], minlength=STRATA)
    assert 0.15 < narrow.sum() / counts.sum() < 0.35
    assert (narrow > 0).sum() >= STRATA - 2


def test_averages_belong_to_strata_from_2_to_8_bits() -> None:
    assert [stratum_of(bits) for bits in (2, 2.49, 2.5, 5, 7.9, 8)] == [0, 0, 1, 6, 11, 11]


def test_counts_that_cannot_be_had() -> None:
    with pytest.raises(UsageError, match=r"has \d+ extremal configurations"):
        draw_configurations(network(), 5, 0)
    with pytest.raises(UsageError, match=r"only \d+ different configurations"):
        draw_configurations(network((10, 20)), 500, 0)


def test_cross_entropy_and_right_answers_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    assert cross_entropy(logits, np.array([0, 1])) == pytest.approx((np.log(2) + np.log(5)) / 2)
    assert right(logits, np.array([0, 1])) == 1
    assert right(np.array([[3, 3], [3, 3]]), np.array([0, 1])) == 1


def test_a_partial_run_survives_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "build" / "p.jsonl"
    assert _open(path, "me") == {}
    append_line(path, {"weights": "22", "activations": "88", "correct": 3})
    with path.open("a") as stream:
        stream.write('{"weights": "44", "activa')
    known = _open(path, "me")
    assert known == {"22/88": {"weights": "22", "activations": "88", "correct": 3}}
    append_line(path, {"weights": "44", "activations": "88", "correct": 5})
    assert [json.loads(line).get("weights") for line in path.read_text().splitlines()] == [None, "22", "44"]
    with pytest.raises(UsageError, match="of another network, seed, tapc or compiler"):
        _open(path, "you")
    path.write_text("[\n")
    with pytest.raises(UsageError, match="no partial results"):
        _open(path, "me")
