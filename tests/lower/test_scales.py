"""Scales that lie far apart: exact, or refused with the node's name."""

import numpy as np
import pytest

from lower.sums import qdq_sum
from tapc.base.errors import UnsupportedError
from tapc.lower import lower
from tapc.lower.reference import execute
from tapc.quantize.export import far_sums
from tapc.quantize.runtime import evaluate


@pytest.mark.parametrize(("mode", "isa"), [("float", "dsp"), ("fixed", "scalar")])
def test_a_clip_far_below_the_operands(mode, isa) -> None:
    model = qdq_sum(3e7, 3e7, 1 / 255)
    network = lower(model, "sum", mode, isa)
    codes = np.arange(-120, 120).reshape(-1, 2, 2, 3)
    got = execute(network.program, codes)
    by_onnx = evaluate(model, codes.transpose(0, 3, 1, 2).astype(np.float32), optimized=False)
    assert np.abs(got.transpose(0, 3, 1, 2) / 255 - by_onnx).max() <= 1 / 255


@pytest.mark.parametrize(("mode", "isa"), [("float", "dsp"), ("fixed", "scalar")])
def test_sums_that_drown_in_rounding_are_refused(mode, isa) -> None:
    with pytest.raises(UnsupportedError, match=r"node .add. cannot be computed in integers.*lost in rounding"):
        lower(qdq_sum(10000002.0, 1e7, 1.0), "sum", mode, isa)


def test_ratios_beyond_float32_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="node 'a_quantize' cannot be computed"):
        lower(qdq_sum(1e-45, 1.0, 1.0), "sum", "float", "dsp")


def test_onnxruntime_does_not_rewrite_sums_that_drown_in_its_kernel() -> None:
    assert far_sums(qdq_sum(3e7, 1.0, 1 / 255))
    assert not far_sums(qdq_sum(1.0, 2.0, 1.5))
