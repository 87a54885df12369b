"""How far recurrent layers on the device are from float, over sequences of 100 steps.

python tools/recurrent_accuracy.py
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tapc.frontend.canonical import canonicalize
from tapc.graph.analysis import analyse
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.lower.reference import execute
from tapc.quantize import calibrate, evaluate, quantize, uniform_bits

STEPS, INPUTS, UNITS = 100, 10, 32
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
LAYERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("LSTM", {}), ("GRU", {"linear_before_reset": 1}), ("GRU", {}), ("RNN", {}), ("RNN", {"activations": ["Relu"]}),
)  # fmt: skip


class Model:
    """A canonical graph, as stages take it."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        self.onnx = graph


def layer(op: str, gain: float, attributes: dict[str, Any]) -> onnx.ModelProto:
    """Return a layer with weights that are uniform in +-gain / sqrt(units)."""
    rng, rows = np.random.default_rng(0), GATES[op] * UNITS
    shapes = {"W": (1, rows, INPUTS), "R": (1, rows, UNITS), "B": (1, 2 * rows)}
    parts = {
        name: (rng.uniform(-1, 1, shape) * gain / np.sqrt(UNITS)).astype(np.float32) for name, shape in shapes.items()
    }
    node = helper.make_node(op, ["x", *parts], ["y"], name="layer", hidden_size=UNITS, **attributes)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "net", [info("x", TensorProto.FLOAT, (STEPS, 1, INPUTS))], [info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in parts.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def main() -> None:
    """Print a line for each layer, size of its weights, and width."""
    x = np.random.default_rng(1).normal(0, 1, (96, INPUTS, 1, STEPS))
    for t in range(1, STEPS):
        x[..., t] = 0.8 * x[..., t - 1] + 0.6 * x[..., t]
    x = x.astype(np.float32)
    for op, attributes in LAYERS:
        for gain in (1.0, 2.0):
            model = Model(canonicalize(layer(op, gain, attributes)))
            network, calibration = analyse(model.onnx, "net"), calibrate(model, x[:64], seed=0)
            exact = evaluate(model.onnx, x[64:], optimized=False).transpose(0, 2, 3, 1)
            for bits in (8, 4):
                assigned = uniform_bits(network, bits, 8)
                made = quantize(model, network, assigned, calibration, x=x[:64], rounding="gptq")
                program = lower(made.onnx, "net", "float", "dsp").reference
                y = program.tensors[program.output]
                codes = execute(program, input_codes(program, x[64:])).reshape(exact.shape)
                error = np.square((codes - y.zero) * y.scale - exact)
                whole, first, last = (
                    10 * np.log10(np.square(exact[:, :, part]).sum() / error[:, :, part].sum())
                    for part in (slice(None), slice(None, 10), slice(-10, None))
                )
                print(f"{op} {attributes} k={gain:g} w{bits}: {whole:.1f} dB ({first:.1f}, {last:.1f})")


if __name__ == "__main__":
    main()
