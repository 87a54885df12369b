"""Networks over windows of time that are built as one step: their samples, and the proof that nothing else changed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.base.errors import MismatchError, UsageError
from tapc.base.options import Options
from tapc.base.ports import joined
from tapc.data import Samples
from tapc.flow.fidelity import affordable
from tapc.flow.inputs import Data
from tapc.flow.sequences import framed, metric_of, with_states
from tapc.frontend import FloatModel
from tapc.frontend.verify import TOLERANCE
from tapc.graph.analysis import analyse
from tapc.graph.interface import input_ports, output_ports
from tapc.graph.state import own_outputs
from tapc.graph.streaming import Frames, Streaming, stream_of, streaming, time_axis
from tapc.hardware.target import Target
from tapc.ir.program import Program
from tapc.lower import Lowered
from tapc.lower.codes import apart, input_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.fuse import fuse
from tapc.lower.plan import plan
from tapc.lower.prune import prune
from tapc.lower.reference import execute
from tapc.lower.states import carried
from tapc.lower.steps import steps_of
from tapc.quantize import QuantizedModel, evaluate
from tapc.quantize.runtime import carried as carried_floats
from tapc.quantize.streaming import quantized_step
from tapc.report.streaming import StreamReport, stream_report

_SOME = 8
"""Windows on which step by step is compared with at once."""


def step_of(model: FloatModel, options: Options) -> Streaming | None:
    """Return a network as one step; None where it is to be built as it is.

    Raises
    ------
    UsageError
        Options that say something of the whole network alone.
    UnsupportedError
        A network that is none over time, or needs what comes later.
    """
    if options.stream is None:
        return None
    if model.states:
        raise UsageError("--stream: the network keeps states between calls already")
    for name in ("abits", "bops"):
        if getattr(options, name) != getattr(Options(), name):
            raise UsageError(f"--stream: --{name} counts for whole networks alone; leave it out")
    return streaming(model.onnx, time_axis(model.inputs, options.stream))


def float_step(model: FloatModel, step: Streaming) -> FloatModel:
    """Return the float network of one step."""
    inputs, outputs = input_ports(step.onnx), output_ports(step.onnx)
    return replace(model, onnx=step.onnx, inputs=inputs, outputs=outputs, run=None, reference=None)


def in_windows(options: Options, step: Streaming | None) -> Options:
    """Return options whose evaluation samples are windows; what is asked for is steps."""
    if step is None:
        return options
    return replace(options, eval=max(1, options.eval // step.told.steps))


def in_steps(data: Data, step: Streaming | None, options: Options) -> Data:
    """Return data whose test samples are steps, in sequences of as many as a window has."""
    if step is None:
        return data
    test = framed(data.test, step.told, step.onnx)
    return replace(data, test=test, metric=metric_of(options.metric, test, step.onnx))


@dataclass(frozen=True)
class Step:
    """One step of a network, float and quantized, which equals the whole one.

    Attributes
    ----------
    model : FloatModel
    quantized : QuantizedModel
    test : Samples
        Steps, with what this float network keeps.
    compared : int
        Outputs of steps that were compared with the whole network's, code by code.
    whole_macs, whole_arena : int
        Of the network at once.
    """

    model: FloatModel
    quantized: QuantizedModel
    test: Samples
    compared: int
    whole_macs: int
    whole_arena: int

    def report(self, lowered: Lowered) -> StreamReport:
        """Say what the step needs, and the network at once."""
        told = stream_of(self.model.onnx)
        assert told is not None
        return stream_report(told, lowered, macs=_macs(self.model.onnx), whole_macs=self.whole_macs,
                             whole_arena=self.whole_arena, compared=self.compared)  # fmt: skip


def proved_step(
    model: FloatModel, quantized: QuantizedModel, test: Samples, target: Target, options: Options
) -> Step | None:
    """Return one step of a network that was quantized as a whole; None where it is to be built as it is.

    Parameters
    ----------
    model : FloatModel
    quantized : QuantizedModel
    test : Samples
        Steps.
    target : Target
    options : Options

    Raises
    ------
    MismatchError
        Step by step it gives other codes than at once: a fault of tapc.
    """
    step = step_of(model, options)
    if step is None:
        return None
    found, told = quantized_step(quantized, step, model.given), step.told
    windows = min(_SOME, len(affordable(model, len(test.x) // told.steps)))
    given = input_ports(step.onnx)[0].size
    x = told.joined(test.x[: windows * told.steps].reshape(windows * told.steps, -1)[:, :given])
    compared = compare_codes(model.onnx, quantized.onnx, found.onnx, step, x, target)
    compare_floats(model.onnx, step, x)
    whole = fuse(prune(program_from_onnx(quantized.onnx, model.name, target.requantize, target.isa)))
    arena = plan(whole, steps_of(whole), seed=options.seed).size
    return Step(float_step(model, step), found, with_states(test, step.onnx), compared, _macs(model.onnx), arena)


def _macs(graph: onnx.ModelProto) -> int:
    return sum(layer.macs for layer in analyse(graph, "network").layers)


def compare_codes(
    model: onnx.ModelProto,
    whole: onnx.ModelProto,
    part: onnx.ModelProto,
    step: Streaming,
    x: NDArray[np.float32],
    target: Target,
) -> int:
    """Compare what a quantized network gives step by step with what it gives at once; return how many frames.

    Parameters
    ----------
    model : onnx.ModelProto
        Float graph of the whole network.
    whole, part : onnx.ModelProto
        Quantized, the whole network and one step of it.
    step : Streaming
    x : float32 (N, ...)
        Windows of the whole network's input.
    target : Target

    Raises
    ------
    MismatchError
        Some code differs.
    """
    programs = [program_from_onnx(one, "network", target.requantize, target.isa) for one in (whole, part)]
    at_once = execute(programs[0], input_codes(programs[0], x))
    frames = step.told.framed(x)
    room = sum(int(np.prod(programs[1].tensors[kept.before].shape)) for kept in programs[1].states)
    rows = np.concatenate([frames.reshape(len(frames), -1), np.zeros((len(frames), room), np.float32)], axis=1)
    one_by_one = carried(programs[1], input_codes(programs[1], rows), step.told.steps)[1]
    given = (_rows(program, codes) for program, codes in zip(programs, (at_once, one_by_one), strict=True))
    compared = 0
    for name, right, got in side_by_side(model, step, *given):
        if not np.array_equal(right, got):
            raise MismatchError(
                f"--stream: step by step, output {name!r} has other codes than at once, a fault of tapc"
            )
        compared += right.shape[0] * right.shape[1]
    return compared


def _rows(program: Program, codes: Ints) -> Ints:
    """Return codes of outputs in the order of the float graph, (N, values)."""
    parts = apart(program, program.outputs, codes)
    return joined([part.transpose(0, 3, 1, 2).reshape(len(part), -1) for part in parts])


def side_by_side(
    model: onnx.ModelProto, step: Streaming, at_once: NDArray[Any], one_by_one: NDArray[Any]
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Yield each output in those frames in which a network must give the same at once and step by step.

    Parameters
    ----------
    model : onnx.ModelProto
        Float graph of the whole network.
    step : Streaming
    at_once : ndarray (N, values)
        The whole network's outputs.
    one_by_one : ndarray (N * steps, values)
        The outputs of steps.

    Yields
    ------
    str
        The output's name.
    ndarray (N, frames, values)
        Of it at once, and step by step.
    """
    wholes, parts = output_ports(model), own_outputs(step.onnx)
    ends = [np.cumsum([port.size for port in ports]).tolist() for ports in (wholes, parts)]
    for whole, part, first, second in zip(wholes, parts, *ends, strict=True):
        own = step.outputs[part.name]
        right = _by_frames(at_once[:, first - whole.size : first].reshape(-1, *whole.shape[1:]), own, own.count)
        got = _by_frames(one_by_one[:, second - part.size : second].reshape(-1, *part.shape[1:]), own, own.new)
        got = got.reshape(len(right), -1, right.shape[2])
        frames = np.arange(own.exact, own.until)
        frames = frames[frames - own.offset < got.shape[1]]
        yield part.name, right[:, frames], got[:, frames - own.offset]


def _by_frames(values: NDArray[Any], own: Frames, count: int) -> NDArray[Any]:
    moved = values if own.axis is None else np.moveaxis(values, own.axis, 1)
    return moved.reshape(len(values), count, -1)


def compare_floats(model: onnx.ModelProto, step: Streaming, x: NDArray[np.float32]) -> None:
    """Compare what a float network gives step by step with what it gives at once.

    Raises
    ------
    MismatchError
        They differ by more than rounding.
    """
    at_once = evaluate(model, x, optimized=True).reshape(len(x), -1)
    frames = step.told.framed(x)
    one_by_one = carried_floats(step.onnx, frames.reshape(len(frames), -1), step.told.steps, optimized=True)[1]
    for name, right, got in side_by_side(model, step, at_once, one_by_one):
        difference = float(np.abs(right - got).max(initial=0))
        if difference > TOLERANCE * max(float(np.abs(right).max(initial=0)), 1e-30):
            raise MismatchError(
                f"--stream: step by step, output {name!r} differs by {difference:.3g} from the network at once, a "
                "fault of tapc"
            )
