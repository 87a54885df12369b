"""What share each output channel has in a layer's loss."""

from collections.abc import Mapping

import numpy as np

from tapc.base import worker
from tapc.graph.analysis import Graph
from tapc.graph.network import Network
from tapc.quantize.problem import Doubles
from tapc.quantize.runtime import Float

Errors = Mapping[str, Mapping[int, Doubles]]
"""Layer -> weight bits -> mean squared error of every output channel; see `measured_losses`."""


def channel_shares(
    graph: Graph, network: Network, x: Float, errors: Errors, seed: int
) -> dict[str, dict[int, Doubles]]:
    """Return the shares of a layer's output channels in its loss, at every weight width.

    A channel counts by its error and by what that does to the network's output: the diagonal of what couples the
    channels there (`tapc.quantize.coupling`), where the samples tell it.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    network : Network
    x : float32 (N, ...)
    errors : mapping of str to mapping of int to float64 (outputs,)
    seed : int

    Returns
    -------
    dict of str to dict of int to float64 (outputs,)
        With the sum 1.
    """
    outputs = {str(node.name): str(node.output[0]) for node in graph.nodes if node.name in errors}
    macs = sum(layer.macs for layer in network.layers)
    found: dict[str, Doubles] = worker.call(
        "tapc.quantize.coupling:couplings", graph, np.ascontiguousarray(x, np.float32), sorted(outputs.values()), macs,
        seed,
    )  # fmt: skip
    shares: dict[str, dict[int, Doubles]] = {}
    for name, own in errors.items():
        coupling = found.get(outputs[name])
        shares[name] = {}
        for bits, error in own.items():
            costs = error if coupling is None else error * np.diagonal(coupling)
            total = float(costs.sum())
            shares[name][bits] = costs / total if total > 0 else np.full(len(costs), 1 / len(costs))
    return shares
