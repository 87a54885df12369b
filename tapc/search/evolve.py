"""Algorithm 1 of TAP (arXiv 2512.07419): drafts from a generator, fitness with the device, learned operators."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tapc.base.errors import BudgetError
from tapc.proxy import Origin, Program
from tapc.proxy.contract import ContractError, allocated, scored
from tapc.proxy.sandbox import Sandbox
from tapc.search.ahead import Ahead
from tapc.search.candidate import Background, Candidate, Draft, Generator, syntax_key
from tapc.search.controllers import OPERATORS, Controller, Operator
from tapc.search.fitness import Fitness, Judge
from tapc.search.log import EventLog
from tapc.search.options import SearchOptions
from tapc.search.population import choose_parents, library, ranked, survivors

PARENTS: Mapping[Operator, int] = {"initialization": 0, "mutation": 1, "crossover": 2}
_SAME = 1e-9
_TOLD = 6


@dataclass(frozen=True)
class Evolution:
    """How a search ended.

    Attributes
    ----------
    candidates : tuple of Candidate
        Every one, in the order of birth.
    population, library : tuple of Candidate
        At the end.
    """

    candidates: tuple[Candidate, ...]
    population: tuple[Candidate, ...]
    library: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate | None:
        """The fittest of all generations, the newest among equals; None where none was valid."""
        return next(iter(self.ranked), None)

    @property
    def ranked(self) -> list[Candidate]:
        """Everyone with a fitness, the fittest first, the newer first among equals."""
        return ranked(c for c in self.candidates if c.status == "ok" and c.judged is not None)


@dataclass(frozen=True)
class _Plan:
    """A candidate before it is drafted."""

    key: str
    operator: Operator
    parents: tuple[str, ...]
    make: Callable[[], dict[str, Any]]


class Evolver:
    """Runs Algorithm 1; every dear or random step goes through the log.

    Parameters
    ----------
    options : SearchOptions
    generator : Generator
    judge : Judge
    sandbox : Sandbox
    log : EventLog
    provenance : Origin
        What every program of this search has in common.
    baselines : mapping of str to Fitness or None, optional
        Built-in proxies, which generators are told of.
    """

    def __init__(
        self,
        options: SearchOptions,
        generator: Generator,
        judge: Judge,
        sandbox: Sandbox,
        log: EventLog,
        provenance: Origin,
        baselines: Mapping[str, Fitness | None] | None = None,
    ) -> None:
        self._options = options
        self._generator = generator
        self._judge = judge
        self._sandbox = sandbox
        self._log = log
        self._provenance = provenance
        self._baselines = dict(baselines or {})
        self._candidates: list[Candidate] = []
        self._syntax: dict[str, str] = {}

    def run(self, controller: Controller) -> Evolution:
        """Evolve all generations and return how it ended."""
        population: tuple[Candidate, ...] = ()
        known: tuple[Candidate, ...] = ()
        for t in range(self._options.generations + 1):
            probabilities = controller.probabilities()
            self._log.record("generation", f"g{t}", partial(dict, probabilities=dict(probabilities)))
            fresh = self._generation(t, probabilities, population, known)
            if t > 0:  # the initial generation has no choice of operators to learn from
                results = _results(fresh, self._candidates)
                controller = controller.update(results, [member.fitness for member in population])
            valid = [c for c in fresh if c.status == "ok" and c.judged is not None]
            known = tuple(library(known, population, valid, self._options.population))
            population = tuple(survivors(population, valid, self._options.population))
            state: dict[str, Any] = {
                "population": [c.key for c in population],
                "library": [c.key for c in known],
                "controller": controller.state(),
            }
            self._log.record("selection", f"g{t}", partial(dict, state))
        return Evolution(tuple(self._candidates), population, known)

    def _generation(
        self,
        t: int,
        probabilities: Mapping[Operator, float],
        population: Sequence[Candidate],
        known: Sequence[Candidate],
    ) -> list[Candidate]:
        """Draft, score and judge one generation; measurements run while the next candidates are drafted.

        No draft depends on another of its generation, so that several can be asked for at once; the log has them in
        the order of the slots.
        """
        fresh: list[Candidate] = []
        running: dict[str, Future[dict[str, Any]]] = {}
        size = self._options.population
        tried = _tried(self._candidates, population)
        plans = [self._plan(t, slot, probabilities, population, known, tried) for slot in range(size)]
        unknown = {plan.key: plan.make for plan in plans if not self._log.knows("candidate", plan.key)}
        with Ahead(unknown, self._generator.parallel) as drafts, ThreadPoolExecutor(size) as pool:
            try:
                for plan in plans:
                    candidate = self._score(self._draft(plan, partial(drafts.result, plan.key)))
                    self._candidates.append(candidate)
                    fresh.append(candidate)
                    if candidate.status == "ok" and not self._log.knows("judged", candidate.key):
                        running[candidate.key] = pool.submit(self._judged, candidate)
                for i, candidate in enumerate(fresh):
                    if candidate.status == "ok":
                        result = running[candidate.key].result if candidate.key in running else dict
                        data = self._log.record("judged", candidate.key, result)
                        fresh[i] = self._candidates[candidate.born] = _with_verdict(candidate, data)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return fresh

    def _plan(
        self,
        t: int,
        slot: int,
        probabilities: Mapping[Operator, float],
        population: Sequence[Candidate],
        known: Sequence[Candidate],
        tried: tuple[tuple[Candidate, float], ...],
    ) -> "_Plan":
        key, seed = f"g{t}s{slot}", (self._options.seed, t, slot)
        rng = np.random.default_rng(seed)
        operator: Operator = "initialization"
        if t > 0:
            operator = OPERATORS[int(rng.choice(len(OPERATORS), p=[probabilities[o] for o in OPERATORS]))]
        if PARENTS[operator] > len(population):
            operator = "mutation" if population and operator == "crossover" else "initialization"
        parents = choose_parents(rng, population, PARENTS[operator]) if PARENTS[operator] else []
        context = list(known) if operator != "initialization" else []

        def make() -> dict[str, Any]:
            background = Background(tuple(context), tuple(population), tried, self._baselines)
            draft = self._generator.generate(key, operator, parents, background, seed)
            about = {"operator": operator, "parents": [p.key for p in parents], "library": [c.key for c in context]}
            return about | vars(draft)

        return _Plan(key, operator, tuple(p.key for p in parents), make)

    def _draft(self, plan: "_Plan", make: Callable[[], dict[str, Any]]) -> Candidate:
        data = self._log.record("candidate", plan.key, make)
        draft = Draft(**{name: data[name] for name in Draft.__dataclass_fields__})
        return self._candidate(plan.key, plan.operator, plan.parents, draft)

    def _candidate(self, key: str, operator: Operator, parents: tuple[str, ...], draft: Draft) -> Candidate:
        born = len(self._candidates)
        if not draft.code:
            return Candidate(key, born, operator, parents, None, "invalid", "draft", draft.problem)
        origin = self._provenance.model_copy(
            update={
                "operator": operator,
                "parents": parents,
                "generator": draft.generator or self._provenance.generator,
            }
        )
        program = Program(
            name=draft.name or key,
            reasoning=draft.reasoning,
            code=draft.code,
            inputs=self._options.inputs,
            origin=origin,
        )
        return Candidate(key, born, operator, parents, program, "ok")

    def _score(self, candidate: Candidate) -> Candidate:
        """Run the cheap stages: contract, then novelty."""
        if candidate.status != "ok" or candidate.program is None:
            return candidate
        code = candidate.program.code

        def make() -> dict[str, Any]:
            try:
                tables = [network.table for network in self._judge.networks]
                scores = scored(self._sandbox, code, tables, self._options.inputs, twice=True)
            except ContractError as error:
                return {"status": "invalid", "kind": error.kind, "message": str(error)[:2000], "scores": []}
            twin = self._syntax.get(syntax_key(code)) or self._same_scores(scores)
            return {"status": "duplicate" if twin else "ok", "kind": "", "message": twin or "", "scores": scores}

        data = self._log.record("scored", candidate.key, make)
        result = replace(
            candidate,
            status=data["status"],
            kind=data["kind"],
            message=data["message"],
            scores=tuple(tuple(s) for s in data["scores"]),
        )
        if result.status == "ok":
            self._syntax[syntax_key(code)] = candidate.key
        return result

    def _same_scores(self, scores: Sequence[Sequence[float]]) -> str | None:
        """Return an earlier candidate whose scores differ by a factor only, unless its own allocate matters."""
        if self._options.allocator == "proxy":
            return None
        for other in self._candidates:
            if other.status == "ok" and all(
                np.allclose(_scaled(a), _scaled(b), rtol=_SAME, atol=0)
                for a, b in zip(scores, other.scores, strict=True)
            ):
                return other.key
        return None

    def _judged(self, candidate: Candidate) -> dict[str, Any]:
        try:
            own = self._own_bits(candidate) if self._options.allocator == "proxy" else None
            return {"fitness": self._judge.judge(candidate.scores, own).to_dict(), "kind": "", "message": ""}
        except ContractError as error:
            return {"fitness": None, "kind": error.kind, "message": str(error)[:2000]}
        except BudgetError as error:
            return {"fitness": None, "kind": "budget", "message": str(error)[:2000]}

    def _own_bits(self, candidate: Candidate) -> list[dict[float, list[int]]]:
        """Return the bits that the program chooses per network, by average."""
        targets, tables = self._options.targets, [network.table for network in self._judge.networks]
        assert candidate.program is not None
        with Sandbox() as sandbox:  # not the one of the main thread
            bits = iter(allocated(
                sandbox, candidate.program.code, [s for s in candidate.scores for _ in targets],
                [table for table in tables for _ in targets], [*targets] * len(tables), self._options.inputs,
                twice=True,
            ))  # fmt: skip
        return [{target.bits: next(bits) for target in targets} for _ in tables]


def _tried(candidates: Sequence[Candidate], population: Sequence[Candidate]) -> tuple[tuple[Candidate, float], ...]:
    """Return the last children that did not survive and are not better than their best parent, with its fitness."""
    fitness = {c.key: c.fitness for c in candidates}
    alive = {c.key for c in population}
    found = []
    for child in candidates:
        parents = [f for f in (fitness[key] for key in child.parents) if f is not None]
        if parents and child.fitness is not None and child.key not in alive and child.fitness <= max(parents):
            found.append((child, max(parents)))
    return tuple(found[-_TOLD:])


def _scaled(scores: Sequence[float]) -> list[float]:
    return [score / max(scores) for score in scores]


def _with_verdict(candidate: Candidate, data: Mapping[str, Any]) -> Candidate:
    if data["fitness"] is None:
        return replace(candidate, status="invalid", kind=data["kind"], message=data["message"])
    fitness = Fitness.from_dict(data["fitness"])
    assert candidate.program is not None
    origin = candidate.program.origin.model_copy(
        update={"fitness": fitness.phi, "rho": fitness.rho, "accuracy": fitness.accuracy, "cost": fitness.cost}
    )
    return replace(candidate, judged=fitness, program=candidate.program.model_copy(update={"origin": origin}))


def _results(fresh: Sequence[Candidate], everyone: Sequence[Candidate]) -> dict[Operator, list[float | None]]:
    """Return the fitness of a generation's candidates by operator; a duplicate has that of its twin."""
    by_key = {c.key: c for c in everyone}
    results: dict[Operator, list[float | None]] = {}
    for candidate in fresh:
        source = by_key[candidate.message] if candidate.status == "duplicate" else candidate
        results.setdefault(candidate.operator, []).append(source.fitness)
    return results
