"""What an error of a layer's outputs does to the logits.

An error e at one place changes the logits by J e. Errors that are independent between places and channels change them
by the sum of J's squares, which backward passes give for all layers at once: the squared gradients of r^T logits over
random signs r (Hutchinson). It is the first-order view of a network that HAWQ-V2 (arXiv 1911.03852) has by Hessians.
"""

from collections.abc import Mapping

import numpy as np
import torch

from tapc.graph.analysis import Graph
from tapc.graph.rules import rule
from tapc.quantize.influence import Gains
from tapc.quantize.problem import Doubles
from tapc.quantize.runtime import Float
from tapc.quantize.torch_graph import TorchGraph

_PROBES = 8
_CHUNK = 4


def gains(graph: Graph, x: Float, tensors: Mapping[str, int], seed: int = 0) -> dict[str, Gains]:
    """Return what errors of tensors do to the scores of a network.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    x : float32 (N, ...)
        Samples.
    tensors : mapping of str to int
        Tensors (N, ...) and the axis of their channels.
    seed : int
        Of the signs.
    """
    if not tensors:
        return {}
    module = TorchGraph(graph).requires_grad_(False)
    for node in graph.nodes:
        if rule(node).table:  # tokens have no gradient that torch could follow to what reads them
            module.weights()[node.name].requires_grad_()
    scores = tuple(dict.fromkeys(graph.scores(name) for name in graph.outputs))
    with torch.no_grad():
        exact = module.tensors(torch.from_numpy(x), scores)
    spread = {name: float((v - v.mean(0)).square().double().sum()) / len(x) or 1.0 for name, v in exact.items()}
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Doubles]] = {}
    for start in range(0, len(x), _CHUNK):
        batch = torch.from_numpy(x[start : start + _CHUNK]).requires_grad_()
        values = module.tensors(batch, [*tensors, *scores])
        for _ in range(_PROBES):
            signs = [
                (torch.randint(0, 2, values[name].shape, generator=generator) * 2 - 1) / spread[name] ** 0.5
                for name in scores
            ]
            outputs, sources = [values[name] for name in scores], [values[name] for name in tensors]
            gradients = torch.autograd.grad(outputs, sources, signs, retain_graph=True, allow_unused=True)
            for (name, axis), gradient in zip(tensors.items(), gradients, strict=True):
                if gradient is not None:
                    rows = gradient.movedim(axis, 1).flatten(2) if gradient.ndim > 2 else gradient[:, :, None]
                    parts = rows.square().sum(2), rows.sum(2).square()
                    own = found.setdefault(name, [np.zeros(rows.shape[1]), np.zeros(rows.shape[1])])
                    for total, part in zip(own, parts, strict=True):
                        total += part.double().sum(0).numpy()
    count = _PROBES * len(x)
    return {name: Gains(apart / count, alike / count) for name, (apart, alike) in found.items()}
