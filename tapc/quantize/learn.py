"""Learned rounding: codes, biases and activation steps of a unit are trained to give what it gives in float.

Weights are relaxed as in AdaRound (arXiv 2004.10568): each lies between two neighbouring codes, softly, and a
regularizer drives it to one of them. Units are layers (AdaRound) or blocks (BRECQ, arXiv 2102.05426); their inputs mix
those of the quantized and of the float network (QDrop, arXiv 2203.05740). Steps of activations below 8 bits are
learned too (LSQ, arXiv 1902.08153). What learning does not improve on samples that it did not see is left as it was.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tapc.graph.analysis import Graph
from tapc.graph.rules import rule
from tapc.quantize.activations import ActivationParameters
from tapc.quantize.problem import Doubles
from tapc.quantize.runtime import Float
from tapc.quantize.torch_graph import TorchGraph
from tapc.quantize.units import Unit
from tapc.quantize.weights import QuantizedLayer, QuantizedWeights, code_range, integer_bias

_LOW, _HIGH = -0.1, 1.1  # of the stretched sigmoid
_HELD = 8  # one sample in so many is kept back
_GAIN = 0.97  # of the error that a unit must come below where it is weighed by an estimate: chance favours some units
_CHUNK = 64
_WARM = 0.2  # share of the steps without the regularizer
_STRONG = 50.0  # regularizer against the error at the start
_BETA = (20.0, 2.0)
_DECIDED = 1e-3
_REACH = 0.49  # of a latent around its first code, so that it rounds to it
_CODE_RATE, _BIAS_RATE, _STEP_RATE = 0.1, 1e-3, 1e-3


@dataclass(frozen=True)
class Learning:
    """How much is learned.

    Attributes
    ----------
    steps, batch : int
        Gradient steps per unit, at most, and samples in each.
    mix : float
        Share of a unit's input values that are taken from the float network.
    seed : int
    """

    steps: int = 600
    batch: int = 32
    mix: float = 0.5
    seed: int = 0


class Relaxed(Protocol):
    """A layer while it is learned."""

    @property
    def bias(self) -> Tensor:
        """Bias in float units, shape (outputs,)."""

    def weight(self) -> Tensor:
        """Return what the layer computes with."""

    def codes(self) -> Tensor:
        """Return the integers that it would be given now."""


def split(n: int) -> tuple[Tensor, Tensor]:
    """Return the indices of n samples to learn from, and of those kept back."""
    kept = max(1, n // _HELD)
    return torch.arange(n - kept), torch.arange(n - kept, n)


class Rounded(torch.autograd.Function):
    """Rounding whose gradient is 1."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        """Round half to even."""
        return x.round()

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> Tensor:
        """Pass the gradient on."""
        return gradients[0]


def fake_quantize(values: Tensor, parameters: ActivationParameters, scale: Tensor | float) -> Tensor:
    """Quantize and dequantize activations with a scale that may be learned."""
    rounded: Tensor = Rounded.apply(values / scale) + parameters.zero_point  # type: ignore[no-untyped-call]
    return (rounded.clamp(parameters.low, parameters.high) - parameters.zero_point) * scale


class _Layer(nn.Module):
    """A layer's relaxed codes around those that it starts from."""

    def __init__(self, start: QuantizedLayer, weights: Float) -> None:
        super().__init__()
        given = start.weights
        low, high = code_range(given.bits)
        shape = (-1, *[1] * (given.values.ndim - 1))
        self.scales = torch.from_numpy(given.scales.copy()).reshape(shape)
        self.first = torch.from_numpy(given.values.astype(np.float32))
        # A latent that rounds to the first code, as near to the float weight as that allows.
        latent = self.first + (torch.from_numpy(weights) / self.scales - self.first).clamp(-_REACH, _REACH)
        latent = latent.clamp(low, high)
        self.base = latent.floor().clamp(low, high - 1)
        share = (latent - self.base).clamp(0.01, 0.99)
        self.soft = nn.Parameter(-torch.log((_HIGH - _LOW) / (share - _LOW) - 1))
        self.bias = nn.Parameter(torch.from_numpy(start.bias.astype(np.float32) * start.bias_scales))
        self.hard = False

    def to_device(self, device: torch.device) -> "_Layer":
        self.scales, self.first, self.base = (t.to(device) for t in (self.scales, self.first, self.base))
        return self.to(device)

    def share(self) -> Tensor:
        """Return how far each weight is from the lower of its codes to the upper, 0..1."""
        return (torch.sigmoid(self.soft) * (_HIGH - _LOW) + _LOW).clamp(0, 1)

    def codes(self) -> Tensor:
        """Return the codes decided on."""
        return self.base + (self.share() > 0.5).float()

    def weight(self) -> Tensor:
        return (self.codes() if self.hard else self.base + self.share()) * self.scales

    def undecided(self) -> Tensor:
        return 1 - (2 * self.share() - 1).abs()


@dataclass(frozen=True, eq=False)
class Learned:
    """What learning made of a unit.

    Attributes
    ----------
    layers : dict of str to QuantizedLayer
    scales : dict of str to float
        Activation scales that changed, by the tensor that owns them.
    before, after : float
        Error on the samples kept back, relative to the output's variance.
    """

    layers: dict[str, QuantizedLayer]
    scales: dict[str, float]
    before: float
    after: float


class Learner:
    """Learns unit after unit of one network.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    owners : mapping of str to str
        Quantized tensor -> the tensor whose parameters it shares.
    learning : Learning
    """

    def __init__(self, graph: Graph, owners: Mapping[str, str], learning: Learning | None = None) -> None:
        self.graph, self.owners, self.learning = graph, owners, learning or Learning()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module = TorchGraph(graph).to(self.device)

    def learn(
        self,
        unit: Unit,
        start: Mapping[str, QuantizedLayer],
        parameters: Mapping[str, ActivationParameters],
        inputs: Mapping[str, tuple[Float, Float]],
        target: Float,
        coupling: Doubles | None = None,
    ) -> Learned | None:
        """Learn a unit; None where that does not improve it.

        Parameters
        ----------
        unit : Unit
        start : mapping of str to QuantizedLayer
            By layer name.
        parameters : mapping of str to ActivationParameters
            Per quantized tensor.
        inputs : mapping of str to (float32 (N, ...), float32 (N, ...))
            What the unit reads in the quantized and in the float network.
        target : float32 (N, ...)
            What it should give.
        coupling : float64 (channels, channels), optional
            How errors of its channels meet at the network's output; without it, their squares count alike.
        """
        learning, n = self.learning, len(target)
        learned_scales = self._own_scales(unit, parameters)
        if (all(layer.weights.bits == 8 for layer in start.values()) and not learned_scales) or n < 2:
            return None
        generator = torch.Generator().manual_seed(learning.seed)
        quantized = {name: torch.from_numpy(pair[0]) for name, pair in inputs.items()}
        exact = {name: torch.from_numpy(pair[1]) for name, pair in inputs.items()}
        goal = torch.from_numpy(target)
        metric = None if coupling is None else torch.from_numpy(coupling).float().to(self.device)
        power = float((goal - goal.mean(0)).square().mean()) or 1.0
        weights = {name: self.module.weights()[name].detach().cpu().numpy() for name in unit.layers}
        layers = {name: _Layer(start[name], weights[name]).to_device(self.device) for name in unit.layers}
        logs = {name: nn.Parameter(torch.zeros((), device=self.device)) for name in learned_scales}
        kept = max(1, n // _HELD)

        def run(values: dict[str, Tensor], first: bool = False) -> Tensor:
            scales = {name: scale * logs[name].exp() for name, scale in learned_scales.items()}
            return self.run(unit, values, layers, parameters, {} if first else scales)

        def held() -> float:
            total = 0.0
            with torch.no_grad():
                for i in range(n - kept, n, _CHUNK):
                    part = slice(i, min(i + _CHUNK, n))
                    out = run({name: value[part].to(self.device) for name, value in quantized.items()})
                    total += float(_cost(out - goal[part].to(self.device), metric))
            return total / (kept * goal[0].numel()) / power

        for layer in layers.values():
            layer.hard = True
        before = held()
        for layer in layers.values():
            layer.hard = False
        optimizer = torch.optim.Adam(
            [
                {"params": [layer.soft for layer in layers.values()], "lr": _CODE_RATE},
                {"params": [layer.bias for layer in layers.values()], "lr": _BIAS_RATE * power**0.5},
                {"params": list(logs.values()), "lr": _STEP_RATE},
            ]
        )
        count = sum(layer.soft.numel() for layer in layers.values())
        for step in range(learning.steps):
            index = torch.randint(0, n - kept, (min(learning.batch, n - kept),), generator=generator)
            values = {}
            for name, value in quantized.items():
                part = value[index]
                if learning.mix:
                    part = torch.where(
                        torch.rand(part.shape, generator=generator) < learning.mix, exact[name][index], part
                    )
                values[name] = part.to(self.device)
            error = run(values) - goal[index].to(self.device)
            loss = _cost(error, metric) / (error.numel() * power)
            done = step / learning.steps
            if done > _WARM:
                beta = _BETA[1] + (_BETA[0] - _BETA[1]) * 0.5 * (1 + math.cos(math.pi * (done - _WARM) / (1 - _WARM)))
                doubt = sum((1 - (2 * layer.share() - 1).abs().pow(beta)).sum() for layer in layers.values()) / count
                loss = loss + _STRONG * before * doubt
                if step % 50 == 0 and float(torch.as_tensor(doubt).detach()) < _DECIDED:
                    break
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        for layer in layers.values():
            layer.hard = True
        after = held()
        if not after < (1.0 if metric is None else _GAIN) * before:
            return None
        scales = {name: float(np.float32(scale * logs[name].exp().item())) for name, scale in learned_scales.items()}
        return Learned(self.rounded(unit, start, layers, parameters, scales), scales, before, after)

    def _own_scales(self, unit: Unit, parameters: Mapping[str, ActivationParameters]) -> dict[str, float]:
        """Return the scales below 8 bits that belong to tensors made in this unit."""
        made = {str(node.output[0]) for node in unit.nodes}
        sharing: dict[str, set[str]] = {}
        for name, owner in self.owners.items():
            sharing.setdefault(owner, set()).add(name)
        return {
            name: parameters[name].scale
            for name in sorted(made)
            if name in parameters and self.owners[name] == name and parameters[name].bits < 8 and sharing[name] <= made
        }

    def run(
        self,
        unit: Unit,
        values: Mapping[str, Tensor],
        layers: Mapping[str, Relaxed],
        parameters: Mapping[str, ActivationParameters],
        scales: Mapping[str, Tensor],
        every: bool = False,
    ) -> Tensor:
        """Return a unit's output from relaxed layers; `scales` replaces those of activations, by owner.

        Rounding to 8 bits is simulated only where `every` is asked for: learning through it only adds noise.
        """
        found, last = dict(values), _last_uses(self.graph, unit)
        for node in unit.nodes:
            operands = [found[name] for name in self.graph.activations(node)]
            for name in last[node.name]:
                del found[name]
            if rule(node).weighted:
                layer = layers[node.name]
                operands += [layer.weight(), layer.bias]
            output = str(node.output[0])
            value = self.module.step(output)(operands)
            if output in parameters and (every or parameters[output].bits < 8):
                owner = self.owners[output]
                value = fake_quantize(value, parameters[output], scales.get(owner, parameters[output].scale))
            found[output] = value
        return found[unit.output]

    def exact(self, unit: Unit, values: Mapping[str, Tensor]) -> Tensor:
        """Return a unit's output in float."""
        weights, biases, found = self.module.weights(), self.module.biases(), dict(values)
        last = _last_uses(self.graph, unit)
        for node in unit.nodes:
            operands = [found[name] for name in self.graph.activations(node)]
            for name in last[node.name]:
                del found[name]
            if rule(node).weighted:
                operands += [weights[node.name], biases[node.name]]
            found[str(node.output[0])] = self.module.step(str(node.output[0]))(operands)
        return found[unit.output]

    def rounded(
        self,
        unit: Unit,
        start: Mapping[str, QuantizedLayer],
        layers: Mapping[str, Relaxed],
        parameters: Mapping[str, ActivationParameters],
        scales: Mapping[str, float],
    ) -> dict[str, QuantizedLayer]:
        """Return the integers of relaxed layers; `scales` replaces those of activations, by owner."""
        result = {}
        sources = {str(node.name): str(node.input[0]) for node in unit.nodes if rule(node).weighted}
        for name, layer in layers.items():
            given = start[name].weights
            with torch.no_grad():
                codes = layer.codes().cpu().numpy().astype(np.int8)
                bias = layer.bias.detach().cpu().numpy()
            source = sources[name]
            scale = scales.get(self.owners[source], parameters[source].scale)
            bias_scales = np.float32(scale) * given.scales
            result[name] = QuantizedLayer(
                QuantizedWeights(codes, given.scales, given.bits), integer_bias(bias, bias_scales), bias_scales
            )
        return result


def _cost(error: Tensor, metric: Tensor | None) -> Tensor:
    """Return the sum of e^T G e over samples and positions of errors (N, channels, ...); G is 1 where there is none."""
    if metric is None:
        return error.square().sum()
    flat = error.flatten(2) if error.ndim > 2 else error[:, :, None]
    return ((metric @ flat) * flat).sum()


def with_scales(
    parameters: Mapping[str, ActivationParameters], owners: Mapping[str, str], scales: Mapping[str, float]
) -> dict[str, ActivationParameters]:
    """Return activation parameters with other scales, by owner."""
    return {
        name: replace(given, scale=scales[owners[name]]) if owners[name] in scales else given
        for name, given in parameters.items()
    }


def _last_uses(graph: Graph, unit: Unit) -> dict[str, list[str]]:
    """Return by node which of the tensors that it reads no later node of the unit does."""
    readers = {name: str(node.name) for node in unit.nodes for name in graph.activations(node)}
    result: dict[str, list[str]] = {str(node.name): [] for node in unit.nodes}
    for name, reader in readers.items():
        result[reader].append(name)
    return result
