"""Samples of networks that keep something between calls, and what they measure."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from tapc.base.errors import DataError
from tapc.data import Samples, Split, load_samples, random_samples
from tapc.data.choice import choose
from tapc.data.masks import masks_of
from tapc.data.metrics import Metric
from tapc.data.units import PixelUnits
from tapc.graph.state import given_inputs, own_outputs, states
from tapc.graph.streaming import Stream, stream_of
from tapc.quantize.runtime import carried

RANDOM_STEPS = 50
"""Of a sequence of random inputs."""
LEAST_STEPS = 4
"""That prove a network with states, however few samples are asked for."""


def load_steps(
    source: Any, graph: onnx.ModelProto, units: PixelUnits, count: int | None, split: Split, seed: int, **more: Any
) -> Samples:
    """Load samples of a network: of one with states sequences in order, with what it keeps from step to step.

    Of one step of a network over time they may be that network's windows, too.

    Parameters
    ----------
    source, units, count, split, seed
        See `tapc.data.load_samples`.
    graph : onnx.ModelProto
        Float network, or one that stands for it.
    more
        As for `load_samples`.
    """
    told = stream_of(graph)
    if told is not None:
        found = _windows(source, graph, told, units, count, split, seed, **more)
        if found is not None:
            return found
    kept = bool(states(graph))
    samples = load_samples(source, given_inputs(graph), pixel_scale=units, count=count, split=split, seed=seed,
                           sequences=kept, masks=masks_of(graph), **more)  # fmt: skip
    return with_states(samples, graph)


def random_steps(graph: onnx.ModelProto, count: int, seed: int, low: float, high: float) -> Samples:
    """Return random inputs, of a network with states in sequences; without what it keeps."""
    ports = given_inputs(graph)
    if not states(graph):
        return random_samples(ports, count, seed, low, high)
    steps = min(RANDOM_STEPS, count)
    samples = random_samples(ports, count // steps * steps, seed, low, high)
    steps = min(steps, len(samples.x))
    whole = len(samples.x) // steps * steps
    return replace(samples, x=samples.x[:whole], steps=steps)


def with_states(samples: Samples, graph: onnx.ModelProto) -> Samples:
    """Return samples with what a network keeps from each step to the next, as its other inputs."""
    if not states(graph):
        return samples
    rows = carried(graph, samples.x, samples.steps, optimized=True)[0]
    if not np.isfinite(rows).all():
        step = int(np.argmin(np.isfinite(rows).all(axis=1))) % samples.steps
        raise DataError(
            f"{samples.source}: what the network keeps is NaN or infinite from step {step} of a sequence on; check the "
            "samples' units, and that each state is the output that it should be"
        )
    return replace(samples, x=rows)


def metric_of(wanted: str, samples: Samples, graph: onnx.ModelProto) -> Metric:
    """Return what samples measure of a network; its states are not measured."""
    if not states(graph):
        return choose(wanted, samples, graph)
    inputs, outputs = ({port.name for port in ports} for ports in (given_inputs(graph), own_outputs(graph)))
    view = onnx.ModelProto()
    view.CopyFrom(graph)
    for field, names in ((view.graph.input, inputs), (view.graph.output, outputs)):
        values = [value for value in field if value.name in names]
        kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(kept)
    size = sum(port.size for port in own_outputs(graph))
    free = sum(port.size for port in given_inputs(graph))
    metric = choose(wanted, replace(samples, x=samples.x.reshape(len(samples.x), -1)[:, :free]), view)
    return metric if metric.span is not None else replace(metric, span=(0, size))


def framed(samples: Samples, told: Stream, graph: onnx.ModelProto) -> Samples:
    """Return whole windows as steps, with what the network keeps from each to the next.

    A label of a window is that of its last step; those of single frames are left out.
    """
    y, unlabelled = samples.y, samples.unlabelled
    if y is not None and any(port.shape != (1, port.size) for port in own_outputs(graph)):
        y, unlabelled = None, "the outputs are those of each frame, the labels those of windows"
    y = None if y is None else np.repeat(y, told.steps, axis=0)
    steps = replace(samples, x=told.framed(samples.x), y=y, unlabelled=unlabelled, steps=told.steps,
                    labelled=1 if y is None else told.steps)  # fmt: skip
    return with_states(steps, graph)


def _windows(
    source: Any, graph: onnx.ModelProto, told: Stream, units: PixelUnits, count: int | None, split: Split, seed: int,
    **more: Any,
) -> Samples | None:  # fmt: skip
    """Load windows of the network that a graph is one step of; None where the data hold none, but steps."""
    port = told.port(given_inputs(graph)[0].name)
    windows = None if count is None else max(1, count // told.steps)
    try:
        found = load_samples(source, (port,), pixel_scale=units, count=windows, split=split, seed=seed, **more)
    except DataError:
        return None
    return framed(found, told, graph)
