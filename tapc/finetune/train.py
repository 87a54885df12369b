"""Distillation of the float network into the quantized one."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tapc.base.errors import DataError, UnsupportedError
from tapc.data import Samples
from tapc.data.choice import check_classes
from tapc.finetune.network import QuantizedGraph
from tapc.graph.analysis import Graph
from tapc.quantize.augment import augmented
from tapc.quantize.calibration import HasGraph
from tapc.quantize.export import export_qdq
from tapc.quantize.model import QuantizedModel
from tapc.quantize.relaxed import descend
from tapc.quantize.torch_graph import TorchGraph

METHOD = "finetune"
_HELD = 20
_CHUNK = 256
_HARD = 0.1
_STEP_SHARE = 0.1
_FORMAT = 2
"""Of checkpoints: those of another are not used."""


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
    batch : int
    rate : float
        Largest learning rate of the weights (Adam), relative to each layer's root mean square; the logarithms of the
        steps take a tenth of it. A cosine takes both to zero.
    temperature : float
        Of the distillation.
    augment : bool
        Mirror and shift samples that are pictures.
    seed : int
    """

    epochs: int = 20
    batch: int = 128
    rate: float = 0.0005
    temperature: float = 2.0
    augment: bool = True
    seed: int = 0


Report = Callable[[int, int], None]


def kept_back(samples: int) -> int:
    """Return how many of as many samples are kept back from training."""
    return len(range(0, samples, _HELD))


def finetune(
    model: HasGraph,
    quantized: QuantizedModel,
    samples: Samples,
    training: Training,
    *,
    checkpoint: Path | None = None,
    advance: Report | None = None,
) -> tuple[QuantizedModel, float, float]:
    """Train a quantized network to give what the float network gives.

    Parameters
    ----------
    model : FloatModel
        Canonical float ONNX in `model.onnx`.
    quantized : QuantizedModel
        Of that model; its bits stay.
    samples : Samples
        In the network's input units. Every twentieth is kept back and says which epoch was the best; labels
        take a tenth of the loss where there are any.
    training : Training
    checkpoint : Path, optional
        Written after every epoch; a run with the same start and settings goes on from it.
    advance : callable, optional
        Told (steps done, steps).

    Returns
    -------
    QuantizedModel
        As it was after its best epoch, or the argument where none was better.
    float, float
        Loss on the samples kept back, before and after the best epoch.

    Raises
    ------
    DataError
        Too few samples.
    UnsupportedError
        The network has inputs of tokens.
    """
    torch.manual_seed(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph = Graph(model.onnx)
    if graph.tokens:
        raise UnsupportedError(
            f"training takes networks whose inputs are values; this one has tokens ({', '.join(graph.tokens)}): "
            "compile it without --train, learned rounding (adaround) helps it, too"
        )
    teacher, student = TorchGraph(graph).to(device), QuantizedGraph(graph, quantized).to(device)
    x = torch.from_numpy(samples.x)
    if len(x) < 2 * _HELD:
        raise DataError(f"{samples.source}: {len(x)} samples are too few to train with; give at least {2 * _HELD}")
    kept = torch.arange(0, len(x), _HELD)
    mask = torch.ones(len(x), dtype=torch.bool)
    mask[kept] = False
    own = mask.nonzero().reshape(-1)
    objective = _Objective(graph, training)
    y = objective.labels(samples)
    objective.measure(lambda part: teacher.tensors(x[part].to(device), objective.tensors), torch.split(kept, _CHUNK))

    def loss(index: Tensor, *, augment: bool) -> Tensor:
        batch = x[index].to(device)
        if augment:
            batch = augmented(batch, generator)
        with torch.no_grad():
            goal = teacher.tensors(batch, objective.tensors)
        found = student.tensors(batch, objective.tensors)
        return objective(found, goal, None if y is None else y[index].to(device))

    def held() -> float:
        with torch.no_grad():
            parts = [loss(part, augment=False).item() * len(part) for part in torch.split(kept, _CHUNK)]
        return sum(parts) / len(kept)

    optimizer = torch.optim.Adam(_groups(student, training.rate))
    rounds = max(1, len(own) // training.batch)
    total = rounds * training.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)))
    before, key, first = held(), _digest(quantized, samples, training), 0
    best, chosen = math.inf, student.state_dict()
    if checkpoint is not None and checkpoint.exists():
        state = _read_checkpoint(checkpoint)
        if state.get("key") == key:
            student.load_state_dict(state["student"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            generator.set_state(state["generator"])
            first, best, chosen = state["epoch"] + 1, state["best"], state["chosen"]
    augment = training.augment and samples.pictures and samples.x.ndim == 4
    for epoch in range(first, training.epochs):
        order = own[torch.randperm(len(own), generator=generator)][: rounds * training.batch]
        for step, index in enumerate(torch.split(order, training.batch)):
            descend(optimizer, loss(index, augment=augment))
            schedule.step()
            if advance is not None:
                advance(epoch * rounds + step + 1, total)
        after = held()
        if after < best:
            best, chosen = after, {name: value.detach().clone() for name, value in student.state_dict().items()}
        if checkpoint is not None:
            parts = {"student": student, "optimizer": optimizer, "schedule": schedule}
            state = {name: part.state_dict() for name, part in parts.items()}  # type: ignore[attr-defined]
            partial = checkpoint.with_suffix(".part")
            more = {"key": key, "epoch": epoch, "generator": generator.get_state(), "best": best, "chosen": chosen}
            torch.save(state | more, partial)
            partial.replace(checkpoint)
    if not best < before:
        return quantized, before, best
    student.load_state_dict(chosen)
    layers, parameters = student.layers()
    onnx_model = export_qdq(graph, layers, parameters, student.owners)
    methods = dict.fromkeys(layers, METHOD)
    trained = replace(quantized, onnx=onnx_model, activations=parameters, layers=layers, rounding=methods)
    return trained, before, best


class _Objective:
    """The loss between both networks' outputs, before a Softmax or ArgMax that ends them.

    That of several is the sum of their errors, each over its variance.
    """

    def __init__(self, graph: Graph, training: Training) -> None:
        self.tensors = tuple(dict.fromkeys(graph.scores(name) for name in graph.outputs))
        self.powers: dict[str, float] = {}
        extents = graph.shape(self.tensors[0]) if len(self.tensors) == 1 else ()
        self.outputs = extents[1] if len(extents) == 2 else 1
        self.classes = self.outputs > 1
        self.certain = self.tensors != graph.outputs
        self.temperature = training.temperature

    def labels(self, samples: Samples) -> Tensor | None:
        """Return labels that are classes of the output; others teach nothing."""
        y = samples.y
        if y is None or not self.classes or y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            return None
        check_classes(samples, self.outputs)
        return torch.from_numpy(y.astype(np.int64))

    def measure(self, teacher: Callable[[Tensor], Mapping[str, Tensor]], parts: Sequence[Tensor]) -> None:
        """Learn the variance of each of several outputs from samples in parts."""
        if len(self.tensors) > 1:
            with torch.no_grad():
                found = [teacher(part) for part in parts]
            for name in self.tensors:
                values = torch.cat([part[name] for part in found])
                self.powers[name] = float((values - values.mean(0)).square().mean()) or 1.0

    def __call__(self, students: Mapping[str, Tensor], teachers: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
        if self.powers:
            errors = [
                functional.mse_loss(students[name], teachers[name]) / power for name, power in self.powers.items()
            ]
            return torch.stack(errors).sum()
        ((student, teacher),) = ((students[name], teachers[name]) for name in self.tensors)
        if not self.classes or (labels is None and not self.certain):
            return functional.mse_loss(student, teacher)
        t = self.temperature
        targets, logits = functional.softmax(teacher / t, 1), functional.log_softmax(student / t, 1)
        soft = functional.kl_div(logits, targets, reduction="batchmean") * t * t
        if labels is None:
            return soft
        return (1 - _HARD) * soft + _HARD * functional.cross_entropy(student, labels)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content; nothing where it is damaged or somebody else's."""
    try:
        state = torch.load(path, weights_only=True)
    except Exception:  # whatever the file holds
        return {}
    return state if isinstance(state, dict) else {}


def _groups(student: QuantizedGraph, rate: float) -> list[dict[str, object]]:
    """Give each layer's weights and biases a rate that fits their size."""
    groups: list[dict[str, object]] = []
    for latent, bias in zip(student.latents, student.biases, strict=True):
        for parameter in (latent, bias):
            size = float(parameter.detach().square().mean().sqrt()) or 1e-3
            groups.append({"params": [parameter], "lr": rate * size})
    steps = [*student.steps, *student.scales]
    return [*groups, {"params": steps, "lr": _STEP_SHARE * rate}]


def _digest(quantized: QuantizedModel, samples: Samples, training: Training) -> str:
    digest = hashlib.sha256(quantized.onnx.SerializeToString(deterministic=True))
    digest.update(repr((_FORMAT, astuple(training), samples.x.shape, float(samples.x[:64].sum()))).encode())
    return digest.hexdigest()
