"""The cost model: exact counts as features, a fit that recovers planted costs, predictions near measurements."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_builder import dead, residual
from tapc.base.errors import DataError
from tapc.base.isa import Isa
from tapc.cost.layers import NetworkCost
from tapc.cost.model import CostModel, load_coefficients
from tapc.cost.sample import random_steps
from tapc.graph.analysis import analyse
from tapc.hardware.target import load_target, target_names
from tapc.ir.program import Step
from tapc.ir.sampling import groups
from tapc.kernels.pooled import PooledSpec
from tapc.lower import lower
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.fuse import fuse
from tapc.lower.plan import plan
from tapc.lower.steps import steps_of
from tapc.quantize import calibrate, quantize, uniform_bits
from tapc.tuning.fit import Measurement, fitted, measure, solve
from tapc.tuning.images import Image

BESIDES = {"runtime_bytes": 0.0, "step_bytes": 0.0, "argument_bytes": 0.0, "stack_bytes": 0, "data_bytes": 0}


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_fit_recovers_planted_costs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    planted = {f"part{i}": float(rng.integers(1, 50)) for i in range(4)}
    rows = [{k: float(rng.integers(0, 100)) for k in planted} | {"part0": 1.0} for _ in range(30)]
    found = solve(rows, [sum(n * planted[k] for k, n in row.items()) for row in rows])
    assert found == pytest.approx(planted, rel=1e-2, abs=0.05)


def test_a_function_that_became_a_jump_to_another_tells_no_size() -> None:
    """The compiler makes one of two functions that are equal a call of the other."""
    target = load_target("cortex-m7")
    specs = [step.spec for step in random_steps(200, "float", "dsp", 3, group="softmax")[1]]
    parts = [spec.code_features() for spec in specs]
    twin = next(i for i, own in enumerate(parts) if own in parts[:i])
    code = [24 if i == twin else round(100 * sum(own.values())) for i, own in enumerate(parts)]
    samples = [Measurement(spec, 1000, size) for spec, size in zip(specs, code, strict=True)]
    assert fitted(target, samples, BESIDES).code_error < 0.02


@pytest.mark.parametrize("core", target_names())
def test_every_core_has_a_fit_with_known_error(core: str) -> None:
    coefficients = load_coefficients(load_target(core).cost)
    assert coefficients.core == core
    assert coefficients.kernels >= 300
    assert coefficients.instruction_error < 0.10
    assert f"{coefficients.instruction_error:.1%}" in CostModel(coefficients).provenance


@pytest.mark.parametrize(("core", "board"), [("cortex-m7", "stm32h7"), ("cortex-m0plus", "pico")])
def test_predictions_are_near_fresh_measurements(core: str, board: str) -> None:
    """Kernels that the fit has not seen, measured now; the average must be as good as the stored error says."""
    target = load_target(core)
    model = CostModel(load_coefficients(target.cost))
    batch = measure(target, board, Image("network", target.requantize, 25, seed=123456))
    errors = [abs(model.instructions(m.spec) - m.instructions) / m.instructions for m in batch.kernels]
    assert np.mean(errors) < 2 * model.coefficients.instruction_error + 0.05
    weight = sum(m.instructions for m in batch.kernels)
    assert abs(sum(model.instructions(m.spec) for m in batch.kernels) - weight) < 0.1 * weight


@pytest.mark.parametrize("group", groups())
@pytest.mark.parametrize("isa", get_args(Isa))
def test_features_cover_every_kernel(isa: Isa, group: str) -> None:
    for step in random_steps(80, "float", isa, 7, group=group)[1]:
        # A convolution and a pooling of some lines are called in turn.
        calls = 1 + step.spec.calls + step.spec.y.height if isinstance(step.spec, PooledSpec) else 1
        assert step.spec.instruction_features()["call"] == calls
        assert sum(step.spec.code_features().values()) >= 1


def test_damaged_cost_file(tmp_path: Path) -> None:
    (tmp_path / "cost.toml").write_text('core = "x"\n')
    with pytest.raises(DataError, match=r"tapc\.tuning\.fit"):
        load_coefficients(tmp_path / "cost.toml")


def test_fewer_bits_cost_less_flash_and_ram() -> None:
    model = residual()
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(0).random(
        (8, *[d.dim_value for d in model.onnx.graph.input[0].type.tensor_type.shape.dim][1:]), np.float32
    )
    calibration = calibrate(model, x, seed=0)
    eight = uniform_bits(network, 8, 8)
    program = program_from_onnx(quantize(model, network, eight, calibration, x=x).onnx, "net", "float", "dsp")
    cost = NetworkCost(program, network, CostModel(load_coefficients(load_target("cortex-m7").cost)))
    layer = max(network.layers, key=lambda item: item.parameters)
    flash = [cost.flash_bytes(layer, bits, 8, 8) for bits in (2, 4, 8)]
    assert flash == sorted(flash)
    low = {i: 8 if group.interface else 4 for i, group in enumerate(network.groups)}
    assert cost.ram(low).bytes < cost.ram(eight.activations).bytes
    whole, _ = cost.whole(eight)
    kernels = dict(cost.code(layer, 8, 8, 8) for layer in network.layers)
    separate = cost.fixed()[0] + sum(cost.flash_bytes(layer, 8, 8, 8) for layer in network.layers)
    assert whole == pytest.approx(separate + sum(kernels.values()), abs=2)


@pytest.mark.parametrize("bits", [(8, 8), (2, 8), (4, 4)])
def test_dead_channels_are_predicted_dead(bits: tuple[int, int]) -> None:
    """The allocator's template, without bias correction, costs what the final network does."""
    model = dead()
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(0).random((16, 3, 12, 12), np.float32)
    calibration, chosen = calibrate(model, x, seed=0), uniform_bits(network, *bits)
    template = quantize(model, network, chosen, calibration, x=x[:1], bias_correction=False)
    program = program_from_onnx(template.onnx, "net", "float", "dsp")
    cost = NetworkCost(program, network, CostModel(load_coefficients(load_target("cortex-m7").cost)))
    final = lower(quantize(model, network, chosen, calibration, x=x).onnx, "net", "float", "dsp")

    def constants(steps: Sequence[Step]) -> int:
        return sum(constant.bytes for step in steps for constant in step.constants.values())

    pruned, steps = cost.steps(chosen)
    assert plan(pruned, steps).size == final.plan.size
    assert constants(steps) == pytest.approx(constants(final.steps), rel=0.01)
    assert constants(steps) < 0.9 * constants(steps_of(fuse(program)))
