r"""Rounding errors of different outputs of a layer, counted together as they meet at the network's output.

An error e of a layer's outputs at one position changes the logits by J e, and their squared error by e^T J^T J e. With
G = E[J^T J] over samples and positions and A the second moments of the layer's inputs, and errors at different
positions taken as independent (K-FAC, arXiv 1503.05671), codes Q for weights W cost

    tr(G (W - Q) A (W - Q)^T),

of which rounding row by row sees G's diagonal only. Two-sided rounding with such factors is YAQA, arXiv 2505.22988.
"""

from collections.abc import Collection

import numpy as np
import torch

from tapc.base.progress import Advance
from tapc.graph.analysis import Graph
from tapc.quantize.curvature import prediction
from tapc.quantize.problem import Doubles
from tapc.quantize.torch_graph import TorchGraph
from tapc.quantize.weights import Float

_SAMPLES = (8, 128)
_MACS = 4 * 10**10
"""Of the forward passes over the samples; there are two backward passes for each."""
_PROBES = 2
_CHUNK = 8
_WIDEST = 2048
"""Channels beyond which a tensor's matrices are not worth their memory."""
_NOISE = 0.9
"""Share of noise beyond which nothing is known of the coupling."""


def couplings(
    graph: Graph, x: Float, tensors: Collection[str], macs: int, seed: int, advance: Advance | None = None
) -> dict[str, Doubles]:
    """Return tensor name -> G (channels, channels), for tensors of which the samples tell it from a diagonal.

    J^T J is estimated by J^T r r^T J with random signs r. Its entries off the diagonal are shrunk by the share of
    their squares that is noise, as the samples' spread says (Schaefer and Strimmer, Stat. Appl. Genet. Mol. Biol. 4,
    2005); the mean of the diagonal is 1.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    x : float32 (N, ...)
        Samples; as many as take seconds.
    tensors : collection of str
        Names of tensors (N, channels, ...).
    macs : int
        Multiply-accumulates of the network.
    seed : int
        Of the samples and signs.
    advance : callable, optional
        Told (samples done, samples).
    """
    sizes = {name: graph.shape(name)[1] for name in tensors if 1 < graph.shape(name)[1] <= _WIDEST}
    if not sizes:
        return {}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Gradients of the tensors alone are wanted; the input's flag makes torch keep them.
    module = TorchGraph(graph).requires_grad_(False).to(device)
    count = min(len(x), max(_SAMPLES[0], min(_SAMPLES[1], _MACS // max(macs, 1))))
    index = np.sort(np.random.default_rng(seed).permutation(len(x))[:count])
    generator = torch.Generator().manual_seed(seed)
    predicted = prediction(graph).scaled(module, torch.from_numpy(x[index]).to(device))
    first = {name: np.zeros((size, size)) for name, size in sizes.items()}
    second = {name: np.zeros((size, size)) for name, size in sizes.items()}
    for start in range(0, count, _CHUNK):
        if advance is not None:
            advance(start, count)
        batch = torch.from_numpy(x[index[start : start + _CHUNK]])
        values = module.tensors(batch.to(device).requires_grad_(), [*sizes, *predicted.tensors])
        logits = predicted.flat(values)
        products = dict.fromkeys(sizes, torch.zeros(()))
        for _ in range(_PROBES):
            signs = torch.randint(0, 2, logits.shape, generator=generator).to(logits.dtype) * 2 - 1
            sources = [values[name] for name in sizes]
            gradients = torch.autograd.grad(logits, sources, signs.to(device), retain_graph=True, allow_unused=True)
            for name, gradient in zip(sizes, gradients, strict=True):
                if gradient is not None:
                    rows = gradient.flatten(2) if gradient.ndim > 2 else gradient[:, :, None]
                    products[name] = products[name] + (rows @ rows.transpose(1, 2)).cpu()
        for name, product in products.items():
            if product.ndim:
                doubles = product.double().numpy()
                first[name] += doubles.sum(axis=0)
                second[name] += np.square(doubles).sum(axis=0)
    found = {name: _shrunk(first[name], second[name], count) for name in sizes}
    return {name: matrix for name, matrix in found.items() if matrix is not None}


def _shrunk(total: Doubles, squares: Doubles, count: int) -> Doubles | None:
    """Return the mean of `count` matrices, from their sum and that of their squares; None where it is noise."""
    diagonal = np.diagonal(total) / count
    level = float(diagonal.mean())
    if count < 2 or not np.isfinite(level) or level <= 0:
        return None
    mean = total / count
    diagonal = np.maximum(diagonal, 1e-3 * level)
    norms = np.outer(diagonal, diagonal)
    off = ~np.eye(len(mean), dtype=bool)
    power = float((np.square(mean) / norms)[off].sum())
    spread = float((np.maximum(squares / count - np.square(mean), 0) / norms)[off].sum()) / (count - 1)
    if power <= 0 or spread > _NOISE * power:
        return None
    result: Doubles = (1 - spread / power) * mean
    result[np.diag_indices_from(result)] = diagonal
    return result / level
