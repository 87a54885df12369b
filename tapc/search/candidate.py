"""A candidate proxy on its way through a search: drafted, scored, judged."""

import ast
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tapc.proxy import Program
from tapc.search.controllers import Operator
from tapc.search.fitness import Fitness

Status = Literal["ok", "invalid", "duplicate"]


@dataclass(frozen=True)
class Draft:
    """What a generator wrote, before anything ran.

    Attributes
    ----------
    name, reasoning, code : str
        Code is empty where the generator failed.
    problem : str
        Why there is no code.
    generator : str
        The model that answered.
    usage : dict
        Requests, tokens and money.
    """

    name: str = ""
    reasoning: str = ""
    code: str = ""
    problem: str = ""
    generator: str = ""
    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A proxy of a search.

    Attributes
    ----------
    key : str
        Where it was born: "g2s5" is slot 5 of generation 2.
    born : int
        Number of candidates before it.
    operator : str
    parents : tuple of str
        Keys.
    program : Program or None
    status : {"ok", "invalid", "duplicate"}
    kind, message : str
        What was wrong with an invalid one; the twin's key of a duplicate.
    scores : tuple of tuple of float
        Per network, per layer.
    judged : Fitness or None
    """

    key: str
    born: int
    operator: Operator
    parents: tuple[str, ...]
    program: Program | None
    status: Status
    kind: str = ""
    message: str = ""
    scores: tuple[tuple[float, ...], ...] = ()
    judged: Fitness | None = None

    @property
    def name(self) -> str:
        """The key: names of programs need not be unique."""
        return self.key

    @property
    def fitness(self) -> float | None:
        """Eq. 6; None for what never became a fitness."""
        return None if self.judged is None else self.judged.phi

    @property
    def behaviour(self) -> str:
        """Its niche: equal for proxies that lead to the same bits at all budgets of all networks."""
        assert self.judged is not None
        return hashlib.sha256(repr([network.picks for network in self.judged.networks]).encode()).hexdigest()


@dataclass(frozen=True)
class Background:
    """What a generator may know beside the parents; the same for all candidates of a generation.

    Attributes
    ----------
    library : tuple of Candidate
        The context of mutation and crossover.
    population : tuple of Candidate
        Before the generation.
    tried : tuple of (Candidate, float)
        Children that are not better than their best parent, with its fitness, the newest last.
    baselines : mapping of str to Fitness or None
        Built-in proxies.
    """

    library: tuple[Candidate, ...] = ()
    population: tuple[Candidate, ...] = ()
    tried: tuple[tuple[Candidate, float], ...] = ()
    baselines: Mapping[str, Fitness | None] = field(default_factory=dict)


class Generator(Protocol):
    """Writes proxies."""

    @property
    def label(self) -> str:
        """What it is, for every output."""

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompt -> version and digest."""

    @property
    def parallel(self) -> int:
        """How many drafts it may be asked for at once, by as many threads."""

    def generate(self, key: str, operator: Operator, parents: Sequence[Candidate], background: Background,
                 seed: Sequence[int]) -> Draft:  # fmt: skip
        """Write a proxy from its parents; `seed` makes random choices reproducible."""


def syntax_key(code: str) -> str:
    """Return a key that programs share when they differ in layout, comments and docstrings only."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and node.body:
            first = node.body[0]
            text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            if text and isinstance(first.value.value, str):  # type: ignore[attr-defined]
                node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
