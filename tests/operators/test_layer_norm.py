"""Normalizations: what their kernels need to hold."""

import numpy as np
import pytest

from kernels.programs import program, tensor
from tapc.kernels.layer_norm import LayerNormSpec
from tapc.operators.layer_norm import LayerNorm


@pytest.mark.parametrize("mode", ["float", "fixed"])
def test_one_scale_for_all_channels_is_stored_once(mode: str) -> None:
    rng = np.random.default_rng(0)
    x, y = tensor("x", (2, 3, 500), 8, rng), tensor("y", (2, 3, 500), 8, rng)
    gain, offset = np.full(500, 30, np.float32), np.zeros(500, np.float32)
    for own, words in ((gain, 1), (rng.uniform(10, 60, 500).astype(np.float32), 500)):
        op = LayerNorm("norm", ("x",), "y", own, offset, 1e-5)
        (step,) = op.steps(program([op], [x, y], mode), {})
        assert isinstance(step.spec, LayerNormSpec)
        assert [constant.words for constant in step.constants.values()] == [words, words]
        assert [constant.data.size for constant in step.constants.values()] == [words, words]
