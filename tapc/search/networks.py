"""The networks that proxies are judged on: their measured configurations, and what the device needs of them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import onnx

from tapc.allocate import AllocationProblem
from tapc.base.cache import digest
from tapc.base.errors import DataError
from tapc.base.latency import Latency
from tapc.base.options import Options
from tapc.flow.decide import Distortion, bit_problem, network_cost
from tapc.flow.losses.facts import LayerFacts
from tapc.flow.losses.identities import identities
from tapc.flow.losses.measure import Setup
from tapc.flow.losses.ranking import Ranking
from tapc.flow.losses.table import SEARCHED, LossTable, load_losses, loss_names
from tapc.frontend import FloatModel
from tapc.graph.network import WEIGHT_BITS, Network
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.proxy.columns import COLUMNS, Table
from tapc.quantize import Calibration
from tapc.quantize.runtime import Float
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
        Calibration samples; the first is the one that is run.
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
    board: Board
    target: Target
    device: str | None = None

    @cached_property
    def digest(self) -> str:
        """Identify everything that a measurement depends on, apart from the bits."""
        samples = hashlib.sha256(np.ascontiguousarray(self.samples).tobytes()).hexdigest()
        model = hashlib.sha256(self.onnx.SerializeToString(deterministic=True)).hexdigest()
        return digest(model, samples, self.board.model_dump_json(), self.target.digest)


@dataclass(frozen=True, eq=False)
class OnDevice:
    """A network as the device runs it.

    Attributes
    ----------
    subject : Subject
    problem : AllocationProblem
        For scores of 1, see `tapc.flow.decide.with_scores`.
    """

    subject: Subject
    problem: AllocationProblem


@dataclass(frozen=True, eq=False)
class SearchNetwork:
    """A network with its ground truth.

    Attributes
    ----------
    ranking : Ranking
        Its measured configurations.
    device : OnDevice or None
        Where measurements of the device count.
    setup : Setup or None
        What further configurations are measured with, where programs choose bits themselves.
    identity : str
        See `tapc.frontend.identity`; empty where no more is known than the table.
    """

    ranking: Ranking
    device: OnDevice | None = None
    setup: Setup | None = None
    identity: str = ""

    @property
    def losses(self) -> LossTable:
        """The loss table."""
        return self.ranking.table

    @property
    def name(self) -> str:
        """The network's name."""
        return self.losses.network

    @property
    def content(self) -> str:
        """Digest of the float network, which tells networks apart; see `identity_of`."""
        return self.identity or identity_of(self.losses)

    @cached_property
    def table(self) -> Table:
        """Statistics table, see `tapc.proxy.columns`."""
        return [dict(row) for row in self.losses.statistics]

    @property
    def layers(self) -> tuple[LayerFacts, ...]:
        """What is known of each layer."""
        return self.losses.layers

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers in the order of the table's rows."""
        return [layer.name for layer in self.layers]

    @cached_property
    def errors(self) -> dict[str, float]:
        """Layer -> measured loss when it alone has the lowest bits, rounded as the configurations are."""
        own = self.losses.alone.get(self.ranking.rounding)
        low = str(min(WEIGHT_BITS))
        if own is None:
            return {layer.name: layer.errors[low] for layer in self.layers}
        return {layer.name: losses[0] for layer, losses in zip(self.layers, own, strict=True)}


def identity_of(table: LossTable) -> str:
    """Return the digest of a table's network: that of a shipped network of its name and file, else of the file itself.

    The first knows no names of tensors; see `tapc.frontend.identity`.
    """
    known = identities().get(table.network)
    return known if known is not None and _shipped(table) else table.provenance.model_sha256


def missing_columns(table: LossTable) -> list[str]:
    """Return the columns of today's statistics that a table of an older tapc lacks."""
    return sorted({column.name for column in COLUMNS} - set(table.statistics[0]))


def _shipped(table: LossTable) -> bool:
    return table.provenance.model_sha256 == _shipped_model(table.network)


@lru_cache
def _shipped_model(name: str) -> str:
    known = (*loss_names(), *loss_names(SEARCHED))
    return load_losses(name).provenance.model_sha256 if name in known else ""


def on_device(setup: Setup, table: LossTable, board: Board, target: Target, options: SearchOptions) -> OnDevice:
    """Return a network as the device runs it, with the distortions of its loss table.

    Raises
    ------
    DataError
        The table is of another network.
    """
    network = setup.network
    if [layer.parameters for layer in network.layers] != [layer.parameters for layer in table.layers]:
        raise DataError(f"{table.network}: the loss table has other layers than the network")
    distortion = {
        layer.name: known.distortions
        for layer, known in zip(network.layers, table.layers, strict=True)  # a copy may name its layers otherwise
    }
    x = setup.samples.x
    problem = device_problem(setup.model, network, setup.calibration, x, distortion, board, target, options)
    subject = Subject(table.network, setup.model.onnx, network, setup.calibration, x, board, target, options.device)
    return OnDevice(subject, problem)


def device_problem(
    model: FloatModel, network: Network, calibration: Calibration, x: Float, distortion: Distortion, board: Board,
    target: Target, options: SearchOptions,
) -> AllocationProblem:  # fmt: skip
    """Return the choice of bits on a board, for scores of 1."""
    budgets = allocation_options(options)
    cost = network_cost(model, network, calibration, x, board, target, budgets)
    return bit_problem(network, distortion, cost, board, budgets)


def allocation_options(options: SearchOptions) -> Options:
    """Return the budgets and bits of a search as a compilation's options."""
    latency = None if options.latency is None else Latency(options.latency)
    return Options(
        wbits=options.wbits, abits=options.abits, flash=options.flash, ram=options.ram, latency=latency,
        bops=options.bops, target_bits=options.target_bits, seed=options.seed, no_external=True, no_patches=True,
        optimize="size",
    )  # fmt: skip
