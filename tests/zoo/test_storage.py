"""Weights stored at 8 bits."""

import torch

from tapc.zoo.storage import SUFFIX, pack, unpack


def test_codes_stay_within_half_a_step_and_vectors_are_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    state = {
        "conv.weight": torch.randn(8, 4, 3, 3, generator=generator) * torch.logspace(-3, 3, 8)[:, None, None, None],
        "zero.weight": torch.zeros(2, 5),
        "bn.running_mean": torch.randn(8, generator=generator),
    }
    packed = pack(state)
    restored = unpack(packed)
    assert restored.keys() == state.keys()
    assert packed["conv.weight"].dtype == torch.int8
    step = packed["conv.weight" + SUFFIX][:, None, None, None]
    assert torch.all((restored["conv.weight"] - state["conv.weight"]).abs() <= 0.5001 * step)
    assert torch.all(packed["conv.weight"].abs().amax((1, 2, 3)) == 127)
    assert torch.equal(restored["zero.weight"], state["zero.weight"])
    assert torch.equal(restored["bn.running_mean"], state["bn.running_mean"])


def test_a_plain_state_is_returned_as_it_is() -> None:
    state = {"a": torch.ones(2, 2)}
    assert unpack(state)["a"] is state["a"]
