"""Cycles of a board: factors that its measurements put on the predicted instructions of each kind of operator."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import nnls

from tapc.base.errors import DataError

_SHARE = 0.02  # of a network's cycles, below which a layer counts less and less
_PRIOR = 0.002  # of a layer's weight: how strongly a kind is held to the board's common factor
_HUBER, _LEAST_SCALE = 1.345, 0.05
_ROUNDS = 10
_FEWEST_ROBUST = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """A layer that a board measured.

    Attributes
    ----------
    build, layer : str
    kind : str
        Of its operator: see `kind_of`.
    instructions : float
        Predicted by the core's cost model.
    stalls : float
        Predicted cycles of reading its constants, at the memory's peak bandwidth.
    cycles : float
        Measured.
    """

    build: str
    layer: str
    kind: str
    instructions: float
    stalls: float
    cycles: float


class Errors(BaseModel):
    """How far predicted cycles are from measured ones, as shares.

    Attributes
    ----------
    layers : float
        Of the cycles of all layers, the part that is predicted in excess or is missing.
    networks : float
        Mean over the builds: the error of their sum.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    layers: float = Field(ge=0)
    networks: float = Field(ge=0)

    def __str__(self) -> str:
        return f"{self.layers:.1%} of layers, {self.networks:.1%} of networks"


class Factors(BaseModel):
    """Cycles = factor of the operator's kind x predicted instructions + `stalls` x predicted stalls.

    Attributes
    ----------
    kinds : dict of str to float
        Cycles per predicted instruction.
    other : float
        Of kinds that were not measured: the board's common factor.
    stalls : float
        Share of the predicted stalls that is felt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kinds: dict[str, float]
    other: float = Field(ge=0)
    stalls: float = Field(ge=0)

    def cycles(self, operator: str, instructions: float, stalls: float) -> float:
        """Predict the cycles of a layer; `operator` as a report calls it, such as "conv+add"."""
        return self.kinds.get(kind_of(operator), self.other) * instructions + self.stalls * stalls


class Fit(BaseModel):
    """Factors, and how good they are.

    Attributes
    ----------
    factors : Factors
    before : Errors
        Of one cycle per predicted instruction.
    after : Errors
        Of the factors, on what they were fitted to.
    held_out : Errors or None
        Of factors that were fitted without what they predict; None where nothing could be kept back.
    kept_back : {"build", "layer", ""}
        What was kept back, one after the other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: Factors
    before: Errors
    after: Errors
    held_out: Errors | None
    kept_back: Literal["build", "layer", ""]


ONE = Factors(kinds={}, other=1.0, stalls=0.0)
"""What holds without measurements: a cycle per instruction."""


def kind_of(operator: str) -> str:
    """Return the kind of an operator as a report calls it: "conv" of "conv+add"."""
    return operator.partition("+")[0]


def fit(observations: Sequence[Observation]) -> Fit:
    """Fit a board's factors to what it measured, and tell their error on what they did not see.

    Non-negative least squares of relative errors, with Huber's weights: a few layers that are off do not bend the
    others. Kinds with few layers are held to the board's common factor.

    Parameters
    ----------
    observations : sequence of Observation
        At least one with cycles and instructions. Where they are of several builds, whole builds are kept back, else
        single layers.

    Raises
    ------
    DataError
        Nothing can be learned from them.
    """
    if not any(o.cycles > 0 and o.instructions > 0 for o in observations):
        raise DataError("nothing can be learned from these measurements: all cycles are zero; the counter stood still")
    factors = _factors(observations)
    builds = dict.fromkeys(o.build for o in observations)
    kept_back: Literal["build", "layer", ""] = "build" if len(builds) > 1 else "layer"
    folds: list[list[Observation]] = [[o for o in observations if o.build == build] for build in builds]
    if kept_back == "layer":
        folds = [[o] for o in observations]
    predicted: dict[int, float] = {}
    for fold in folds:
        gone = set(map(id, fold))
        rest = [o for o in observations if id(o) not in gone]
        if any(o.cycles > 0 and o.instructions > 0 for o in rest):
            apart = _factors(rest)
            predicted |= {id(o): apart.cycles(o.kind, o.instructions, o.stalls) for o in fold}
    whole = len(predicted) == len(observations)
    return Fit(
        factors=factors,
        before=errors(observations, _predicted(ONE, observations)),
        after=errors(observations, _predicted(factors, observations)),
        held_out=errors(observations, [predicted[id(o)] for o in observations]) if whole else None,
        kept_back=kept_back if whole else "",
    )


def errors(observations: Sequence[Observation], predicted: Sequence[float]) -> Errors:
    """Compare predicted cycles, one for each observation, with measured ones."""
    measured = np.array([o.cycles for o in observations], float)
    apart = np.array(predicted, float) - measured
    sums = []
    for build in dict.fromkeys(o.build for o in observations):
        own = np.array([o.build == build for o in observations])
        sums.append(abs(apart[own].sum()) / max(measured[own].sum(), 1.0))
    return Errors(layers=float(np.abs(apart).sum() / max(measured.sum(), 1.0)), networks=float(np.mean(sums)))


def _predicted(factors: Factors, observations: Iterable[Observation]) -> list[float]:
    return [factors.cycles(o.kind, o.instructions, o.stalls) for o in observations]


def _factors(observations: Sequence[Observation]) -> Factors:
    """Fit the common factor first, then a factor for each kind around it."""
    totals: dict[str, float] = {}
    for o in observations:
        totals[o.build] = totals.get(o.build, 0.0) + o.cycles
    weights = np.array([1 / max(o.cycles + _SHARE * totals[o.build], 1.0) for o in observations])
    instructions, stalls, cycles = (
        np.array([getattr(o, name) for o in observations], float) * weights
        for name in ("instructions", "stalls", "cycles")
    )
    common = _solved(np.stack([instructions, stalls], 1), cycles, np.array([[0.0, 1.0]]), np.zeros(1))[0]
    kinds = sorted({o.kind for o in observations})
    own = np.array([[o.kind == kind for kind in kinds] for o in observations], float) * instructions[:, None]
    # In units of the common factor, so that the prior is the same for every board. Stalls are felt where cycles need
    # them: by default the memory's reads are hidden.
    unit = max(common, 1e-6)
    prior = np.eye(len(kinds) + 1)
    found = _solved(
        np.hstack([own * unit, stalls[:, None]]), cycles, prior, np.array([*[common / unit] * len(kinds), 0.0])
    )
    return Factors(
        kinds={kind: float(value * unit) for kind, value in zip(kinds, found, strict=False)},
        other=float(common),
        stalls=float(found[-1]),
    )


def _solved(matrix: Floats, wanted: Floats, prior: Floats, at: Floats) -> Floats:
    """Solve non-negative least squares robustly, drawn towards `prior` x = `at`."""
    pull = np.sqrt(_PRIOR)
    weights = np.ones(len(wanted))
    solution: Floats = np.zeros(matrix.shape[1])
    for _ in range(_ROUNDS if len(wanted) >= _FEWEST_ROBUST else 1):
        rows = np.vstack([matrix * weights[:, None], pull * prior])
        solution = nnls(rows, np.concatenate([wanted * weights, pull * at]))[0]
        residual = np.abs(matrix @ solution - wanted)
        bound = _HUBER * max(1.4826 * float(np.median(residual)), _LEAST_SCALE)
        fresh = np.sqrt(bound / np.maximum(residual, bound))
        if np.allclose(fresh, weights, atol=1e-3):
            break
        weights = fresh
    return solution
