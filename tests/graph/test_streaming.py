"""Networks over time as steps, in float: what windows read, what is refused, what is told."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

import temporal
from tapc.base.errors import DataError, UnsupportedError, UsageError
from tapc.base.ports import Port
from tapc.graph.interface import input_ports
from tapc.graph.state import states
from tapc.graph.streaming import stream_of, streaming, time_axis
from tapc.graph.streaming.frames import Frames, HopError, Window, windowed


def _step(model: onnx.ModelProto) -> onnx.ModelProto:
    return streaming(model, time_axis(input_ports(model), "auto")).onnx


def _sizes(model: onnx.ModelProto) -> list[int]:
    """Return the frames that each state keeps."""
    kept, told = {own.input for own in states(model)}, stream_of(model)
    assert told is not None
    return [port.shape[told.axis] for port in input_ports(model) if port.name in kept]


@pytest.mark.parametrize("seed", range(20))
def test_windows_read_the_frames_that_a_sliding_window_needs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reach, stride, before = (int(rng.integers(low, high)) for low, high in ((1, 9), (1, 4), (-3, 8)))
    new, count = stride * int(rng.integers(1, 4)), 200
    x = Frames(2, count, new, offset=-int(rng.integers(0, 7)), until=count)
    window, y = windowed(x, reach=reach, stride=stride, before=before, count=count // stride)
    assert y.new * stride == new
    for step in (3, 7):
        newest = (step + 1) * new + x.offset
        first = step * new + x.offset - window.back
        results = step * y.new + y.offset + np.arange(y.new)
        assert first == results[0] * stride - before  # what the first window reads first
        assert first + window.count == results[-1] * stride - before + reach <= newest
        later = (results[-1] + 1) * stride - before + reach
        assert later > newest or y.offset == 0  # nothing more could be computed


def test_strides_over_time_make_steps_of_several_frames() -> None:
    with pytest.raises(HopError) as error:
        windowed(Frames(2, 40, 1, until=40), reach=3, stride=2, before=0, count=19)
    assert error.value.factor == 2
    told = stream_of(_step(temporal.mixed()))
    assert told is not None
    assert (told.hop, told.steps) == (4, 9)


def test_rings_hold_what_each_window_looks_back() -> None:
    assert _sizes(_step(temporal.tcn())) == [2, 2, 4, 4, 8, 8]
    assert _sizes(_step(temporal.tcn(chomp=True))) == [2, 2, 4, 4, 8, 8]
    assert _sizes(_step(temporal.ds_cnn(25))) == [4, 2, 2, 16]
    # One of several readers looks back furthest: the others take parts of its ring.
    assert _sizes(_step(temporal.both_sides())) == [3, 4]


@pytest.mark.parametrize(
    ("model", "warm_up", "latency", "padded"),
    [
        (temporal.tcn(), 0, 0, False), (temporal.ds_cnn(25), 24, 0, False), (temporal.ds_cnn(25, 2), 12, 1, False),
        (temporal.ds_cnn(25, 1, mean=False), 24, 0, False), (temporal.both_sides(), 5, 3, False),
            (temporal.time_last(), 13, 0, True),
    ],
)  # fmt: skip
def test_warm_up_and_latency(model: onnx.ModelProto, warm_up: int, latency: int, padded: bool) -> None:
    told = stream_of(_step(model))
    assert told is not None
    assert (told.warm_up, told.latency, told.padded) == (warm_up, latency, padded)


def test_windows_become_steps_and_windows_again() -> None:
    told = stream_of(_step(temporal.ds_cnn(25, 2)))
    assert told is not None
    x = np.arange(3 * 250, dtype=np.float32).reshape(3, 1, 25, 10)
    steps = told.framed(x)
    assert steps.shape == (3 * 13, 1, 2, 10)
    assert (steps[14] == x[1, :, 2:4]).all()
    assert (steps[25] == x[1, :, 24:]).all()  # a frame behind the last one, of which nothing depends
    assert (told.joined(steps) == x).all()


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (lambda: temporal.ds_cnn(pad=2), "right of time"),
        (temporal.excitation, "once for all of time"),
    ],
)
def test_what_no_stream_can_give_is_refused(model: Callable[[], onnx.ModelProto], what: str) -> None:
    with pytest.raises(UnsupportedError, match=what):
        _step(model())


def test_the_axis_of_time() -> None:
    ports = (Port("x", (1, 1, 49, 10)),)
    assert [time_axis(ports, text) for text in ("auto", "2", "x:3", "-1")] == [2, 2, 3, 3]
    assert time_axis((Port("x", (1, 1, 40, 98)),), "auto") == 3
    for text in ("y:2", "7", "0", "time"):
        with pytest.raises(UsageError, match="--stream"):
            time_axis(ports, text)
    with pytest.raises(UnsupportedError, match="holds no sequence"):
        time_axis((Port("x", (1, 49)),), "auto")
    with pytest.raises(UnsupportedError, match="2 inputs"):
        time_axis((*ports, *ports), "auto")
    # The source has frames last, the canonical input in its rows.
    exchanged = Port("x", (1, 1, 49, 10), 0, (1, 10, 49), ((49, 1), (10, 49)))
    assert time_axis((exchanged,), "2") == 2


def test_damaged_metadata_are_an_error() -> None:
    model = _step(temporal.tcn())
    entry = next(entry for entry in model.metadata_props if entry.key == "tapc.stream")
    entry.value = entry.value.replace('"frames": 40', '"frames": 41')
    with pytest.raises(DataError, match=r"tapc\.stream"):
        stream_of(model)


def test_windows_are_hashable() -> None:
    assert len({Window(1, 2), Window(1, 2)}) == 1
