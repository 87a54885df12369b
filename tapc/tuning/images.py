"""Which random kernels a fit of the cost model measures: images of groups of operators, in all arithmetics."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tapc.base.arithmetic import Mode, arithmetics
from tapc.cost.sample import random_steps
from tapc.hardware.target import Target
from tapc.ir.program import Program, Step
from tapc.ir.sampling import groups
from tapc.kernels.spec import KernelSpec

BATCH = 60
SMALL_BATCHES = (6, 12, 20, 30)
TIES = "ties"  # a group of rare forms, of which a few kernels do
TIES_BATCH = 18
OWN = ("ahead", "nested", "quick", "winograd")  # groups of forms that are for a core's own arithmetic
OTHERS = 0.4  # kernels in another arithmetic for each one in the core's
FLOOR = 40
"""Distinct kernels of each kind and arithmetic, at least: the error of fewer is that of what happened to be drawn."""
_EXTRA = 30  # kernels of an image that is there for a rare kind
_MOST = 10  # such images of a kind, some of which have fewer kernels than `FLOOR`


@dataclass(frozen=True)
class Image:
    """One firmware of `count` random kernels; they read zeros unless `given`."""

    group: str
    mode: Mode
    count: int
    seed: int
    given: bool = True

    def draw(self, target: Target) -> tuple[Program, tuple[Step, ...]]:
        """Draw its kernels."""
        return random_steps(self.count, self.mode, target.isa, self.seed, group=self.group, given=self.given)


def kind_of(spec: KernelSpec, own: Mode) -> str:
    """Return a kernel's kind, and its arithmetic where it is not the core's own."""
    mode = getattr(spec, "mode", getattr(spec, "form", own))
    mode = mode if mode in [a.name for a in arithmetics()] else own
    kind = type(spec).__name__.removesuffix("Spec").lower()
    kind = "conv" if kind == "pooled" else kind  # most of its work
    kind = "transform" if spec.transformed else "nested" if spec.nested else kind
    return kind + (f"_{mode}" if mode != own else "")


def images_of(
    target: Target, kernels: int, seed: int, group: str | None = None, floor: int = FLOOR
) -> tuple[Image, ...]:
    """Return what is measured for a fit: of all groups, and small ones last, or of one group.

    Most kernels are the network's in the core's arithmetic. Drawing a program takes no time beside measuring it, so
    that it is known beforehand which kinds would have fewer than `floor` kernels: they get images of the group that
    has most of them.
    """
    own = target.requantize
    planned = [
        Image(name, mode, min(BATCH, count - first), 0)
        for name, mode, count in _shares(own, kernels)
        if group in (None, name)
        for first in range(0, count, BATCH)
    ]
    found: dict[KernelSpec, str] = {}
    sources: dict[str, Counter[tuple[str, Mode]]] = {}
    images: list[Image] = []

    def add(name: str, mode: Mode, count: int) -> None:
        images.append(Image(name, mode, count, seed * 1000 + len(images)))
        for spec in {step.spec for step in images[-1].draw(target)[1]} - found.keys():
            found[spec] = kind_of(spec, own)
            sources.setdefault(found[spec], Counter())[name, mode] += 1

    for image in planned:
        add(image.group, image.mode, image.count)
    if group is None:
        for mode in dict.fromkeys(image.mode for image in planned):
            add(TIES, mode, TIES_BATCH)
    for kind in sorted(sources):
        # Per kernel that is measured: small groups have the greatest part of their own kinds.
        drawn = Counter({key: 0 for key in sources[kind]})
        for image in images:
            drawn[image.group, image.mode] += image.count
        name, mode = max(sources[kind], key=lambda key: (sources[kind][key] / drawn[key], key))
        for _ in range(_MOST):
            if sum(sources[kind].values()) >= floor:
                break
            add(name, mode, min(_EXTRA, floor))
    if group is None:
        images += [Image("network", own, count, seed * 1000 + 900 + count, given=False) for count in SMALL_BATCHES]
    return tuple(images)


def _shares(own: Mode, kernels: int) -> Iterator[tuple[str, Mode, int]]:
    """Yield groups of operators, arithmetics and numbers of kernels."""
    others = [a.name for a in arithmetics() if a.name != own]
    for mode, share in ((own, 1.0), *((other, OTHERS) for other in others)):
        yield "network", mode, int(share * kernels)
        for group in groups():
            if group not in ("network", TIES) and (mode == own or group not in OWN):
                yield group, mode, int(share * kernels / 6)
