"""Training at a lower rate where the first does more harm than good."""

from dataclasses import dataclass, replace
from pathlib import Path

from tapc.base.progress import Stages
from tapc.data import Samples
from tapc.finetune.train import Training, finetune
from tapc.quantize import QuantizedModel
from tapc.quantize.calibration import HasGraph

SHARES = (1.0, 0.4, 0.16)
"""Of the rate that is asked for; each is tried where those before it did not help."""


@dataclass(frozen=True)
class Trained:
    """What training made of a network.

    Attributes
    ----------
    quantized : QuantizedModel
        The one that it started from, where no rate helped.
    rate : float or None
        That helped.
    before : float
        Loss on the samples kept back.
    after : tuple of (float, float)
        Rate and loss of every run.
    """

    quantized: QuantizedModel
    rate: float | None
    before: float
    after: tuple[tuple[float, float], ...]


def finetune_at_some_rate(
    model: HasGraph, quantized: QuantizedModel, samples: Samples, training: Training, folder: Path, stages: Stages
) -> Trained:
    """Train with the rate that is asked for and, while training does not help, with lower ones.

    Parameters
    ----------
    model, quantized, samples, training
        As for `finetune`.
    folder : Path
        Of the runs' checkpoints.
    stages : Stages
        One per run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before, after = 0.0, []
    for turn, share in enumerate(SHARES):
        rate = training.rate * share
        with stages.stage("finetune" if turn == 0 else f"finetune, rate {rate:g}") as advance:
            found, before, loss = finetune(
                model, quantized, samples, replace(training, rate=rate), checkpoint=folder / f"{turn}.pt",
                advance=advance,
            )  # fmt: skip
        after.append((rate, loss))
        if found is not quantized:
            return Trained(found, rate, before, tuple(after))
    return Trained(quantized, None, before, tuple(after))
