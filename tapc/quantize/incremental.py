"""Rounding learned over the whole network at once, against the float network's output.

Weights are relaxed between two neighbouring codes each, as in AdaRound (arXiv 2004.10568), but no regularizer drives
them apart: those nearest to a code are decided first and those left make up for it, until none is left (incremental
network quantization, arXiv 1702.03044). What the errors of many layers do together is seen here, and only here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tapc.base.progress import Advance
from tapc.graph.analysis import Graph
from tapc.graph.rules import rule
from tapc.quantize.augment import augmented
from tapc.quantize.learn import Learner
from tapc.quantize.relaxed import between, descend, prepare
from tapc.quantize.units import Reconstruction
from tapc.quantize.weights import QuantizedLayer

_REACH = 0.3  # how far a weight starts from its code, against its own distance
_WARM = 0.2  # share of the steps before the first weight is decided
_DECIDED = 0.96  # share of the steps when the last one is
_POWER = 1.5  # of the undecided share as a function of the steps left
_ROUNDS = 200  # at which weights are decided
_MOVES = 0.1  # learning rate of the codes times the number of layers: their moves add up at the output
_BIAS_RATE = 1e-3
_TRAVEL = 2.0  # codes that a weight could move over all steps, at least
_FEW = 512  # samples, below which they are mirrored and shifted
_WIDE, _CROP = 192, 160  # pixels: from larger images squares are cut, which halves the work
_CHUNK = 16


@dataclass(frozen=True)
class Effort:
    """How long is learned.

    Attributes
    ----------
    steps, batch : int
        Gradient steps and samples in each.
    """

    steps: int
    batch: int

    @staticmethod
    def of(macs: int) -> "Effort":
        """Return what takes minutes on two cores for a network of so many MACs."""
        batch = 64 if macs < 50_000_000 else 16
        return Effort(int(min(3000, max(400, 2.0e12 / (batch * max(macs, 1))))), batch)


class _Shares(nn.Module):
    """A layer's weights between two codes each."""

    def __init__(self, start: QuantizedLayer, weights: Tensor) -> None:
        super().__init__()
        self.scales, first, self.base, share, self.bias = between(start, weights, _REACH)
        self.share = nn.Parameter(share)
        # Weights of 8 bits are as good as decided.
        self.fixed = torch.full_like(self.base, start.weights.bits == 8, dtype=torch.bool)
        self.choice = first - self.base

    def weight(self) -> Tensor:
        return (self.base + torch.where(self.fixed, self.choice, self.share)) * self.scales

    def codes(self) -> Tensor:
        """Return the codes decided on, and for the rest those that are nearest."""
        return self.base + torch.where(self.fixed, self.choice, self.share.round())

    @torch.no_grad()
    def decide(self, share: float) -> None:
        """Fix weights at their codes, the nearest first, until so large a share of all is fixed."""
        self.share.clamp_(0, 1)
        missing = round(share * self.base.numel()) - int(self.fixed.sum())
        if missing <= 0:
            return
        distance = (self.share - self.share.round()).abs().masked_fill(self.fixed, math.inf).reshape(-1)
        index = distance.topk(missing, largest=False, sorted=False).indices
        self.choice.view(-1)[index] = self.share.round().view(-1)[index]
        self.fixed.view(-1)[index] = True


class NetworkLearner:
    """Learns the codes and biases of all layers together; see `tapc.quantize.walk.Refiner`.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    owners : mapping of str to str
        Quantized tensor -> the tensor whose parameters it shares.
    effort : Effort
    seed : int
    advance : callable, optional
        Told (steps done, steps).
    pictures : bool
        Samples may be mirrored, shifted and cut where there are few.
    """

    def __init__(
        self,
        graph: Graph,
        owners: Mapping[str, str],
        effort: Effort,
        seed: int,
        advance: Advance | None = None,
        *,
        pictures: bool = False,
    ) -> None:
        self._learner = Learner(graph, owners)
        self._effort, self._seed, self._advance, self._pictures = effort, seed, advance, pictures

    def learn(self, task: Reconstruction) -> dict[str, QuantizedLayer] | None:
        """Learn a unit that reads one tensor; None where samples that were kept back do not gain."""
        if task.eight_bits or len(task.target) < 2:
            return None
        unit, parameters = task.unit, task.parameters
        learner, effort, device = self._learner, self._effort, self._learner.device
        samples = prepare(task)
        ((name, x),) = samples.inputs.items()
        weights = {layer: learner.module.weights()[layer].detach() for layer in unit.layers}
        shares = {layer: _Shares(task.start[layer], weights[layer]) for layer in unit.layers}
        generator = torch.Generator().manual_seed(self._seed)
        crop = _CROP if x.ndim == 4 and min(x.shape[2:]) >= _WIDE and _takes_any_size(learner.graph) else None
        draw = _sampler(
            x, samples.goal, samples.seen, generator, effort.batch, crop,
            lambda batch: learner.exact(unit, {name: batch}), pictures=self._pictures,
        )  # fmt: skip

        def held() -> float:
            return samples.held(lambda x: learner.run(unit, x, shares, parameters, {}, every=True), device, _CHUNK)

        first = {layer: share.fixed.clone() for layer, share in shares.items()}
        for share in shares.values():
            share.fixed.fill_(True)
        before = held()
        for layer, share in shares.items():
            share.fixed.copy_(first[layer])
        rates = [max(_MOVES / len(shares), _TRAVEL / effort.steps), _BIAS_RATE * samples.power**0.5]
        optimizer = torch.optim.Adam(
            [
                {"params": [share.share for share in shares.values()], "lr": rates[0]},
                {"params": [share.bias for share in shares.values()], "lr": rates[1]},
            ]
        )
        for step in range(effort.steps):
            done = step / effort.steps
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
            batch, wanted = draw()
            loss = (learner.run(unit, {name: batch}, shares, parameters, {}) - wanted).square().mean() / samples.power
            descend(optimizer, loss)
            left = max(0.0, min(1.0, (_DECIDED - done) / (_DECIDED - _WARM)))
            decide = step % max(1, effort.steps // _ROUNDS) == 0
            for share in shares.values():
                share.decide(1 - left**_POWER if decide else 0.0)
            if self._advance is not None:
                self._advance(step + 1, effort.steps)
        for share in shares.values():
            share.decide(1.0)
        return learner.rounded(unit, task.start, shares, parameters, {}) if held() < before else None


def _sampler(
    x: Tensor,
    goal: Tensor,
    seen: Tensor,
    generator: torch.Generator,
    size: int,
    crop: int | None,
    teacher: Callable[[Tensor], Tensor],
    *,
    pictures: bool,
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return what draws a batch and what the network should give for it; few pictures are mirrored, shifted and cut."""
    image = pictures and x.ndim == 4 and x.shape[1] == 3 and len(seen) < _FEW
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def draw() -> tuple[Tensor, Tensor]:
        index = seen[torch.randint(0, len(seen), (min(size, len(seen)),), generator=generator)]
        batch = x[index].to(device)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        if not image:
            return batch, goal[index].to(device)
        batch = augmented(batch, generator)
        if crop is not None:
            top, left = (int(torch.randint(0, side - crop + 1, (1,), generator=generator)) for side in batch.shape[2:])
            batch = batch[:, :, top : top + crop, left : left + crop]
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            return batch, teacher(batch)

    return draw


def _takes_any_size(graph: Graph) -> bool:
    """Whether a network computes on images of other sides too: a global pooling comes before what has a fixed shape."""

    def pooled(name: str) -> bool:
        return graph.shape(name)[2:] in ((), (1, 1))

    return all(
        rule(node).any_size or (rule(node).flattens and pooled(str(node.input[0]))) for node in graph.nodes
    ) and any(rule(node).global_pool for node in graph.nodes)
