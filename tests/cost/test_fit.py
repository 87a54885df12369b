"""The fit of the cost model: which kernels it measures, whose errors it tells, and what a group's fit leaves alone."""

from collections import Counter

import numpy as np
import pytest

from tapc.cost.model import load_coefficients
from tapc.cost.sample import random_steps
from tapc.hardware.target import load_target
from tapc.tuning.fit import Batch, Measurement, fitted, held_out_errors, with_group
from tapc.tuning.images import SMALL_BATCHES, images_of, kind_of

BESIDES = {"runtime_bytes": 0.0, "step_bytes": 0.0, "argument_bytes": 0.0, "stack_bytes": 0, "data_bytes": 0}


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m7", "cortex-m55"])
def test_every_kind_and_arithmetic_has_enough_kernels(core: str) -> None:
    target = load_target(core)
    images = images_of(target, 400, seed=0)
    specs = {step.spec for image in images for step in image.draw(target)[1]}
    counts = Counter(kind_of(spec, target.requantize) for spec in specs)
    assert {"conv", "softmax", "attention", "attention_tflite", "unit_tflite"} <= set(counts)
    assert min(counts.values()) >= 40, counts
    assert [image.count for image in images[-len(SMALL_BATCHES) :]] == list(SMALL_BATCHES)
    assert len({(image.group, image.mode, image.seed) for image in images}) == len(images)


def test_a_group_is_measured_alone() -> None:
    assert {image.group for image in images_of(load_target("cortex-m7"), 60, 0, "resize")} == {"resize"}


def test_every_kernel_is_predicted_by_a_fit_that_it_is_not_in() -> None:
    """A part that one kernel alone has is not known to the fit that predicts it."""
    rows = [{"part": float(i + 1), "call": 1.0} for i in range(40)]
    values = [7 * row["part"] + 5 for row in rows]
    rows[13]["lonely"], values[13] = 1.0, values[13] + 1000
    errors = held_out_errors(rows, values, {}, ["kind"] * 40)
    assert errors[13] == pytest.approx(1000 / values[13], rel=0.05)
    assert max(np.delete(errors, 13)) < 0.05


def test_a_kind_is_dealt_evenly_to_the_fifths() -> None:
    """Two kernels of a part of their own: each is predicted by the other."""
    rows = [{"part": float(i + 1)} for i in range(50)] + [{"rare": float(i + 1)} for i in range(2)]
    values = [3.0 * sum(row.values()) for row in rows]
    for seed in range(20):
        assert max(held_out_errors(rows, values, {}, ["common"] * 50 + ["rare"] * 2, seed)) < 0.05


def test_errors_are_told_per_kind_with_their_number() -> None:
    target = load_target("cortex-m7")
    specs = {step.spec: None for step in random_steps(60, "float", "dsp", 5, group="softmax")[1]}
    samples = [Measurement(spec, round(100 * sum(spec.instruction_features().values())), 100) for spec in specs]
    found = fitted(target, samples, BESIDES)
    assert found.held_out_kernels == Counter(kind_of(spec, "float") for spec in specs)
    assert sum(found.held_out_kernels.values()) == found.kernels == len(specs)
    whole = sum(found.held_out[kind] * n for kind, n in found.held_out_kernels.items()) / found.kernels
    assert whole == pytest.approx(found.instruction_error, abs=1e-3)


def test_the_fit_of_a_group_leaves_the_parts_of_the_network() -> None:
    target = load_target("cortex-m7")
    stored = load_coefficients(target.cost)
    changed = {k: 2 * v if k.startswith("resize") else v for k, v in stored.instructions.items()}

    def cost(spec: object) -> int:
        return round(sum(n * changed[k] for k, n in spec.instruction_features().items()))  # type: ignore[attr-defined]

    specs = {step.spec: None for step in random_steps(80, "float", "dsp", 5, group="resize")[1]}
    batch = Batch(tuple(Measurement(spec, cost(spec), 100) for spec in specs), 0, 0, 0, 0, 0, 0)
    found = with_group(stored, target, [batch], seed=0)
    assert found.instructions["resize_a8o8n2"] == pytest.approx(changed["resize_a8o8n2"], rel=0.05)
    for part in ("call", "multiply_w8r2t2", "loop_r2t2"):
        assert found.instructions[part] == stored.instructions[part]
    assert found.held_out["resize"] < 0.05
    assert found.held_out_kernels["resize"] == len(specs)
    assert {k: v for k, v in found.held_out.items() if k != "resize"} == {
        k: v for k, v in stored.held_out.items() if k != "resize"
    }
