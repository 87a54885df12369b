r"""Curvature of a network's own predictive distribution with respect to each layer's weights.

The distribution p(y | x, w) is categorical where the network classifies: a final Softmax, or a flat output of more
than one and fewer values than the input, taken as logits. Else it is Gaussian with unit variance around the output,
as for an autoencoder; so it is for several outputs, each over its deviation. With f the output (logits), J its
Jacobian with respect to the weights of one layer and
C = diag(p) - p p^T (categorical) or the identity (Gaussian), the Fisher information of a sample is

    F = E_{y ~ p} [ d log p(y)/dw  d log p(y)/dw^T ] = J^T C J .

The Hessian of the loss against the network's own answer (cross-entropy with its most likely class; half the squared
error around its own output) is F + sum_k dL/df_k d2f_k/dw2. Every canonical operator but Softmax is linear or
piecewise linear, so f is piecewise linear in the weights of ONE layer, the second term vanishes, and the layer's
block of the Hessian IS F, whatever the label. Where a Softmax stands before the last layer, F is the Gauss-Newton
approximation, which unlike the Hessian is never negative.

With few outputs (`EXACT_ROWS`) the rows sqrt(p_k) (e_k - p)^T J of all samples are computed: F's diagonal, and with it
the trace, are then exact, and the largest eigenvalue is that of the rows' Gram matrix. With many, the diagonal is the
mean square of J^T C^(1/2) r over random signs r (Hutchinson's estimator, Rademacher), one backward pass for all
layers and samples at once, and the eigenvalue comes from power iteration.

Sources: Fisher and Gauss-Newton, Martens, arXiv 1412.1193; Hutchinson and power iteration for quantization, HAWQ,
arXiv 1905.03696, and HAWQ-V2, arXiv 1911.03852.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapc.base.errors import DataError
from tapc.base.progress import Advance
from tapc.graph.analysis import Graph, attribute
from tapc.graph.rules import rule
from tapc.quantize.torch_graph import TorchGraph

EXACT_ROWS = 1024
EXACT_BYTES = 1 << 30
PROBES = 64
TOLERANCE = 1e-3
MAX_ITERATIONS = 100

Double = NDArray[np.float64]


def _overflow(layer: str) -> DataError:
    return DataError(f"layer {layer!r}: its derivatives overflow on the calibration data; check weights and samples")


@dataclass(frozen=True)
class Prediction:
    """How a network's output is read as a distribution.

    Attributes
    ----------
    kind : {"categorical", "gaussian"}
    tensors : tuple of str
        The logits, or the mean of the Gaussian: a tensor of the graph; of several outputs, one each.
    axis : int
        Axis of the classes; the others index independent variables.
    scales : tuple of float
        What each of several tensors is multiplied by.
    """

    kind: str
    tensors: tuple[str, ...]
    axis: int = 1
    scales: tuple[float, ...] = ()

    def flat(self, found: Mapping[str, Tensor]) -> Tensor:
        """Return the tensors (N, ...) as (N, variables, classes)."""
        if len(self.tensors) > 1:
            scales = self.scales or (1.0,) * len(self.tensors)
            parts = [found[name].flatten(1) * scale for name, scale in zip(self.tensors, scales, strict=True)]
            return torch.cat(parts, 1)[:, None]
        values = found[self.tensors[0]]
        return values.movedim(self.axis, -1).flatten(1, -2) if values.ndim > 2 else values[:, None]

    def scaled(self, net: TorchGraph, x: Tensor) -> "Prediction":
        """Return it with each of several tensors relative to its deviation on samples x (N, ...)."""
        if len(self.tensors) == 1:
            return self
        with torch.no_grad():
            found = net.tensors(x, self.tensors)
        spreads = [float((found[name] - found[name].mean(0)).square().sum(0).sum()) for name in self.tensors]
        return replace(self, scales=tuple(math.sqrt(len(x) / spread) if spread else 1.0 for spread in spreads))

    def root(self, flat: Tensor, vectors: Tensor) -> Tensor:
        """Return C^(1/2) times vectors: B with B B^T = C, columns sqrt(p_k) (e_k - p); both (N, variables, classes)."""
        if self.kind == "gaussian":
            return vectors
        p = flat.softmax(-1)
        weighted = p.sqrt() * vectors
        return weighted - p * weighted.sum(-1, keepdim=True)

    def covariance(self, flat: Tensor, vectors: Tensor) -> Tensor:
        """Return C times vectors; both (N, variables, classes)."""
        if self.kind == "gaussian":
            return vectors
        p = flat.softmax(-1)
        return p * (vectors - (p * vectors).sum(-1, keepdim=True))


def prediction(graph: Graph) -> Prediction:
    """Return how the network's output is read; see the module's text for the rule."""
    if len(graph.outputs) > 1:
        return Prediction("gaussian", tuple(dict.fromkeys(graph.scores(name) for name in graph.outputs)))
    last = graph.producer[graph.output]
    if rule(last).distribution:
        shape = graph.shape(graph.output)
        return Prediction("categorical", (str(last.input[0]),), int(attribute(last, "axis", -1)) % len(shape))
    if (scores := graph.scores(graph.output)) != graph.output:
        return Prediction("categorical", (scores,))
    shape, outputs = graph.shape(graph.output), math.prod(graph.shape(graph.output))
    flat = math.prod(shape[2:]) == 1
    classifies = flat and 1 < outputs < sum(port.size for port in graph.input_ports)
    return Prediction("categorical" if classifies else "gaussian", (graph.output,))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small operators lose up to tenfold to waiting for threads; and one thread gives the same bits everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Curvature:
    """Fisher information and largest Hessian eigenvalue of every layer of a network.

    Computed in one thread.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    x : float32 (N, *input_shape[1:])
        Samples; results are means over them.
    seed : int
        Of the random probes.
    dtype : torch.dtype
        Of the computation; sums and eigenvalues are in float64 in any case.
    exact_rows : int
        Samples times outputs up to which results are exact.
    advance : callable, optional
        Told (done, total).

    Raises
    ------
    DataError
        Samples of another shape than the network's input, or derivatives that overflow.
    """

    def __init__(
        self,
        graph: Graph,
        x: NDArray[np.float32],
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        exact_rows: int = EXACT_ROWS,
        advance: Advance | None = None,
    ) -> None:
        self._net = TorchGraph(graph, dtype).requires_grad_(False)
        self._x = torch.tensor(x, dtype=dtype)
        self.prediction = prediction(graph).scaled(self._net, self._x)
        self._seed = seed
        self._advance = advance or (lambda done, total: None)
        outputs = sum(math.prod(graph.shape(name)) for name in self.prediction.tensors)
        parameters = sum(weight.numel() for weight in self._net.weight)
        self.rows = len(x) * outputs
        self.exact = self.rows <= exact_rows and self.rows * parameters * self._x.element_size() <= EXACT_BYTES

    @cached_property
    def fisher(self) -> dict[str, Double]:
        """Layer name -> diagonal of the Fisher information in the shape of the weights, float64."""
        with _one_thread():
            diagonals = self._exact[0] if self.exact else self._probed()
        for name, diagonal in diagonals.items():
            if not np.isfinite(diagonal).all():
                raise _overflow(name)
        return diagonals

    def top_eigenvalue(self) -> dict[str, float]:
        """Return layer name -> largest eigenvalue of the layer's Hessian.

        Exact, or by power iteration from a seeded vector until an iteration changes the value by less than 0.1 %, at
        most 100 times.
        """
        with _one_thread():
            values = self._exact[1] if self.exact else self._iterated()
        for name, value in values.items():
            if not math.isfinite(value):
                raise _overflow(name)
        return values

    @cached_property
    def _exact(self) -> tuple[dict[str, Double], dict[str, float]]:
        """Diagonals and largest eigenvalues from one backward pass per sample and output."""
        weights = self._leaves()
        rows: dict[str, list[Tensor]] = {name: [] for name in weights}
        for index in range(len(self._x)):
            out = self._output(self._x[index : index + 1], weights)
            flat = out.detach()
            for unit in torch.eye(flat.numel(), dtype=flat.dtype):
                direction = self.prediction.root(flat, unit.reshape(flat.shape))
                gradients = torch.autograd.grad(out, list(weights.values()), direction, retain_graph=True)
                for name, gradient in zip(weights, gradients, strict=True):
                    rows[name].append(gradient.flatten())
            self._advance(index + 1, len(self._x))
        diagonals: dict[str, Double] = {}
        largest: dict[str, float] = {}
        for name, weight in weights.items():
            matrix = torch.stack(rows.pop(name)).double().numpy() / math.sqrt(len(self._x))
            diagonals[name] = np.square(matrix).sum(axis=0).reshape(weight.shape)
            gram = matrix @ matrix.T
            # Rounding may leave a largest eigenvalue of zero slightly below it.
            largest[name] = max(0.0, float(np.linalg.eigvalsh(gram)[-1])) if np.isfinite(gram).all() else math.nan
        return diagonals, largest

    def _probed(self) -> dict[str, Double]:
        """Diagonals estimated with random signs; samples are independent, so that one pass serves them all."""
        weights = self._leaves()
        generator = torch.Generator().manual_seed(self._seed)
        out = self._output(self._x, weights)
        flat = out.detach()
        sums = {name: np.zeros(tuple(weight.shape)) for name, weight in weights.items()}
        for probe in range(PROBES):
            signs = torch.randint(0, 2, flat.shape, generator=generator).to(flat.dtype) * 2 - 1
            gradients = torch.autograd.grad(
                out, list(weights.values()), self.prediction.root(flat, signs), retain_graph=True
            )
            for name, gradient in zip(weights, gradients, strict=True):
                sums[name] += np.square(gradient.double().numpy())
            self._advance(probe + 1, PROBES)
        return {name: value / (PROBES * len(self._x)) for name, value in sums.items()}

    def _iterated(self) -> dict[str, float]:
        result: dict[str, float] = {}
        for index, name in enumerate(self._net.layers):
            result[name] = self._power_iteration(name, torch.Generator().manual_seed(self._seed + index))
            self._advance(index + 1, len(self._net.layers))
        return result

    def _power_iteration(self, layer: str, generator: torch.Generator) -> float:
        weight = self._leaves()[layer]
        out = self._output(self._x, {layer: weight})
        flat = out.detach()
        # J^T u is linear in u, so that its derivative with respect to u, applied to v, is J v.
        dummy = torch.zeros_like(out, requires_grad=True)
        (transposed,) = torch.autograd.grad(out, weight, dummy, create_graph=True)
        vector = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        vector /= vector.norm()
        value = 0.0
        for _ in range(MAX_ITERATIONS):
            (forward,) = torch.autograd.grad(transposed, dummy, vector, retain_graph=True)
            (product,) = torch.autograd.grad(
                out, weight, self.prediction.covariance(flat, forward) / len(self._x), retain_graph=True
            )
            previous, value = value, float(product.double().norm())
            if value == 0 or not math.isfinite(value) or abs(value - previous) <= TOLERANCE * value:
                break
            vector = product / product.norm()
        return value

    def _leaves(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone().requires_grad_() for name, weight in self._net.weights().items()}

    def _output(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Return the logits or means as (N, variables, classes)."""
        return self.prediction.flat(self._net.tensors(x, self.prediction.tensors, weights))
