"""Every part that a kernel may have is measured on every core: no coefficient is guessed."""

from typing import get_args

import pytest

from operators.examples import OPERATORS, Instance, case
from tapc.base.arithmetic import arithmetics
from tapc.base.isa import Isa
from tapc.cost.model import CostModel, load_coefficients
from tapc.cost.sample import random_steps
from tapc.hardware.target import load_target, target_names
from tapc.ir.sampling import groups
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.fuse import fuse
from tapc.lower.prune import prune
from tapc.lower.steps import steps_of

MODES = tuple(arithmetic.name for arithmetic in arithmetics())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("isa", get_args(Isa))
def test_no_part_of_a_random_instance_is_guessed(isa: Isa, mode: str) -> None:
    models = [CostModel(load_coefficients(t.cost)) for t in map(load_target, target_names()) if t.isa == isa]
    specs = {step.spec for group in groups() for step in random_steps(40, mode, isa, 71, group=group)[1]}
    instances = case([Instance(name, 0) for name in OPERATORS])
    # Without a plan of the arena, which takes longer than all else.
    program = fuse(prune(program_from_onnx(instances.quantized.onnx, "example", mode, isa)))
    specs |= {step.spec for step in steps_of(program)}
    for model in models:
        for spec in specs:
            model.instructions(spec)
            model.code_bytes(spec)
        assert not model.guessed, model.coefficients.core
