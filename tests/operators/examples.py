"""Random instances of every operator in small quantized networks."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from graph_builder import Model
from numpy.typing import NDArray

from tapc.graph.analysis import analyse
from tapc.graph.example import SHAPE, Example
from tapc.graph.network import Bits
from tapc.graph.rules import rules
from tapc.quantize.calibration import calibrate
from tapc.quantize.model import QuantizedModel, quantize

OPERATORS = tuple(name for name, rule in rules().items() if rule.example is not None)
SEEDS = range(4)
SAMPLES = 24


@dataclass(frozen=True, eq=False)
class Case:
    """A float network, the same with random bits, and samples (N, C, H, W) of its input."""

    float_model: onnx.ModelProto
    quantized: QuantizedModel
    x: NDArray[np.float32]


def float_model(operators: tuple[str, ...], seed: int) -> onnx.ModelProto:
    e = Example(np.random.default_rng(seed))
    outputs = []
    for name in operators:
        example = rules()[name].example
        assert example is not None
        outputs.append(example(e, name))
    model = e.build(*outputs)
    onnx.checker.check_model(model, full_check=True)
    return model


@cache
def case(operators: tuple[str, ...], seed: int) -> Case:
    model = float_model(operators, seed)
    rng = np.random.default_rng(seed + 1)
    x = rng.normal(0, 1, (SAMPLES, *SHAPE[1:])).astype(np.float32)
    network = analyse(model, "example")
    bits = Bits(
        {layer.name: int(rng.choice([2, 4, 8])) for layer in network.layers},
        {i: 8 if group.interface else int(rng.choice([4, 8])) for i, group in enumerate(network.groups)},
    )
    calibration = calibrate(Model(model), x, seed=0)
    return Case(model, quantize(Model(model), network, bits, calibration, x=x, rounding="nearest"), x)
