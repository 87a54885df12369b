"""What learned rounding starts from: weights between two codes each, and a unit's samples as tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tapc.quantize.units import Reconstruction
from tapc.quantize.weights import QuantizedLayer, code_range

_HELD = 8  # one sample in so many is kept back
_NEAR = 0.49  # how far a latent may lie from its first code, so that it rounds to it


class Relaxed(Protocol):
    """A layer while it is learned."""

    @property
    def bias(self) -> Tensor:
        """Bias in float units, shape (outputs,)."""

    def weight(self) -> Tensor:
        """Return what the layer computes with."""

    def codes(self) -> Tensor:
        """Return the integers that it would be given now."""


class Between(NamedTuple):
    """A layer's weights between two neighbouring codes each.

    Attributes
    ----------
    scales : float32 (outputs, 1, ...)
    first : float32, shape of the weights
        The codes that the layer has.
    base, share : float32, shape of the weights
        The lower code, and how far each weight lies from it to the upper.
    bias : Parameter, float32 (outputs,)
        In float units.
    """

    scales: Tensor
    first: Tensor
    base: Tensor
    share: Tensor
    bias: nn.Parameter


def between(start: QuantizedLayer, weights: Tensor, reach: float = 1.0) -> Between:
    """Relax a layer's weights around the codes that it has.

    Parameters
    ----------
    start : QuantizedLayer
    weights : Tensor
        Those of the float network, on the device that the result should be on.
    reach : float
        How far a weight goes from its code towards the float one, against the way that still rounds to the code.
    """
    given, device = start.weights, weights.device
    low, high = code_range(given.bits)
    scales = torch.from_numpy(given.scales.copy()).to(device).reshape(-1, *[1] * (given.values.ndim - 1))
    first = torch.from_numpy(given.values.astype(np.float32)).to(device)
    latent = (first + reach * (weights / scales - first).clamp(-_NEAR, _NEAR)).clamp(low, high)
    base = latent.floor().clamp(low, high - 1)
    bias = torch.from_numpy(start.bias.astype(np.float32) * start.bias_scales)
    return Between(scales, first, base, latent - base, nn.Parameter(bias.to(device)))


@dataclass(frozen=True, eq=False)
class Samples:
    """A unit's samples.

    Attributes
    ----------
    inputs : dict of str to Tensor (N, ...)
        What it reads in the quantized network.
    goal : Tensor (N, ...)
        What it should give.
    power : float
        Variance of that over the samples; 1 where there is none.
    seen, kept : Tensor of int64
        Indices of the samples to learn from, and of those kept back, which are the last.
    """

    inputs: dict[str, Tensor]
    goal: Tensor
    power: float
    seen: Tensor
    kept: Tensor

    def held(
        self,
        run: Callable[[dict[str, Tensor]], Tensor],
        device: torch.device,
        chunk: int,
        metric: Tensor | None = None,
    ) -> float:
        """Return the cost of a unit's outputs over the samples kept back, so many at once."""
        total = 0.0
        with torch.no_grad():
            for start in range(len(self.seen), len(self.goal), chunk):
                part = slice(start, start + chunk)
                out = run({name: value[part].to(device) for name, value in self.inputs.items()})
                total += float(cost(out - self.goal[part].to(device), metric))
        return total


def prepare(task: Reconstruction) -> Samples:
    """Return a unit's samples as tensors, and which of them are kept back."""
    goal = torch.from_numpy(task.target)
    power = float((goal - goal.mean(0)).square().mean()) or 1.0
    kept = max(1, len(goal) // _HELD)
    indices = torch.arange(len(goal))
    inputs = {name: torch.from_numpy(pair[0]) for name, pair in task.inputs.items()}
    return Samples(inputs, goal, power, indices[:-kept], indices[-kept:])


def cost(error: Tensor, metric: Tensor | None) -> Tensor:
    """Return the sum of e^T G e over samples and positions of errors (N, channels, ...); G is 1 where there is none."""
    if metric is None:
        return error.square().sum()
    flat = error.flatten(2) if error.ndim > 2 else error[:, :, None]
    return ((metric @ flat) * flat).sum()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take a step along the gradients of a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
