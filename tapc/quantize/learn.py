"""Learned rounding: codes, biases and activation steps of a unit are trained to give what it gives in float.

Weights are relaxed as in AdaRound (arXiv 2004.10568): each lies between two neighbouring codes, softly, and a
regularizer drives it to one of them. Units are layers (AdaRound) or blocks (BRECQ, arXiv 2102.05426); their inputs mix
those of the quantized and of the float network (QDrop, arXiv 2203.05740). Steps of activations below 8 bits are
learned too (LSQ, arXiv 1902.08153). What learning does not improve on samples that it did not see is left as it was.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from tapc.graph.analysis import Graph
from tapc.graph.rules import rule
from tapc.quantize.activations import ActivationParameters
from tapc.quantize.relaxed import Relaxed, between, cost, descend, prepare
from tapc.quantize.torch_graph import TorchGraph
from tapc.quantize.units import Reconstruction, Unit
from tapc.quantize.weights import QuantizedLayer, QuantizedWeights, integer_bias

_LOW, _HIGH = -0.1, 1.1  # of the stretched sigmoid
_GAIN = 0.97  # of the error that a unit must come below where it is weighed by an estimate: chance favours some units
_CHUNK = 64
_WARM = 0.2  # share of the steps without the regularizer
_STRONG = 50.0  # regularizer against the error at the start
_BETA = (20.0, 2.0)
_DECIDED = 1e-3
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

    def __init__(self, start: QuantizedLayer, weights: Tensor) -> None:
        super().__init__()
        self.scales, _, self.base, share, self.bias = between(start, weights)
        share = share.clamp(0.01, 0.99)
        self.soft = nn.Parameter(-torch.log((_HIGH - _LOW) / (share - _LOW) - 1))
        self.hard = False

    def to_device(self, device: torch.device) -> "_Layer":
        self.scales, self.base = self.scales.to(device), self.base.to(device)
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

    def learn(self, task: Reconstruction) -> Learned | None:
        """Learn a unit; None where that does not improve it."""
        unit, parameters, learning = task.unit, task.parameters, self.learning
        learned_scales = self._own_scales(unit, parameters)
        if (task.eight_bits and not learned_scales) or len(task.target) < 2:
            return None
        generator = torch.Generator().manual_seed(learning.seed)
        samples = prepare(task)
        goal, power, seen = samples.goal, samples.power, len(samples.seen)
        exact = {name: torch.from_numpy(pair[1]) for name, pair in task.inputs.items()}
        metric = None if task.coupling is None else torch.from_numpy(task.coupling).float().to(self.device)
        weights = {name: self.module.weights()[name].detach().cpu() for name in unit.layers}
        layers = {name: _Layer(task.start[name], weights[name]).to_device(self.device) for name in unit.layers}
        logs = {name: nn.Parameter(torch.zeros((), device=self.device)) for name in learned_scales}

        def run(values: dict[str, Tensor], first: bool = False) -> Tensor:
            scales = {name: scale * logs[name].exp() for name, scale in learned_scales.items()}
            return self.run(unit, values, layers, parameters, {} if first else scales)

        def held() -> float:
            total = samples.held(run, self.device, _CHUNK, metric)
            return total / (len(samples.kept) * goal[0].numel()) / power

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
            index = torch.randint(0, seen, (min(learning.batch, seen),), generator=generator)
            values = {}
            for name, value in samples.inputs.items():
                part = value[index]
                if learning.mix:
                    part = torch.where(
                        torch.rand(part.shape, generator=generator) < learning.mix, exact[name][index], part
                    )
                values[name] = part.to(self.device)
            error = run(values) - goal[index].to(self.device)
            loss = cost(error, metric) / (error.numel() * power)
            done = step / learning.steps
            if done > _WARM:
                beta = _BETA[1] + (_BETA[0] - _BETA[1]) * 0.5 * (1 + math.cos(math.pi * (done - _WARM) / (1 - _WARM)))
                doubt = sum((1 - (2 * layer.share() - 1).abs().pow(beta)).sum() for layer in layers.values()) / count
                loss = loss + _STRONG * before * doubt
                if step % 50 == 0 and float(torch.as_tensor(doubt).detach()) < _DECIDED:
                    break
            descend(optimizer, loss)
        for layer in layers.values():
            layer.hard = True
        after = held()
        if not after < (1.0 if metric is None else _GAIN) * before:
            return None
        scales = {name: float(np.float32(scale * logs[name].exp().item())) for name, scale in learned_scales.items()}
        return Learned(self.rounded(unit, task.start, layers, parameters, scales), scales, before, after)

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
            elif rule(node).nearest:
                operands += [self.module.weights()[node.name], self.module.biases()[node.name]]
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
            if rule(node).weighted or rule(node).nearest:
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
