"""Random operators for the fit of the cost model, which they bring themselves, in groups that are fitted together."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Mode
from tapc.ir.program import Op, Tensor
from tapc.kernels.schedule import Schedule


class Sampler:
    """Draws operators that have nothing to do with each other, for measuring only.

    Parameters
    ----------
    rng : numpy.random.Generator
    largest : int
        Most weights of one operator.
    mode : Mode
        The arithmetic that they are measured in.
    """

    def __init__(self, rng: np.random.Generator, largest: int, mode: Mode) -> None:
        self.rng = rng
        self.mode = mode
        self.largest = largest
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.schedules: dict[str, Schedule] = {}

    @property
    def name(self) -> str:
        """Name of the next operator."""
        return f"op{len(self.ops)}"

    def pick(self, *values: int) -> int:
        """Return one of the values."""
        return int(self.rng.choice(values))

    def bits(self) -> int:
        """Return the bits of an activation."""
        return self.pick(4, 8)

    def tensor(self, shape: tuple[int, int, int], bits: int, **quantization: float) -> Tensor:
        """Add a tensor of random scale, or of this one."""
        name = f"t{len(self.tensors)}"
        given = {"scale": float(self.rng.uniform(0.03, 0.1)), "zero": 0 if bits == 4 else -4, **quantization}
        self.tensors[name] = Tensor(name, shape, bits, given["scale"], int(given["zero"]))
        return self.tensors[name]

    def map(self) -> tuple[int, int, int]:
        """Draw a shape of any extents: pixels that are words and such that are not, one pixel and many."""
        return self.pick(1, 2, 3, 6, 9), self.pick(1, 3, 4, 8, 11), self.pick(1, 2, 3, 4, 5, 8, 12, 16, 17, 24, 32, 48)

    def round(self) -> dict[str, float]:
        """Return a quantization whose sums are often exact ties, or none."""
        return {"scale": 0.25, "zero": 0} if self.rng.random() < 0.2 else {}

    def low(self, y: Tensor) -> int:
        """Return a lower bound of a tensor's codes, some above the least."""
        return y.low + (-(-y.high // 8) if self.rng.random() < 0.3 else 0)

    def tokens(self, count: int, rows: int) -> Tensor:
        """Add an input of tokens, which must be those of a table: it is filled before the program runs."""
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(name, (1, count, 1), 32, 1.0, 0, rows)
        return self.tensors[name]

    def ratios(self, count: int) -> NDArray[np.float32]:
        """Return ratios of scales, float32 (count,); a fifth of the draws has some that reach beyond a quarter."""
        ratios = self.rng.uniform(1e-4, 1e-2, count)
        if self.rng.random() < 0.2:
            large = self.rng.random(count) < self.rng.uniform(0.2, 1)
            ratios[large] = self.rng.uniform(1e-2, 1, int(large.sum()))
        return ratios.astype(np.float32)

    def add(self, op: Op, schedule: Schedule | None = None) -> None:
        """Add an operator on tensors that were added, with a schedule in place of the default."""
        self.ops.append(op)
        if schedule is not None:
            self.schedules[op.name] = schedule


Sample = Callable[[Sampler], None]
_known: dict[str, dict[str, tuple[float, Sample]]] = {}


def samples(group: str, share: float) -> Callable[[Sample], Sample]:
    """Return a decorator for what adds a random operator, or nothing where the draw cannot be.

    Parameters
    ----------
    group : str
        Operators that are measured in images of their own.
    share : float
        Of this one among the group's, relative to the others.
    """

    def add(function: Sample) -> Sample:
        _known.setdefault(group, {})[f"{function.__module__}.{function.__qualname__}"] = share, function
        return function

    return add


def sampled(group: str) -> tuple[tuple[float, Sample], ...]:
    """Return shares and functions of a group, of all operators that were imported, in the order of their names.

    Raises
    ------
    KeyError
        No operator is in it.
    """
    return tuple(_known[group][name] for name in sorted(_known[group]))


def groups() -> tuple[str, ...]:
    """Return the groups of all operators that were imported."""
    return tuple(sorted(_known))
