"""What holds for every operator that registers itself: a new one is tested by existing.

Random instances in small networks with random bits: torch and the reference against onnxruntime, bounds, pruning, C
on the host under sanitizers, firmware on every core, and the cost model. Here are few of them;
`tools/run_properties.py` runs as many as it is told to.
"""

import numpy as np
import pytest

from operators.examples import OPERATORS, Case, Instance, case
from operators.properties import MODES, Steps, integers, many_steps, torch_and_intervals
from operators.properties_in_c import BOARDS, CORES, FORMS, firmware_run, on_host, together
from tapc.base.arithmetic import Mode
from tapc.base.isa import Isa
from tapc.cost.model import CostModel, load_coefficients
from tapc.graph.rules import rules
from tapc.kernels.log_softmax import LogSoftmaxSpec
from tapc.kernels.unit import UnitSpec

NUMBERS = range(4)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Networks, each of one instance of every operator."""
    return [case([Instance(name, number) for name in OPERATORS]) for number in NUMBERS]


def test_every_operator_occurs(cases: list[Case]) -> None:
    assert {node.op_type for given in cases for node in given.float_model.graph.node} == set(rules())


def test_an_instance_is_the_same_in_any_network() -> None:
    alone, beside = (case([Instance(name, 1) for name in names]) for names in (["Conv"], ["Mul", "Conv", "Softmax"]))
    known = {t.name: t for t in beside.quantized.onnx.graph.initializer}
    assert len(alone.quantized.onnx.graph.initializer) > 5
    for tensor in alone.quantized.onnx.graph.initializer:
        assert tensor == known[tensor.name]


def test_torch_and_the_intervals_agree_with_onnxruntime(cases: list[Case]) -> None:
    assert not [line for given in cases for line in torch_and_intervals(given, Steps())]


@pytest.mark.parametrize("mode", MODES)
def test_integers_agree_with_onnxruntime_and_keep_their_bounds(cases: list[Case], mode: Mode) -> None:
    steps = Steps()
    assert not [line for given in cases for line in integers(given, mode, steps)]
    assert not [line for line in many_steps(steps) if steps.elements[line.split(":")[0], mode] > 5000]


def test_kernels_of_tflites_own_integers_are_called_with_tensors_of_the_program() -> None:
    given = case([Instance(name, number) for name in ("LogSoftmax", "LpNormalization") for number in range(6)])
    network = together([given], "dsp", "tflite").network
    own = {type(step.spec) for step in network.steps if getattr(step.spec, "own", True)}
    assert {LogSoftmaxSpec, UnitSpec} <= own
    assert {name for step in network.steps for name in step.tensors.values()} <= set(network.program.tensors)


@pytest.mark.parametrize(("isa", "mode"), FORMS)
def test_c_on_the_host(isa: Isa, mode: Mode, cases: list[Case]) -> None:
    assert not on_host(together(cases[:1], isa, mode))


@pytest.mark.parametrize("board_name", BOARDS)
def test_firmware_and_its_cost(board_name: str, cases: list[Case]) -> None:
    """All of them in one network: every step's codes, and how far the cost model is off."""
    core = CORES[board_name]
    built = together(cases[-1:], core.isa, core.requantize)
    run = firmware_run(built, board_name)
    found = built.verify(run)
    assert found.mismatch is None, found.mismatch
    model = CostModel(load_coefficients(core.cost))
    pairs = np.array(
        [(model.instructions(step.spec), n)
         for step, n in zip(built.network.steps, run.instructions_per_step, strict=True)]
    )  # fmt: skip
    assert abs(pairs[:, 0].sum() / pairs[:, 1].sum() - 1) <= 0.25
    assert np.median(np.abs(pairs[:, 0] / pairs[:, 1] - 1)) <= 0.2
    # Kernels as small as these differ by what the compiler makes of their borders, and of ratios above a half, which
    # cores without long products take several times as long for.
    assert np.all(pairs[:, 0] <= 3 * pairs[:, 1] + 300)
    assert np.all(pairs[:, 1] <= 3 * pairs[:, 0] + 300)
