"""The networks that proxies are judged on: everything about them that no proxy changes, computed once."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.allocate import AllocationProblem
from tapc.base.cache import digest
from tapc.base.errors import DataError
from tapc.base.latency import Latency
from tapc.base.options import Options
from tapc.data import Samples
from tapc.data.metrics import choose
from tapc.flow.decide import Distortion, bit_problem, network_cost
from tapc.frontend import FloatModel
from tapc.graph.analysis import analyse
from tapc.graph.network import Network
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.proxy import ProxyContext
from tapc.proxy.columns import Table
from tapc.quantize import Calibration, calibrate, layer_distortion
from tapc.quantize.runtime import Float
from tapc.quantize.sensitivity import proxy_context
from tapc.quantize.statistics import statistics
from tapc.search.options import SearchOptions


@dataclass(frozen=True, eq=False)
class Subject:
    """What a worker needs to quantize, build and run a network; can be sent to another process.

    Attributes
    ----------
    name : str
    onnx : onnx.ModelProto
        Canonical float graph.
    network : Network
    calibration : Calibration
    samples : float32 (N, *input_shape[1:])
        Calibration samples.
    holdout : Samples
        Labelled samples that were not calibrated on.
    board : Board
    target : Target
    device : str or None
        What runs the images; see `tapc.device.choose`.
    """

    name: str
    onnx: onnx.ModelProto
    network: Network
    calibration: Calibration
    samples: Float
    holdout: Samples
    board: Board
    target: Target
    device: str | None = None

    @cached_property
    def digest(self) -> str:
        """Identify everything that a measurement depends on, apart from the bits."""
        arrays: list[NDArray[Any] | None] = [self.samples, self.holdout.x, self.holdout.y]
        parts = [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in arrays if a is not None]
        model = hashlib.sha256(self.onnx.SerializeToString(deterministic=True)).hexdigest()
        return digest(model, parts, self.board.model_dump_json(), self.target.digest)


@dataclass(frozen=True, eq=False)
class SearchNetwork:
    """A network with its ground truth.

    Attributes
    ----------
    subject : Subject
    table : list of dict
        Statistics table, see `tapc.proxy.columns`.
    errors : dict of str to float
        Layer -> relative squared error of the logits when it alone has the lowest bits: what scores should rank.
    problem : AllocationProblem
        For scores of 1, see `tapc.flow.decide.with_scores`.
    context : ProxyContext
        For the built-in proxies.
    """

    subject: Subject
    table: Table
    errors: dict[str, float]
    problem: AllocationProblem
    context: ProxyContext

    @property
    def name(self) -> str:
        """The network's name."""
        return self.subject.name

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers in the order of the table's rows."""
        return [str(row["name"]) for row in self.table]


def prepare(
    model: FloatModel, samples: Samples, holdout: Samples, board: Board, target: Target, options: SearchOptions
) -> SearchNetwork:
    """Compute everything about a network that no proxy changes.

    Parameters
    ----------
    model : FloatModel
    samples, holdout : Samples
        To calibrate on, and labelled ones to measure accuracy on.
    board : Board
    target : Target
    options : SearchOptions

    Raises
    ------
    DataError
        The samples have no labels, or some that are no classes of the network.
    """
    if holdout.y is None:
        raise DataError(f"{model.name}: the search measures accuracy and {holdout.source} has no labels")
    if not (metric := choose("auto", holdout, model.onnx)).classes:
        raise DataError(f"{model.name}: the search needs classes; {holdout.source} leads to the metric {metric.name}")
    network = analyse(model.onnx, model.name)
    calibration = calibrate(model, samples.x, seed=options.seed, pictures=samples.pictures)
    distortion: Distortion = layer_distortion(model, network, calibration, samples.x)
    table = statistics(model, network, calibration, samples.x, distortion)
    low = min(options.wbits)
    context = proxy_context(model, network, calibration, samples.x, distortion, low, options.seed)
    assert context.output_error is not None
    errors = {layer.name: context.output_error(layer.name, low) for layer in network.layers}
    budgets = allocation_options(options)
    cost = network_cost(model, network, calibration, samples.x, board, target, budgets)
    problem = bit_problem(network, distortion, cost, board, budgets)
    subject = Subject(model.name, model.onnx, network, calibration, samples.x, holdout, board, target, options.device)
    return SearchNetwork(subject, table, errors, problem, context)


def allocation_options(options: SearchOptions) -> Options:
    """Return the budgets and bits of a search as a compilation's options."""
    latency = None if options.latency is None else Latency(options.latency)
    return Options(
        wbits=options.wbits, abits=options.abits, flash=options.flash, ram=options.ram, latency=latency,
        bops=options.bops, target_bits=options.target_bits, seed=options.seed, no_external=True, no_patches=True,
        optimize="size",
    )  # fmt: skip


def divide(samples: Samples, calibration: int, path: Path) -> tuple[Samples, Samples]:
    """Divide shuffled samples of the training set into those to calibrate on and the hold-out.

    Raises
    ------
    DataError
        Nothing is left to hold out.
    """
    if len(samples.x) <= calibration:
        raise DataError(
            f"{path}: {len(samples.x)} training samples, and {calibration} are calibrated on: none is left to measure "
            "accuracy on; lower --calibration or give more data"
        )
    x, y = samples.x, samples.y
    first = replace(samples, x=x[:calibration], y=None if y is None else y[:calibration])
    rest = replace(samples, x=x[calibration:], y=None if y is None else y[calibration:])
    return first, rest
