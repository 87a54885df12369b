"""What learned rounding starts from; what is learned is tested with the methods."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tapc.quantize.relaxed import between, cost, descend, prepare
from tapc.quantize.units import Reconstruction, Unit
from tapc.quantize.weights import QuantizedLayer, QuantizedWeights, code_range


def layer(bits: int, rng: np.random.Generator) -> QuantizedLayer:
    low, high = code_range(bits)
    codes = rng.integers(low, high + 1, (6, 20)).astype(np.int8)
    scales = rng.uniform(0.1, 1, 6).astype(np.float32)
    return QuantizedLayer(QuantizedWeights(codes, scales, bits), np.arange(6, dtype=np.int32), scales)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("reach", [0.3, 1.0])
def test_weights_lie_between_two_codes_and_round_to_their_own(bits: int, reach: float) -> None:
    rng = np.random.default_rng(bits)
    start = layer(bits, rng)
    low, high = code_range(bits)
    weights = torch.from_numpy(rng.normal(0, 2, (6, 20)).astype(np.float32))
    found = between(start, weights, reach)
    assert torch.equal(found.first, torch.from_numpy(start.weights.values.astype(np.float32)))
    assert torch.equal((found.base + found.share).round(), found.first)
    assert float(found.base.min()) >= low
    assert float(found.base.max()) <= high - 1
    assert float(found.share.min()) >= 0
    assert float(found.share.max()) <= 1
    assert float((found.base + found.share - found.first).abs().max()) <= reach * 0.49 + 1e-5
    np.testing.assert_array_equal(found.bias.detach().numpy(), start.bias.astype(np.float32) * start.bias_scales)


@pytest.mark.parametrize(("count", "kept"), [(2, 1), (16, 2), (17, 2)])
def test_the_last_samples_are_kept_back_and_weighed_in_chunks(count: int, kept: int) -> None:
    rng = np.random.default_rng(count)
    x, target = (rng.normal(size=(count, 3, 2)).astype(np.float32) for _ in range(2))
    start = {"one": layer(8, rng), "two": layer(4, rng)}
    task = Reconstruction(Unit((), ("x",), "y", ("one", "two")), start, {}, {"x": (x, x)}, target)
    assert not task.eight_bits
    samples = prepare(task)
    assert samples.seen.tolist() + samples.kept.tolist() == list(range(count))
    assert len(samples.kept) == kept
    assert samples.power == pytest.approx(float(np.square(target - target.mean(0)).mean()))
    metric = rng.normal(size=(3, 3)).astype(np.float32)
    errors = 2 * x[-kept:] - target[-kept:]

    def run(values: dict[str, Tensor]) -> Tensor:
        assert len(values["x"]) == 1
        return 2 * values["x"]

    for given, expected in ((None, np.eye(3)), (torch.from_numpy(metric), metric)):
        held = samples.held(run, torch.device("cpu"), 1, given)
        assert held == pytest.approx(np.einsum("nip,ij,njp->", errors, expected, errors), rel=1e-4, abs=1e-4)


def test_a_constant_goal_has_power_one() -> None:
    target = np.ones((4, 2), np.float32)
    task = Reconstruction(Unit((), ("x",), "y", ()), {}, {}, {"x": (target, target)}, target)
    assert prepare(task).power == 1.0


def test_a_step_goes_down_the_gradient() -> None:
    value = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.SGD([value], lr=0.25)
    for _ in range(2):
        descend(optimizer, cost(value, None))
    assert value.item() == 0.75
