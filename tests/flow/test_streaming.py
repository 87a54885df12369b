"""Step by step a quantized network gives what it gives at once, code by code."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import temporal
from graph_builder import Model
from tapc.base.arithmetic import Ints
from tapc.base.errors import MismatchError
from tapc.flow.streaming import compare_codes, compare_floats, side_by_side
from tapc.graph.analysis import Graph, analyse
from tapc.graph.interface import input_ports
from tapc.graph.streaming import Streaming, streaming, time_axis
from tapc.hardware.target import load_target
from tapc.ir.program import Program
from tapc.lower.codes import apart, input_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.fuse import fuse
from tapc.lower.plan import plan
from tapc.lower.prune import prune
from tapc.lower.reference import execute
from tapc.lower.states import carried, with_room
from tapc.lower.steps import steps_of
from tapc.quantize import QuantizedModel, calibrate, quantize, uniform_bits
from tapc.quantize.export import export_qdq
from tapc.quantize.streaming import quantized_step
from thorough import thorough

TARGET = load_target("cortex-m4")
FRAMES = 520


def _samples(model: onnx.ModelProto, count: int) -> NDArray[np.float32]:
    """Return windows whose features follow each other slowly, as those of sounds do."""
    (port,) = input_ports(model)
    axis = time_axis((port,), "auto")
    x = np.random.default_rng(1).normal(0, 1, (count, *port.shape[1:]))
    x = np.moveaxis(x, axis, 1)
    for t in range(1, x.shape[1]):
        x[:, t] = 0.8 * x[:, t - 1] + 0.6 * x[:, t]
    return np.ascontiguousarray(np.moveaxis(x, 1, axis), np.float32)


def _quantized(model: onnx.ModelProto, bits: int = 8) -> QuantizedModel:
    own, network, x = Model(model), analyse(model, "net"), _samples(model, 24)
    return quantize(own, network, uniform_bits(network, bits, 8), calibrate(own, x, seed=0), x=x)


def _program(model: onnx.ModelProto) -> Program:
    return program_from_onnx(model, "net", TARGET.requantize, TARGET.isa)


@functools.cache
def _pair(name: str, bits: int = 8) -> tuple[onnx.ModelProto, QuantizedModel, Streaming, QuantizedModel]:
    makers: dict[str, Callable[[], onnx.ModelProto]] = {
        **temporal.FRAMEWISE, "mean": temporal.ds_cnn, "hop": lambda: temporal.ds_cnn(25, 2),
        "dense": lambda: temporal.ds_cnn(12, mean=False), "time last": temporal.time_last,
    }  # fmt: skip
    model = makers[name]()
    whole = _quantized(model, bits)
    step = streaming(model, time_axis(input_ports(model), "auto"))
    return model, whole, step, quantized_step(whole, step, None)


def _run(step: QuantizedModel, x: NDArray[np.float32]) -> Ints:
    """Return the codes of outputs, states too, of one sequence of steps."""
    program = _program(step.onnx)
    frames = input_codes(program, np.concatenate([x.reshape(len(x), -1), np.zeros((len(x), _room(program)))], axis=1))
    return carried(program, frames, len(x))[1]


def _room(program: Program) -> int:
    return with_room(program, np.zeros((1, 0), np.int64)).shape[1]


@pytest.mark.parametrize(
    "name", [thorough("tcn"), "cut off", "mixed", "both sides", "mean", "hop", "dense", "time last"]
)
def test_steps_give_what_the_network_gives_at_once(name: str) -> None:
    model, whole, step, part = _pair(name)
    x = _samples(model, 2)
    compare_floats(model, step, x)
    assert compare_codes(model, whole.onnx, part.onnx, step, x, TARGET) >= 2


def _long(name: str, x: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield outputs of one long sequence, of a whole network of so many frames and of steps, frame by frame."""
    _, whole, _, part = _pair(name)
    model = temporal.FRAMEWISE[name](FRAMES)
    step = streaming(model, 3)
    longer = export_qdq(Graph(model), whole.layers, whole.activations, {n: n for n in whole.activations})
    program = _program(longer)
    at_once = apart(program, program.outputs, execute(program, input_codes(program, x)))[0]
    codes = _run(part, step.told.framed(x))
    first = apart(_program(part.onnx), _program(part.onnx).outputs, codes)[0]
    flat = [part.transpose(0, 3, 1, 2).reshape(len(part), -1) for part in (at_once, first)]
    return side_by_side(model, step, *flat)


@pytest.mark.parametrize("name", ["tcn", thorough("mixed"), thorough("both sides")])
def test_frames_of_a_long_stream(name: str) -> None:
    x = _samples(temporal.FRAMEWISE[name](FRAMES), 1)
    ((_, right, got),) = _long(name, x)
    assert right.shape[1] >= {"mixed": FRAMES // 4 - 4}.get(name, 500)
    assert (right == got).all()
    assert len(np.unique(right)) > 30


def _windows_of(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    count = 25
    return np.stack([frames[first : first + count] for first in range(len(frames) - count + 1)])[:, None]


@pytest.mark.parametrize("kind", [thorough("random"), "real"])
def test_every_window_of_a_long_stream(kind: str, request: pytest.FixtureRequest) -> None:
    _, whole, _, part = _pair("mean")
    frames = np.moveaxis(_samples(temporal.tcn(FRAMES + 10), 1)[0, :, 0], 0, 1)
    if kind == "real":
        file: Path = request.getfixturevalue("shared_data") / "kws01-mfcc-dev.npz"
        with np.load(file) as data:
            real = (data["x"][:11].astype(np.float32) - data["zero_point"]) * data["scale"]
        frames = (real.reshape(-1, temporal.FEATURES)[: FRAMES + 10] / 30).astype(np.float32)
    program = _program(whole.onnx)
    at_once = execute(program, input_codes(program, _windows_of(frames))).reshape(-1, 6)
    steps = _run(part, frames[:, None, None])[:, :6]
    assert len(at_once) >= 500
    assert (steps[24:] == at_once).all()
    assert len(np.unique(at_once)) > 10


def test_a_wrong_scale_is_told() -> None:
    model, whole, step, part = _pair("tcn")
    broken = onnx.ModelProto.FromString(part.onnx.SerializeToString())
    scale = next(t for t in broken.graph.initializer if t.name == "x_window_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(onnx.numpy_helper.to_array(scale) * 1.5), scale.name))
    with pytest.raises(MismatchError, match="step by step"):
        compare_codes(model, whole.onnx, broken, step, _samples(model, 1), TARGET)


def test_multiplications_are_those_of_a_frame() -> None:
    """A network whose receptive field is its window computes nothing twice."""
    for frames in (29, 61):
        model = temporal.tcn(frames)
        step = streaming(model, 3).onnx
        whole, part = (sum(layer.macs for layer in analyse(one, "net").layers) for one in (model, step))
        assert part * frames == whole


@pytest.mark.parametrize("name", ["tcn", "mean", "hop"])
def test_windows_lie_where_they_were(name: str) -> None:
    _, _, _, part = _pair(name)
    program = fuse(prune(_program(part.onnx)))
    steps = steps_of(program)
    layout = plan(program, steps)
    kinds = [type(op).__name__ for op in program.ops]
    assert kinds.count("Ring") == len(program.states)
    assert "Keep" not in kinds
    for kept in program.states:
        ring = next(op for op in program.ops if type(op).__name__ == "Ring" and op.inputs[0] == kept.before)
        y, x = program.tensors[ring.output], program.tensors[kept.before]
        assert layout.offsets[kept.before] == layout.offsets[kept.after] == (
            layout.offsets[ring.output] + y.bytes - x.bytes
        )  # fmt: skip
    assert layout.size >= sum(buffer.size for buffer in layout.buffers if buffer.first == 0 and buffer.last > 0)
