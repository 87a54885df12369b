"""How far recurrent layers on the device are from float, over sequences of 100 steps, in one call or one a call.

python tools/recurrent_accuracy.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.frontend import load
from tapc.frontend.canonical import canonicalize
from tapc.graph.analysis import analyse
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.lower.reference import execute
from tapc.lower.states import carried, with_room
from tapc.quantize import calibrate, evaluate, quantize, uniform_bits
from tapc.quantize.runtime import carried as carried_in_float

STEPS, INPUTS, UNITS = 100, 10, 32
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": {"h": "hn", "c": "cn"}, "GRU": {"h": "hn"}, "RNN": {"h": "hn"}}
LAYERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("LSTM", {}), ("GRU", {"linear_before_reset": 1}), ("GRU", {}), ("RNN", {}), ("RNN", {"activations": ["Relu"]}),
)  # fmt: skip


class Model:
    """A canonical graph, as stages take it."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        self.onnx = graph


def layer(op: str, gain: float, attributes: dict[str, Any], steps: int = STEPS) -> onnx.ModelProto:
    """Return a layer with weights that are uniform in +-gain / sqrt(units); of one step with its states."""
    rng, rows = np.random.default_rng(0), GATES[op] * UNITS
    shapes = {"W": (1, rows, INPUTS), "R": (1, rows, UNITS), "B": (1, 2 * rows)}
    parts = {
        name: (rng.uniform(-1, 1, shape) * gain / np.sqrt(UNITS)).astype(np.float32) for name, shape in shapes.items()
    }
    info, state = helper.make_tensor_value_info, (1, 1, UNITS)
    kept = STATES[op] if steps == 1 else {}
    results = ["y", *kept.values()]
    given = ["x", *parts, *(["", *kept] if kept else [])]
    node = helper.make_node(op, given, results, name="layer", hidden_size=UNITS, **attributes)
    shapes_in = {"x": (steps, 1, INPUTS), **dict.fromkeys(kept, state)}
    graph = helper.make_graph(
        [node], "net", [info(name, TensorProto.FLOAT, shape) for name, shape in shapes_in.items()],
        [info(name, TensorProto.FLOAT, (steps, 1, 1, UNITS) if name == "y" else state) for name in results],
        [numpy_helper.from_array(value, name) for name, value in parts.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def decibels(exact: NDArray[Any], error: NDArray[Any]) -> str:
    """Return signal over error of (sequences, steps, units) over all steps, the first and the last ten."""
    whole, first, last = (
        10 * np.log10(np.square(exact[:, part]).sum() / np.square(error[:, part]).sum())
        for part in (slice(None), slice(None, 10), slice(-10, None))
    )
    return f"{whole:.1f} dB ({first:.1f}, {last:.1f})"


def whole(op: str, gain: float, attributes: dict[str, Any], bits: int, x: NDArray[Any]) -> str:
    """Measure all steps in one call; x is (sequences, inputs, 1, steps)."""
    model = Model(canonicalize(layer(op, gain, attributes)))
    network, calibration = analyse(model.onnx, "net"), calibrate(model, x[:64], seed=0)
    exact = evaluate(model.onnx, x[64:], optimized=False).transpose(0, 2, 3, 1)[:, 0]
    made = quantize(model, network, uniform_bits(network, bits, 8), calibration, x=x[:64], rounding="gptq")
    program = lower(made.onnx, "net", "float", "dsp").reference
    y = program.tensors[program.output]
    codes = execute(program, input_codes(program, x[64:])).reshape(exact.shape)
    return decibels(exact, (codes - y.zero) * y.scale - exact)


def stepwise(op: str, gain: float, attributes: dict[str, Any], bits: int, x: NDArray[Any], folder: Path) -> str:
    """Measure one step a call, with states between the calls."""
    onnx.save(layer(op, gain, attributes, 1), folder / "step.onnx")
    model = load(folder / "step.onnx", state=STATES[op])
    given = x.transpose(0, 3, 1, 2).reshape(len(x) * STEPS, INPUTS).astype(np.float32)
    rows, exact = carried_in_float(model.onnx, given, STEPS, optimized=False)
    network, calibration = analyse(model.onnx, "net"), calibrate(model, rows[: 64 * STEPS], seed=0)
    made = quantize(model, network, uniform_bits(network, bits, 8), calibration, x=rows[: 64 * STEPS])
    program = lower(made.onnx, "net", "float", "dsp").reference
    source = program.tensors[program.given[0]]
    codes = np.clip(np.rint(given[64 * STEPS :] / source.scale) + source.zero, source.low, source.high)
    found = carried(program, with_room(program, codes.astype(np.int64)), STEPS)[1][:, :UNITS]
    y = program.tensors[program.states[0].after]
    wanted = exact[64 * STEPS :, :UNITS]
    shape = (len(x) - 64, STEPS, UNITS)
    return decibels(wanted.reshape(shape), ((found - y.zero) * y.scale - wanted).reshape(shape))


def main() -> None:
    """Print a line for each layer, size of its weights, and width."""
    x = np.random.default_rng(1).normal(0, 1, (96, INPUTS, 1, STEPS))
    for t in range(1, STEPS):
        x[..., t] = 0.8 * x[..., t - 1] + 0.6 * x[..., t]
    x = x.astype(np.float32)
    with TemporaryDirectory() as folder:
        for op, attributes in LAYERS:
            for gain in (1.0, 2.0):
                for bits in (8, 4):
                    print(
                        f"{op} {attributes} k={gain:g} w{bits}: {whole(op, gain, attributes, bits, x)}; "
                        f"a step a call: {stepwise(op, gain, attributes, bits, x, Path(folder))}"
                    )


if __name__ == "__main__":
    main()
