"""Cycles per instruction: of loops over taps and of what is beside them."""

import numpy as np
import pytest

from cost.test_patches import bottleneck
from tapc.cost.model import CostModel, load_coefficients
from tapc.cost.rates import Rates, load_rates, rate_kind
from tapc.hardware.target import load_target
from tapc.lower.steps import steps_of
from tapc.tuning.rates import rates_of

TARGET = load_target("cortex-m7")


def test_two_rates_are_told_apart_by_the_share_of_loops() -> None:
    rng = np.random.default_rng(0)
    shares, counts = rng.uniform(0.2, 0.95, 30), rng.integers(1000, 100_000, 30)
    taken = counts * (0.95 * (1 - shares) + 0.5 * shares)
    observed = zip(counts, taken, shares, strict=True)
    found = rates_of(TARGET, [("conv", int(n), float(c), float(s)) for n, c, s in observed])
    assert found.rates == {"conv": pytest.approx(0.95, abs=1e-3)}
    assert found.products == {"conv": pytest.approx(0.5, abs=1e-3)}
    assert found.error < 1e-3


def test_few_kernels_and_equal_shares_have_one() -> None:
    found = rates_of(TARGET, [("add", 100, 150.0, 0.0), ("add", 300, 450.0, 0.0)])
    assert (found.rates, found.products) == ({"add": 1.5}, {})


def test_a_kernel_takes_what_its_parts_take() -> None:
    """Half of the instructions at one rate and half at the other; the share is that of the products' features."""
    cost = CostModel(load_coefficients(TARGET.cost))
    spec = steps_of(bottleneck())[0].spec
    share = cost.products_share(spec)
    assert 0.1 < share < 0.9
    given = Rates(core="", source="", kernels=1, error=0, other=9.0, rates={rate_kind(spec): 1.0},
                  products={rate_kind(spec): 0.5})  # fmt: skip
    assert given.of(spec, 0.5) == 0.75
    assert given.of(spec, 0.0) == 1.0
    known = load_rates(TARGET.rates)
    assert known is not None
    assert known.of(spec, share) == known.of(spec, 0.0) * (1 - share) + known.of(spec, 1.0) * share
